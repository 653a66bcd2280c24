//! Limits the spinning of libgomp's threads beside other programs.
//!
//! libgomp's threads spin while they wait for each other. On an idle machine that is fastest.
//! Beside a busy program they spin while the thread that they wait for is not running, and a
//! training on two threads falls to less than half its speed. libgomp shortens the spinning by
//! itself once it manages more threads than there are processors. So while the threads of this
//! process have to wait for a processor, a parked thread holds enough idle threads to cause that
//! (`docs/performance.md` has the figures).

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Once, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::shim::{check, px_hold_idle_threads, px_processors};

/// The time between two checks.
const PERIOD: Duration = Duration::from_secs(1);
/// The machine counts as busy if the threads together wait for a processor for more than this many
/// seconds per second.
const BUSY: f64 = 0.25;
/// A busy machine stays busy while the waiting exceeds this.
const STILL_BUSY: f64 = 0.1;
/// The largest number of idle threads that are started.
const MOST_IDLE: i32 = 64;
/// The number of successive checks below `STILL_BUSY` that end the busy state.
const FREE_CHECKS: u32 = 5;

/// From the first call until the process ends, shortens the spinning of libtorch's CPU threads
/// while other programs need the processors. Does nothing if the user has chosen how threads wait
/// (OMP_WAIT_POLICY, GOMP_SPINCOUNT), if there is only one thread, or if the system does not report
/// how long threads wait. Results stay the same bit for bit.
pub fn limit_spinning_when_busy() {
    static ONCE: Once = Once::new();
    ONCE.call_once(begin);
}

fn begin() {
    let chosen = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| std::env::var_os(name).is_some());
    let name = own_name();
    if chosen || tch::get_num_threads() < 2 || waited(&name).is_none() {
        return;
    }
    // If this thread cannot start, libgomp spins as usual.
    let _ = thread::Builder::new().name("spin limit".to_owned()).spawn(move || watch(&name));
}

/// Checks the threads named `name` every second: the first thread, libgomp's threads, and unnamed
/// threads that these started. Decoding threads have their own names and are excluded, because they
/// wait for a processor even on an idle machine. Returns if idle threads cannot be started.
fn watch(name: &str) {
    let mut last = None;
    let mut limit = Limit::default();
    let mut idle_threads = None;
    loop {
        thread::sleep(PERIOD);
        let (now, Some(so_far)) = (Instant::now(), waited(name)) else { continue };
        let Some((then, before)) = last.replace((now, so_far)) else { continue };
        let waiting = so_far.saturating_sub(before).as_secs_f64() / (now - then).as_secs_f64();
        let wanted = limit.check(waiting);
        if wanted && idle_threads.is_none() {
            idle_threads = idle_threads_needed().and_then(hold_idle_threads);
            if idle_threads.is_none() {
                return;
            }
        } else if !wanted {
            // Dropping the sender ends the idle threads.
            idle_threads = None;
        }
    }
}

/// Whether the machine is busy, judged by the checks so far.
#[derive(Default)]
struct Limit {
    busy: bool,
    free_checks: u32,
}

impl Limit {
    /// Adds the result of another check: `waiting` seconds of waiting per second.
    fn check(&mut self, waiting: f64) -> bool {
        self.free_checks = if waiting < STILL_BUSY { self.free_checks + 1 } else { 0 };
        self.busy = if self.busy { self.free_checks < FREE_CHECKS } else { waiting > BUSY };
        self.busy
    }
}

/// The number of idle threads beside which libgomp manages more threads than there are processors.
/// `None` above `MOST_IDLE`, and without libgomp.
fn idle_threads_needed() -> Option<i32> {
    let mut processors = 0;
    // SAFETY: the pointer outlives the call.
    check(unsafe { px_processors(&raw mut processors) }).ok()?;
    let count = (processors - tch::get_num_threads() + 2).max(2);
    (processors > 0 && count <= MOST_IDLE).then_some(count)
}

/// Makes libgomp manage a team of `count` idle threads until the sender is dropped. `None` if they
/// cannot be started.
fn hold_idle_threads(count: i32) -> Option<Sender<()>> {
    if !can_start(count) {
        return None;
    }
    let (sender, until_dropped) = channel::<()>();
    let hold = move || {
        // SAFETY: no pointers; runs a region that does nothing.
        let held = check(unsafe { px_hold_idle_threads(count) });
        debug_assert!(held.is_ok());
        // The idle threads end with this one.
        let _ = until_dropped.recv();
    };
    thread::Builder::new().name("idle threads".to_owned()).spawn(hold).ok().map(|_| sender)
}

/// Whether `count` threads and a few more can be started at once. This is checked first because
/// libgomp ends the process if it cannot start a thread.
fn can_start(count: i32) -> bool {
    const BESIDES: i32 = 8;
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write();
    let wait_at = |gate: Arc<RwLock<()>>| {
        thread::Builder::new().stack_size(1 << 16).spawn(move || drop(gate.read())).ok()
    };
    let wanted = (count + BESIDES) as usize;
    let started: Vec<_> = (0..wanted).map_while(|_| wait_at(Arc::clone(&gate))).collect();
    drop(closed);
    let all = started.len() == wanted;
    // The threads do nothing that could panic.
    started.into_iter().for_each(|thread| drop(thread.join()));
    all
}

/// How long the threads named `name` have waited for a processor so far.
fn waited(name: &str) -> Option<Duration> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        // A thread may have ended in the meantime.
        let own = fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        own.then(|| waited_ns(&task))?
    });
    nanoseconds.reduce(|a, b| a + b).map(Duration::from_nanos)
}

/// The waiting time in nanoseconds: the second number of `schedstat`.
fn waited_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The name of this thread. libgomp's threads inherit the name of the thread that starts them.
fn own_name() -> String {
    fs::read_to_string("/proc/thread-self/comm").unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_comes_at_once_and_goes_slowly() {
        let mut limit = Limit::default();
        assert!(!limit.check(0.02));
        assert!(limit.check(0.6));
        assert!([0.15, 0.02, 0.02, 0.02, 0.02].iter().all(|&waiting| limit.check(waiting)));
        assert!(!limit.check(0.02));
        assert!(!limit.check(0.15), "that is too little to begin with");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn waiting_is_counted_and_idle_threads_end() {
        assert!(waited(&own_name()).is_some());
        assert!(waited("no such thread").is_none());
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let held = hold_idle_threads(3).unwrap();
        let until = |wanted: &dyn Fn(usize) -> bool| {
            let begun = Instant::now();
            while !wanted(threads()) {
                assert!(begun.elapsed() < Duration::from_secs(30), "{} threads, {before} before", threads());
                thread::sleep(Duration::from_millis(5));
            }
        };
        // The thread that holds the team belongs to it.
        until(&|now| now >= before + 3);
        drop(held);
        until(&|now| now <= before);
    }
}
