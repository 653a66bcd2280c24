//! Everything that is shown on standard error: messages, and the progress of work. On a terminal
//! the progress is a bar below the messages, otherwise a line from time to time.
//!
//! Work that ends within a second shows no bar, and none that ends within ten seconds prints a
//! line. A thread draws, so that a bar lives on while one part of the work takes long.

use std::io::{self, IsTerminal, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tell;
use crate::export::{Progress, Watch};
use crate::logger::Verbosity;
use crate::run::Meter;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(200);
/// No bar is drawn before this time.
const BAR_AFTER: Duration = Duration::from_secs(1);
/// The shortest time between lines, and before the first.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The pace is a mean over about this time, so that the time left does not jump with each part.
const MEMORY_SECS: f64 = 30.0;
/// The most samples that an export names as skipped. Its list has them all.
const MOST_NAMED: usize = 20;
/// No time left is given before this time, since the first parts are slow.
const SECS_TO_JUDGE: f64 = 2.0;

/// The bar on the screen. There is one at most, so that bars do not overwrite each other.
static SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn screen() -> MutexGuard<'static, Option<ProgressBar>> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a message on a line of its own, above the bar if there is one.
pub(super) fn line(text: &str) {
    // If standard error is closed, there is nothing left to do.
    let write = || drop(writeln!(io::stderr().lock(), "{text}"));
    match &*screen() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Begins to show some work.
pub(super) fn begin(what: &str, parts: Option<u64>) -> Box<dyn Meter> {
    Box::new(Shown::begin(what, parts, 0))
}

/// Work that is shown until this is dropped.
struct Shown {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    what: String,
    parts: Option<u64>,
    done: AtomicU64,
    /// What else is said beside the count.
    remark: Mutex<String>,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Shown {
    /// Begins at `done` of `parts`.
    fn begin(what: &str, parts: Option<u64>, done: u64) -> Self {
        let state = Arc::new(State {
            what: what.to_owned(),
            parts,
            done: AtomicU64::new(done),
            remark: Mutex::default(),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let drawn = Arc::clone(&state);
        let draw = move || drawn.draw_until_end(Pace::from(done), io::stderr().is_terminal());
        // Without the thread the work goes on unseen.
        let thread = thread::Builder::new().name("progress".into()).spawn(draw).ok();
        Self { state, thread }
    }

    fn remark(&self, text: String) {
        *self.state.remark.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

impl Meter for Shown {
    fn set(&self, done: u64) {
        self.state.done.fetch_max(done, Ordering::Relaxed);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        *self.state.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.end.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only draws; the work does not depend on it.
            let _ = thread.join();
        }
    }
}

impl State {
    fn draw_until_end(&self, mut pace: Pace, is_terminal: bool) {
        let (began, mut next_line) = (Instant::now(), LINE_EVERY);
        let mut own: Option<ProgressBar> = None;
        while !self.ends_within(TICK) {
            let elapsed = began.elapsed();
            pace.see(elapsed, self.done.load(Ordering::Relaxed));
            if is_terminal {
                if elapsed >= BAR_AFTER && own.is_none() {
                    own = self.take_screen();
                }
                if let Some(bar) = &own {
                    bar.set_message(self.words(&pace, elapsed));
                    bar.set_position(pace.done);
                    bar.tick();
                }
            } else if elapsed >= next_line {
                line(&self.words(&pace, elapsed));
                next_line = elapsed + LINE_EVERY;
            }
        }
        if let Some(bar) = own {
            bar.finish_and_clear();
            *screen() = None;
        }
    }

    /// Waits, and returns true as soon as the work has ended.
    fn ends_within(&self, time: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.wait_timeout_while(ended, time, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts a bar on the screen, unless there is one of other work.
    fn take_screen(&self) -> Option<ProgressBar> {
        let mut screen = screen();
        if screen.is_some() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(self.parts, ProgressDrawTarget::stderr());
        // The bar comes first and has a fixed width, whatever is said beside it.
        let template = if self.parts.is_some() { "{bar:20} {msg}" } else { "{spinner} {msg}" };
        // The template is a constant. If it were wrong, indicatif's default bar would be shown.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        *screen = Some(bar.clone());
        Some(bar)
    }

    /// `evaluating: 320 of 2000, 54.1/s, 0:31 left`
    fn words(&self, pace: &Pace, elapsed: Duration) -> String {
        let (what, done) = (&self.what, pace.done);
        let remark = self.remark.lock().unwrap_or_else(PoisonError::into_inner);
        let remark = match (remark.as_str(), pace.rate()) {
            ("", Some(rate)) => format!(", {rate:.1}/s"),
            ("", None) => String::new(),
            (remark, _) => format!(", {remark}"),
        };
        let Some(parts) = self.parts else {
            let count = if done > 0 { format!(": {done}{remark}") } else { String::new() };
            return format!("{what}{count}, {}", clock(elapsed.as_secs()));
        };
        let left = pace.left(elapsed, parts);
        let left = left.map_or_else(String::new, |left| format!(", {} left", clock(left.round() as u64)));
        // Padded, so that what follows stays in its place.
        let width = parts.to_string().len();
        format!("{what}: {done:>width$} of {parts}{remark}{left}")
    }
}

/// `0:07`, `12:34` or `1:02:03`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// The pace of work, as a mean in which earlier parts count less and less.
struct Pace {
    done: u64,
    /// When the count last changed, in seconds from the start.
    at: f64,
    parts: f64,
    secs: f64,
}

impl Pace {
    /// No pace yet, at `done` parts.
    fn from(done: u64) -> Self {
        Self { done, at: 0.0, parts: 0.0, secs: 0.0 }
    }

    /// `done` parts are done at this time.
    fn see(&mut self, elapsed: Duration, done: u64) {
        let now = elapsed.as_secs_f64();
        if done <= self.done {
            return;
        }
        let (parts, secs) = ((done - self.done) as f64, now - self.at);
        let kept = (-secs / MEMORY_SECS).exp();
        self.parts = self.parts * kept + parts;
        self.secs = self.secs * kept + secs;
        (self.done, self.at) = (done, now);
    }

    /// Parts a second.
    fn rate(&self) -> Option<f64> {
        (self.secs > 0.0).then(|| self.parts / self.secs)
    }

    /// Seconds left for `parts` in all. Between two parts they are counted down.
    fn left(&self, elapsed: Duration, parts: u64) -> Option<f64> {
        let (now, rate) = (elapsed.as_secs_f64(), self.rate()?);
        let left = parts.saturating_sub(self.done) as f64 / rate - (now - self.at);
        (now >= SECS_TO_JUDGE).then(|| left.max(0.0))
    }
}

/// The progress of an export.
#[derive(Default)]
pub(super) struct Bar {
    shown: Option<Shown>,
    last: Option<Progress>,
    /// The number of samples named as skipped.
    named: usize,
}

impl Watch for Bar {
    fn begin(&mut self, total: u64, done: u64) {
        self.last = None;
        let wanted = Verbosity::chosen() > Verbosity::Quiet;
        self.shown = wanted.then(|| Shown::begin("encoding", Some(total), done));
    }

    fn show(&mut self, progress: &Progress) {
        if let Some(shown) = &self.shown {
            shown.set(progress.samples);
            shown.remark(speed(progress));
        }
        for skipped in &progress.newly_skipped {
            self.named += 1;
            if self.named <= MOST_NAMED {
                line(&format!("skipped {}", skipped.in_words()));
            } else if self.named == MOST_NAMED + 1 {
                line("more are skipped; the set's list, skipped.jsonl, will name them all");
            }
        }
        self.last = Some(progress.clone());
    }

    /// Removes the bar and reports what this call did.
    fn end(&mut self) {
        self.shown = None;
        if let Some(progress) = &self.last {
            let (images, seconds) = (progress.images, progress.elapsed.as_secs_f64());
            tell().note(&format!("{images} images in {seconds:.1} s: {}", speed(progress)));
        }
    }
}

fn speed(progress: &Progress) -> String {
    let seconds = progress.elapsed.as_secs_f64().max(1e-3);
    let (images, tokens) = (progress.images as f64 / seconds, progress.tokens as f64 / seconds);
    let skipped =
        if progress.skipped > 0 { format!(", {} skipped", progress.skipped) } else { String::new() };
    format!("{images:.1} images/s, {tokens:.0} tokens/s{skipped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn state(what: &str, parts: Option<u64>) -> State {
        State {
            what: what.into(),
            parts,
            done: AtomicU64::new(0),
            remark: Mutex::default(),
            ended: Mutex::new(false),
            end: Condvar::new(),
        }
    }

    #[test]
    fn the_time_left_does_not_jump() {
        let mut pace = Pace::from(0);
        assert_eq!(pace.left(secs(5.0), 1000), None, "nothing is known before the first part");
        // Batches of 32 at 16 a second, one of which takes four times as long.
        let mut lefts = vec![];
        let mut now = 0.0;
        for batch in 1..=20_u64 {
            now += if batch == 12 { 8.0 } else { 2.0 };
            pace.see(secs(now), 32 * batch);
            lefts.push(pace.left(secs(now), 1000).unwrap());
        }
        assert!((lefts[3] - (1000.0 - 128.0) / 16.0).abs() < 1e-9, "{lefts:?}");
        // By the last batch alone it would be four times what it was.
        assert!(lefts[11] < 1.5 * lefts[10], "{lefts:?}");
        assert!(lefts[19] < lefts[12], "{lefts:?}");
        // It is counted down while a batch is at work, and never below zero.
        let left = pace.left(secs(now), 1000).unwrap();
        assert!((pace.left(secs(now + 1.5), 1000).unwrap() - (left - 1.5)).abs() < 1e-9);
        assert_eq!(pace.left(secs(now + 1e4), 1000), Some(0.0));
    }

    #[test]
    fn work_that_goes_on_begins_where_it_was() {
        let mut pace = Pace::from(600);
        pace.see(secs(4.0), 640);
        assert_eq!((pace.rate(), pace.left(secs(4.0), 1000)), (Some(10.0), Some(36.0)));
    }

    #[test]
    fn what_is_shown_says_how_far_the_work_is() {
        let mut pace = Pace::from(0);
        let evaluating = state("evaluating", Some(2000));
        assert_eq!(evaluating.words(&pace, secs(1.0)), "evaluating:    0 of 2000");
        pace.see(secs(4.0), 200);
        assert_eq!(evaluating.words(&pace, secs(4.0)), "evaluating:  200 of 2000, 50.0/s, 0:36 left");
        *evaluating.remark.lock().unwrap() = "3 skipped".into();
        assert_eq!(evaluating.words(&pace, secs(4.0)), "evaluating:  200 of 2000, 3 skipped, 0:36 left");
        let looking = state("looking for images", None);
        assert_eq!(looking.words(&Pace::from(0), secs(75.0)), "looking for images, 1:15");
        assert_eq!(looking.words(&pace, secs(4.0)), "looking for images: 200, 50.0/s, 0:04");
        assert_eq!(clock(3723), "1:02:03");
    }
}
