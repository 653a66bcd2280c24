//! Messages and progress for the user while a result is computed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::logger::Verbosity;
use crate::world::World;

/// Takes messages as they come up, one sentence each, and shows how far some work is. Nothing in
/// the library prints.
#[derive(Clone, Copy)]
pub struct Tell<'a> {
    sink: &'a (dyn Fn(&str) + Sync),
    begin: Option<Begin<'a>>,
}

/// Begins to show some work: what is done, in words, and the number of its parts if it is known.
pub type Begin<'a> = &'a (dyn Fn(&str, Option<u64>) -> Box<dyn Meter> + Sync);

/// Shows how far some work is, until it is dropped.
pub trait Meter: Send + Sync {
    /// `done` parts of the work are done.
    fn set(&self, done: u64);
}

impl<'a> Tell<'a> {
    /// Passes the messages to `sink`, and shows no progress.
    #[must_use]
    pub fn to(sink: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self { sink, begin: None }
    }

    /// The same, and `begin` begins to show some work: what is done, and the number of its parts if
    /// it is known.
    #[must_use]
    pub fn with_progress(self, begin: Begin<'a>) -> Self {
        Self { begin: Some(begin), ..self }
    }

    /// The same in the process that writes, and silent in the others: for messages that are the same
    /// in every process of `world`.
    #[must_use]
    pub fn once(self, world: &World) -> Self {
        if world.writes() { self } else { Self::to(&|_| ()) }
    }

    /// Tells a message at any verbosity: a warning, or what is skipped.
    pub fn say(self, text: &str) {
        (self.sink)(text);
    }

    /// Tells a note, unless only warnings are wanted.
    pub fn note(self, text: &str) {
        if Verbosity::chosen() > Verbosity::Quiet {
            self.say(text);
        }
    }

    /// Tells a detail, only if details are wanted.
    pub fn detail(self, text: impl FnOnce() -> String) {
        if Verbosity::chosen() == Verbosity::Verbose {
            self.say(&text());
        }
    }

    /// Shows the progress of some work until the result is dropped, unless only warnings are
    /// wanted. `what` is done in words, for instance `evaluating`; `parts` is the number of its
    /// parts, if it is known. Messages may be told meanwhile.
    #[must_use]
    pub fn work(self, what: &str, parts: Option<u64>) -> Work {
        let begin = self.begin.filter(|_| Verbosity::chosen() > Verbosity::Quiet);
        Work { meter: begin.map(|begin| begin(what, parts)), done: AtomicU64::new(0) }
    }
}

/// Some work whose progress is shown until this is dropped.
pub struct Work {
    meter: Option<Box<dyn Meter>>,
    done: AtomicU64,
}

impl Work {
    /// `parts` more parts of the work are done. May be called from several threads.
    pub fn add(&self, parts: u64) {
        let done = self.done.fetch_add(parts, Ordering::Relaxed) + parts;
        if let Some(meter) = &self.meter {
            meter.set(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Seen = Arc<Mutex<Vec<String>>>;

    struct Recorder(Seen);

    impl Meter for Recorder {
        fn set(&self, done: u64) {
            self.0.lock().unwrap().push(done.to_string());
        }
    }

    impl Drop for Recorder {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("end".into());
        }
    }

    #[test]
    fn work_is_counted_and_ends_with_its_guard() {
        let seen = Seen::default();
        let begin = |what: &str, parts: Option<u64>| -> Box<dyn Meter> {
            seen.lock().unwrap().push(format!("{what} {parts:?}"));
            Box::new(Recorder(Arc::clone(&seen)))
        };
        let sink = |text: &str| seen.lock().unwrap().push(text.to_owned());
        let tell = Tell::to(&sink).with_progress(&begin);
        let work = tell.work("reading", Some(7));
        work.add(3);
        tell.say("a.png is broken");
        work.add(4);
        drop(work);
        let expected = ["reading Some(7)", "3", "a.png is broken", "7", "end"];
        assert_eq!(*seen.lock().unwrap(), expected);
        // Without a display the work goes on as well.
        Tell::to(&sink).work("reading", None).add(1);
        assert_eq!(seen.lock().unwrap().len(), expected.len());
    }
}
