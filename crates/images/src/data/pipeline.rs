//! The only way to load images: a queue of jobs, a pool of threads that do them, and items that
//! come out in order.
//!
//! A job is about one image. A thread that has finished one takes the next, whichever item it
//! belongs to, so no thread waits for the slowest image of a batch. A [`Plan`] decides what the
//! jobs are, how far ahead they go, and what items their results make. [`Pipeline::map`] is the
//! simplest plan, with one item per job.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, available_parallelism};

use super::DataError;
use pixtok_base::{Class, Classified};

/// Decides which jobs there are, and what their results make. The threads of a pipeline and the
/// consumer take turns to ask it, so it must not do any long work itself.
pub trait Plan: Send + 'static {
    /// Work for one thread.
    type Job: Send + 'static;
    /// The result of a job.
    type Done: Send + 'static;
    /// What the pipeline gives out.
    type Item: Send + 'static;

    /// The next job. `None` if there is no job until another one is done or an item is taken; then
    /// it is asked again.
    fn next_job(&mut self) -> Option<Self::Job>;

    /// Takes the result of a job. Jobs finish in any order.
    fn done(&mut self, done: Self::Done);

    /// Whether an item is ready.
    fn has_item(&self) -> bool;

    /// The next item, if it is ready.
    fn next_item(&mut self) -> Option<Self::Item>;

    /// Whether no more jobs and items will come, except for items that are ready.
    fn is_over(&self) -> bool;
}

/// A thread of a pipeline panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thread that loads images panicked")]
pub struct Panicked;

impl Classified for Panicked {
    fn class(&self) -> Class {
        Class::Failed
    }
}

impl From<Panicked> for DataError {
    fn from(panicked: Panicked) -> Self {
        Self::Loader(panicked.to_string())
    }
}

/// Items that threads make in the background, in order. Dropping the pipeline stops its threads and
/// waits for them.
///
/// When a thread panics, the items that are ready still come, then [`Panicked`], then nothing.
pub struct Pipeline<Item> {
    source: Arc<dyn Source<Item>>,
    threads: Vec<JoinHandle<()>>,
}

impl<Item: Send + 'static> Pipeline<Item> {
    /// Starts as many threads as [`threads`] says. They do the jobs of `plan` by calling `work`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start<P: Plan<Item = Item>>(
        plan: P,
        workers: usize,
        work: impl Fn(P::Job) -> P::Done + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        let state = State { plan, idle: 0, waiting: false, stopped: false, panicked: false };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), jobs: Condvar::new(), items: Condvar::new() });
        let mut pipeline = Self { source: Arc::<Shared<P>>::clone(&shared), threads: vec![] };
        let work = Arc::new(work);
        for index in 0..threads(workers) {
            let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
            let thread = thread::Builder::new()
                .name(format!("decode-{index}"))
                .spawn(move || shared.run(&*work))
                // Dropping the pipeline ends the threads that have been started.
                .map_err(|error| DataError::Loader(error.to_string()))?;
            pipeline.threads.push(thread);
        }
        Ok(pipeline)
    }

    /// Makes an item from each of `jobs`, in order. At most `ahead` items, and at least one, are
    /// ready or being made before they are taken.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn map<J: Send + 'static>(
        jobs: impl IntoIterator<Item = J, IntoIter: Send + 'static>,
        workers: usize,
        ahead: usize,
        make: impl Fn(J) -> Item + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        let plan = Mapped {
            jobs: jobs.into_iter(),
            ended: false,
            ahead: ahead.max(1),
            begun: 0,
            taken: 0,
            made: BTreeMap::new(),
        };
        Self::start(plan, workers, move |(number, job)| (number, make(job)))
    }
}

/// The number of threads that `workers` asks for: 0 means one per core.
#[must_use]
pub fn threads(workers: usize) -> usize {
    if workers > 0 { workers } else { available_parallelism().map_or(1, NonZero::get) }
}

impl<Item> Iterator for Pipeline<Item> {
    type Item = Result<Item, Panicked>;

    fn next(&mut self) -> Option<Self::Item> {
        self.source.take()
    }
}

impl<Item> Drop for Pipeline<Item> {
    fn drop(&mut self) {
        self.source.stop();
        for thread in self.threads.drain(..) {
            // If it panicked, the panic has been caught.
            let _ = thread.join();
        }
    }
}

impl<Item> fmt::Debug for Pipeline<Item> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// The consumer's side of a pipeline, for any plan.
trait Source<Item>: Send + Sync {
    /// Waits for the next item.
    fn take(&self) -> Option<Result<Item, Panicked>>;
    /// Tells the threads to end.
    fn stop(&self);
}

struct Shared<P> {
    state: Mutex<State<P>>,
    /// There may be a job for an idle thread.
    jobs: Condvar,
    /// There may be an item for the consumer.
    items: Condvar,
}

struct State<P> {
    plan: P,
    /// The number of threads that wait for a job.
    idle: usize,
    /// Whether the consumer waits for an item.
    waiting: bool,
    stopped: bool,
    panicked: bool,
}

impl<P: Plan> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, State<P>> {
        // After a panic, the plan is only asked for items that are ready.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of a thread.
    fn run(&self, work: &impl Fn(P::Job) -> P::Done) {
        let jobs = || {
            let mut done = None;
            while let Some(job) = self.exchange(done.take()) {
                done = Some(work(job));
            }
        };
        if catch_unwind(AssertUnwindSafe(jobs)).is_err() {
            self.lock().panicked = true;
            self.stop();
        }
    }

    /// Hands in a result and waits for the next job; `None` at the end.
    fn exchange(&self, done: Option<P::Done>) -> Option<P::Job> {
        let mut state = self.lock();
        if let Some(done) = done
            && !state.stopped
        {
            state.plan.done(done);
        }
        loop {
            if state.stopped {
                return None;
            }
            let job = state.plan.next_job();
            let is_over = job.is_none() && state.plan.is_over();
            if state.waiting && (is_over || state.plan.has_item()) {
                self.items.notify_one();
            }
            if job.is_some() {
                // If there is one job, there may be another: each thread wakes the next one, so
                // that no thread wakes for nothing if there is only one job.
                if state.idle > 0 {
                    self.jobs.notify_one();
                }
                return job;
            }
            if is_over {
                self.jobs.notify_all();
                return None;
            }
            state.idle += 1;
            state = self.jobs.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl<P: Plan> Source<P::Item> for Shared<P> {
    fn take(&self) -> Option<Result<P::Item, Panicked>> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.plan.next_item() {
                if state.idle > 0 {
                    self.jobs.notify_one();
                }
                return Some(Ok(item));
            }
            if std::mem::take(&mut state.panicked) {
                return Some(Err(Panicked));
            }
            if state.stopped || state.plan.is_over() {
                return None;
            }
            state.waiting = true;
            state = self.items.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting = false;
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.jobs.notify_all();
        self.items.notify_all();
    }
}

/// The plan of [`Pipeline::map`].
struct Mapped<Jobs, Item> {
    jobs: Jobs,
    /// Whether the last job was started.
    ended: bool,
    ahead: usize,
    /// The number of jobs so far.
    begun: usize,
    /// The number of items that the consumer took.
    taken: usize,
    /// The items that are ready, by the numbers of their jobs.
    made: BTreeMap<usize, Item>,
}

impl<Jobs, Item> Plan for Mapped<Jobs, Item>
where
    Jobs: Iterator<Item: Send + 'static> + Send + 'static,
    Item: Send + 'static,
{
    type Job = (usize, Jobs::Item);
    type Done = (usize, Item);
    type Item = Item;

    fn next_job(&mut self) -> Option<Self::Job> {
        if self.ended || self.begun - self.taken == self.ahead {
            return None;
        }
        let Some(job) = self.jobs.next() else {
            self.ended = true;
            return None;
        };
        self.begun += 1;
        Some((self.begun - 1, job))
    }

    fn done(&mut self, (number, item): Self::Done) {
        self.made.insert(number, item);
    }

    fn has_item(&self) -> bool {
        self.made.contains_key(&self.taken)
    }

    fn next_item(&mut self) -> Option<Item> {
        let item = self.made.remove(&self.taken)?;
        self.taken += 1;
        Some(item)
    }

    fn is_over(&self) -> bool {
        self.ended && self.begun - self.taken == self.made.len()
    }
}

#[cfg(test)]
mod tests;
