//! libgomp's threads beside other programs.
//!
//! Threads of libgomp that wait for each other spin. On an idle machine that is fastest; beside a busy program they spin while the
//! thread that they wait for is not running, and a training on two threads falls to less than half its speed. libgomp shortens the
//! spinning by itself once it manages more threads than there are processors. So while the threads of this process have to
//! wait for a processor, a parked thread holds enough idle ones to bring that about (`docs/performance.md` has the figures).

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::shim::{check, px_hold_idle_threads};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Seconds that all threads together wait for a processor, in each second: from here on others need the processors.
const BUSY: f64 = 0.25;
/// As long as this is exceeded they still do.
const STILL_BUSY: f64 = 0.1;
/// So many looks in a row must find the machine free again.
const FREE_LOOKS: u32 = 5;

/// From now on, until the process ends: shortens the spinning of libtorch's threads on the CPU while other programs need the processors.
/// Does nothing where the user has chosen how threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT), where there is one thread, and
/// where the system does not say how long threads wait. The numbers that are computed stay the same.
pub fn limit_spinning_when_busy() {
    let chosen = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| std::env::var_os(name).is_some());
    if chosen || tch::get_num_threads() < 2 || waited(&own_name()).is_none() {
        return;
    }
    let name = own_name();
    // Without this thread all goes on as it would have anyway.
    let _ = thread::Builder::new().name("spin limit".to_owned()).spawn(move || watch(&name));
}

/// Looks for ever; libgomp's threads are those called `name`.
fn watch(name: &str) {
    let mut look = (Instant::now(), waited(name).unwrap_or_default());
    let mut limit = Limit::default();
    let mut idle_threads = None;
    loop {
        thread::sleep(PERIOD);
        let now = (Instant::now(), waited(name).unwrap_or_default());
        let waiting = now.1.saturating_sub(look.1).as_secs_f64() / (now.0 - look.0).as_secs_f64();
        look = now;
        let wanted = limit.look(waiting);
        if wanted && idle_threads.is_none() {
            idle_threads = hold_idle_threads();
        } else if !wanted {
            // The sender is what holds them.
            idle_threads = None;
        }
    }
}

/// Whether the machine is busy, by what was seen so far.
#[derive(Default)]
struct Limit {
    busy: bool,
    free_looks: u32,
}

impl Limit {
    /// Takes another look: `waiting` seconds of waiting in each second.
    fn look(&mut self, waiting: f64) -> bool {
        self.free_looks = if waiting < STILL_BUSY { self.free_looks + 1 } else { 0 };
        self.busy = if self.busy { self.free_looks < FREE_LOOKS } else { waiting > BUSY };
        self.busy
    }
}

/// Has libgomp manage more threads than there are processors until the sender is dropped.
fn hold_idle_threads() -> Option<Sender<()>> {
    let (sender, until_dropped) = channel::<()>();
    let hold = move || {
        // SAFETY: no pointers; runs a region that does nothing.
        let held = check(unsafe { px_hold_idle_threads(tch::get_num_threads()) });
        debug_assert!(held.is_ok());
        // The idle threads end with this one.
        let _ = until_dropped.recv();
    };
    thread::Builder::new().name("idle threads".to_owned()).spawn(hold).ok().map(|_| sender)
}

/// How long the threads called `name` have waited for a processor so far.
fn waited(name: &str) -> Option<Duration> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        // A thread may end meanwhile.
        let own = fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        own.then(|| waited_ns(&task))?
    });
    nanoseconds.reduce(|a, b| a + b).map(Duration::from_nanos)
}

/// The second number of `schedstat`.
fn waited_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The name of this thread, which libgomp's threads take over from the one that starts them.
fn own_name() -> String {
    fs::read_to_string("/proc/thread-self/comm").unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_comes_at_once_and_goes_slowly() {
        let mut limit = Limit::default();
        assert!(!limit.look(0.02));
        assert!(limit.look(0.6));
        assert!([0.15, 0.02, 0.02, 0.02, 0.02].iter().all(|&waiting| limit.look(waiting)));
        assert!(!limit.look(0.02));
        assert!(!limit.look(0.15), "that is too little to begin with");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn waiting_is_counted_and_idle_threads_end() {
        assert!(waited(&own_name()).is_some());
        assert!(waited("no such thread").is_none());
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let held = hold_idle_threads().unwrap();
        let until = |wanted: &dyn Fn(usize) -> bool| {
            let begun = Instant::now();
            while !wanted(threads()) {
                assert!(begun.elapsed() < Duration::from_secs(30), "{} threads, {before} before", threads());
                thread::sleep(Duration::from_millis(5));
            }
        };
        // The one that holds, and at least one that is idle.
        until(&|now| now >= before + 2);
        drop(held);
        until(&|now| now <= before);
    }
}
