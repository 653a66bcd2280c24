//! libgomp's threads beside other programs.
//!
//! Threads of libgomp that wait for each other spin. On an idle machine that is fastest; beside a busy program they spin while the
//! thread that they wait for is not running, and a training on two threads falls to less than half its speed. libgomp shortens the
//! spinning by itself once it manages more threads than there are processors. So while the threads of this process have to
//! wait for a processor, a parked thread holds enough idle ones to bring that about (`docs/performance.md` has the figures).

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Once, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::shim::{check, px_hold_idle_threads, px_processors};

/// Time between two checks.
const PERIOD: Duration = Duration::from_secs(1);
/// Seconds per second that the threads, added up, wait for a processor: above this the machine counts as busy.
const BUSY: f64 = 0.25;
/// A busy machine stays busy while the waiting exceeds this.
const STILL_BUSY: f64 = 0.1;
/// The most idle threads that are started.
const MOST_IDLE: i32 = 64;
/// Checks in a row below `STILL_BUSY` that end the busy state.
const FREE_CHECKS: u32 = 5;

/// From the first call on, until the process ends: shortens the spinning of libtorch's threads on the CPU while other
/// programs need the processors. Does nothing if the user has chosen how threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT), if
/// there is one thread, or if the system does not say how long threads wait. The results stay the same, bit for bit.
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

/// Checks the threads named `name` every second: the first one, libgomp's, and unnamed ones started from it. Decoding threads have
/// names of their own and are left out, since they wait for a processor even on an idle machine. Returns when idle threads
/// cannot be started.
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
            // The sender is what holds them.
            idle_threads = None;
        }
    }
}

/// Whether the machine is busy, by what was seen so far.
#[derive(Default)]
struct Limit {
    busy: bool,
    free_checks: u32,
}

impl Limit {
    /// Takes the result of another check: `waiting` seconds of waiting in each second.
    fn check(&mut self, waiting: f64) -> bool {
        self.free_checks = if waiting < STILL_BUSY { self.free_checks + 1 } else { 0 };
        self.busy = if self.busy { self.free_checks < FREE_CHECKS } else { waiting > BUSY };
        self.busy
    }
}

/// The size of an idle team beside which libgomp manages more threads than there are processors. `None` above `MOST_IDLE`, and
/// where there is no libgomp.
fn idle_threads_needed() -> Option<i32> {
    let mut processors = 0;
    // SAFETY: the pointer outlives the call.
    check(unsafe { px_processors(&raw mut processors) }).ok()?;
    let count = (processors - tch::get_num_threads() + 2).max(2);
    (processors > 0 && count <= MOST_IDLE).then_some(count)
}

/// Has libgomp manage a team of `count` idle threads until the sender is dropped. `None` if they cannot be started.
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

/// Whether `count` threads and a few more can be started at once. Checked first because libgomp ends the process when it cannot start a
/// thread.
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
    // They do nothing that could panic.
    started.into_iter().for_each(|thread| drop(thread.join()));
    all
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
        // The one that holds is of the team.
        until(&|now| now >= before + 3);
        drop(held);
        until(&|now| now <= before);
    }
}
