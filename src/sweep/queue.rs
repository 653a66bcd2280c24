//! A queue that runs the jobs of a comparison, several at a time.

use std::collections::VecDeque;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::CompareOptions;
use super::child::Children;
use super::diverged::Machine;
use super::job::Job;
use crate::run::{Compute, Tell};
use crate::train::Signals;

/// The interval at which signals are checked.
const POLL: Duration = Duration::from_millis(100);

/// The state that the workers share.
struct Queue<'a> {
    jobs: &'a [Job],
    options: &'a CompareOptions,
    signals: &'a Signals,
    tell: Tell<'a>,
    children: Children,
    /// Indices of the waiting jobs in `jobs`.
    waiting: Mutex<VecDeque<usize>>,
    /// The failure of each job, if it failed.
    outcomes: Mutex<Vec<Option<String>>>,
    /// A failure outside the arms, which ends the comparison.
    fatal: Mutex<Option<anyhow::Error>>,
    total: usize,
    finished: AtomicUsize,
    began: Instant,
}

/// Runs all jobs that are not done and may succeed. Returns for each job why it failed, now or
/// earlier, if it did. After a signal, running trainings save, and no others start.
pub(super) fn run(
    jobs: &[Job],
    options: &CompareOptions,
    signals: &Signals,
    tell: Tell,
) -> Result<Vec<Option<String>>> {
    let outcomes: Vec<Option<String>> = jobs.iter().map(Job::diverged).collect();
    let open = |&i: &usize| !jobs[i].is_done() && outcomes[i].is_none();
    let waiting: VecDeque<usize> = (0..jobs.len()).filter(open).collect();
    for job in jobs.iter().filter(|job| job.is_done()) {
        tell.note(&format!("{}: finished earlier", job.label));
    }
    let queue = Queue {
        jobs,
        options,
        signals,
        tell,
        children: Children::default(),
        total: waiting.len(),
        waiting: Mutex::new(waiting),
        outcomes: Mutex::new(outcomes),
        fatal: Mutex::new(None),
        finished: AtomicUsize::new(0),
        began: Instant::now(),
    };
    let ends = watched(signals, &queue.children, || {
        thread::scope(|scope| {
            let queue = &queue;
            let running: Vec<_> =
                (0..workers(options)).map(|worker| scope.spawn(move || queue.work(worker))).collect();
            running.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        })
    });
    if let Some(panicked) = ends.into_iter().find_map(Result::err) {
        panic::resume_unwind(panicked);
    }
    match queue.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(queue.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

impl Queue<'_> {
    /// Runs one job after the other.
    fn work(&self, worker: usize) {
        let device = self.options.devices[worker % self.options.devices.len()];
        let compute = Compute { device, threads: threads(self.options) };
        while let Some((i, number)) = self.next() {
            let job = &self.jobs[i];
            let finished = self.finished.load(Ordering::Relaxed);
            let left = remaining(self.began.elapsed().as_secs_f64(), finished, self.total);
            self.tell.note(&format!("[{number}/{}] {}{left}", self.total, job.label));
            match job.run(compute, &self.options.measures, &self.children, self.tell) {
                Ok(Some(reason)) if self.signals.came().is_none() => {
                    self.tell.say(&format!("{}: {reason}; going on with the others", job.label));
                    locked(&self.outcomes)[i] = Some(reason);
                }
                Ok(_) => {}
                Err(error) => {
                    locked(&self.fatal).get_or_insert(error);
                }
            }
            self.finished.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next job, and its number counted from 1.
    fn next(&self) -> Option<(usize, usize)> {
        let mut waiting = locked(&self.waiting);
        if self.signals.came().is_some() || locked(&self.fatal).is_some() {
            return None;
        }
        waiting.pop_front().map(|job| (job, self.total - waiting.len()))
    }
}

/// Passes a signal on to the children while `body` runs, which must not panic.
pub(super) fn watched<T>(signals: &Signals, children: &Children, body: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Some(signal) = signals.came() {
                    children.stop(signal);
                    return;
                }
                sleep(POLL);
            }
        });
        let made = body();
        over.store(true, Ordering::Relaxed);
        made
    })
}

/// The machines that jobs run on.
pub(super) fn machines(options: &CompareOptions) -> Result<Vec<Machine>> {
    let threads = threads(options);
    options.devices.iter().map(|&device| Machine::of(Compute { device, threads })).collect()
}

/// How many run at a time.
fn workers(options: &CompareOptions) -> usize {
    options.jobs.map_or(options.devices.len(), |jobs| jobs as usize)
}

/// Where a process runs that works alone, after all jobs.
pub(super) fn alone(options: &CompareOptions) -> Compute {
    // On as many threads as the jobs, which the report states.
    Compute { device: options.devices[0], threads: threads(options) }
}

/// The threads of each job; `None` leaves the choice to libtorch. Jobs that run at the same time
/// share the processors.
fn threads(options: &CompareOptions) -> Option<i32> {
    let processors = available_parallelism().map_or(1, usize::from);
    let share = i32::try_from(processors / workers(options)).unwrap_or(1).max(1);
    options.threads.or_else(|| (workers(options) > 1).then_some(share))
}

/// Estimates the remaining time from the time spent so far.
fn remaining(spent_secs: f64, done: usize, total: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let seconds = spent_secs / done as f64 * (total - done) as f64;
    if seconds < 90.0 {
        return format!(", about {seconds:.0} s left");
    }
    format!(", about {:.0} min left", seconds / 60.0)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
