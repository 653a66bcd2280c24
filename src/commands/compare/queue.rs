//! The jobs of a comparison, some at a time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::child::Children;
use super::job::{Job, Place};
use super::note;
use crate::cli::CompareArgs;
use crate::train::Signals;

/// How often signals are looked for.
const POLL: Duration = Duration::from_millis(100);

/// Runs all jobs that are not done; for each job, why it failed if it did. After a signal the running trainings save,
/// and no other begins.
pub(super) fn run(jobs: &[Job], args: &CompareArgs, signals: &Signals) -> Result<Vec<Option<String>>> {
    let mut waiting = VecDeque::new();
    for (i, job) in jobs.iter().enumerate() {
        if job.is_done(&args.measures)? {
            note(&format!("{}: finished earlier", job.label));
        } else {
            waiting.push_back(i);
        }
    }
    let workers = workers(args);
    let (total, began) = (waiting.len(), Instant::now());
    let (waiting, children, over) = (Mutex::new(waiting), Children::default(), AtomicBool::new(false));
    let outcomes: Mutex<Vec<Option<String>>> = Mutex::new(vec![None; jobs.len()]);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let next = || {
        let mut waiting = locked(&waiting);
        let stopped = signals.came().is_some() || locked(&failure).is_some();
        let job = if stopped { None } else { waiting.pop_front() };
        job.map(|job| (job, total - waiting.len()))
    };
    let work = |worker: usize| {
        let device = args.devices[worker % args.devices.len()];
        let place = Place { device, threads: threads(args) };
        while let Some((i, number)) = next() {
            let job = &jobs[i];
            let spent = began.elapsed().as_secs_f64();
            note(&format!("[{number}/{total}] {}{}", job.label, remaining(spent, number - 1, total)));
            let told = |line: &str| note(&format!("{}: {line}", job.label));
            match job.run(&place, args, &children, &told) {
                Ok(Some(reason)) if signals.came().is_none() => {
                    note(&format!("{}: {reason}; going on with the others", job.label));
                    locked(&outcomes)[i] = Some(reason);
                }
                Ok(_) => {}
                Err(error) => {
                    locked(&failure).get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let watch = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Some(signal) = signals.came() {
                    children.signal(signal);
                    return;
                }
                sleep(POLL);
            }
        });
        for worker in running {
            // A panic of a worker goes on in this thread when the scope ends.
            let _ = worker.join();
        }
        over.store(true, Ordering::Relaxed);
        let _ = watch.join();
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

/// How many run at a time.
fn workers(args: &CompareArgs) -> usize {
    args.jobs.map_or(args.devices.len(), |jobs| jobs as usize)
}

/// Threads of each job, where libtorch is not to choose: several jobs share the processors.
pub(super) fn threads(args: &CompareArgs) -> Option<u32> {
    let processors = available_parallelism().map_or(1, usize::from);
    let share = u32::try_from(processors / workers(args)).unwrap_or(1).max(1);
    args.threads.or_else(|| (workers(args) > 1).then_some(share))
}

/// How long the rest takes if it is like what was done.
fn remaining(spent_secs: f64, done: usize, total: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let minutes = spent_secs / done as f64 * (total - done) as f64 / 60.0;
    format!(", about {minutes:.0} min left")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
