//! The plan of a loader with buckets: batches whose images are known beforehand, each loaded into
//! its own place. The design is in `buckets`, the threads' part of it in `attempts`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::buckets::Buckets;
use super::deal::{Turn, deal};
use super::epoch::{Loaded, Ready};
use super::memory::{Allocate, BatchMemory};
use super::order::order;
use super::pipeline::Plan;
use super::{BadSample, Cursor, DataError, Dataset, ImageSize, Marks, Share};
use pixtok_base::seed::Seed;

/// An image to load.
pub(super) struct Job<I> {
    /// The number of its batch, counted over all that were begun.
    batch: usize,
    /// Its place in this process's part of the batch.
    slot: usize,
    pub bucket: usize,
    /// The epoch in which the image has its turn.
    pub epoch: u64,
    /// The index in the data set.
    pub image: u32,
    pub memory: I,
}

/// A job that is done.
pub(super) struct Done<I> {
    pub job: Job<I>,
    /// The image that was loaded; `None` if the data set has no image that can be used.
    pub loaded: Option<Loaded>,
    /// The bad images that were met.
    pub bad: Vec<BadSample>,
}

/// A batch that is being loaded.
struct Open<M: BatchMemory> {
    bucket: usize,
    rest: M::Rest,
    /// The memory of each image; `None` for images that are being loaded.
    images: Vec<Option<M::Image>>,
    loaded: Vec<Option<Loaded>>,
    /// The number of images that are not loaded yet.
    missing: usize,
    bad: Vec<BadSample>,
    cursor: Cursor,
}

/// Where the images of the batches come from.
pub(super) struct Source {
    pub dataset: Arc<Dataset>,
    pub buckets: Arc<Buckets>,
    /// The seed of the orders.
    pub seed: Seed,
    /// The shuffle window for archives.
    pub window: usize,
    pub share: Share,
    /// The number of images in a batch of all processes.
    pub batch_size: usize,
}

impl Source {
    /// The number of this process's images in a batch.
    fn own(&self) -> usize {
        self.batch_size / self.share.size
    }

    fn deal(&self, epoch: u64) -> Vec<Turn> {
        let order = |epoch| order(&self.dataset, self.window, self.seed, epoch);
        deal(&self.buckets, self.batch_size, epoch, order)
    }
}

/// Makes batches of images of one bucket each, without end.
pub(super) struct Bucketed<M: BatchMemory> {
    source: Source,
    /// The largest number of batches that are loaded, or being loaded, before the consumer takes
    /// them.
    ahead: usize,
    allocate: Allocate<M>,
    epoch: u64,
    /// The batches of the epoch.
    turns: Vec<Turn>,
    /// The place in `turns` after the newest batch.
    position: usize,
    /// The number of jobs of the newest batch that were handed out.
    begun: usize,
    /// Batches that are being loaded, the oldest first.
    open: VecDeque<Open<M>>,
    /// The number of batches that are no longer open.
    closed: usize,
    /// The number of jobs that were handed out and are not done.
    running: usize,
    /// Whether some job found no image that can be used. Then no more jobs are handed out, and the
    /// running ones are waited for, which know more bad images.
    without_images: bool,
    ready: VecDeque<Result<Ready<M>, DataError>>,
    over: bool,
}

impl<M: BatchMemory> Bucketed<M> {
    /// The batches of `source` from `start` on.
    pub fn new(source: Source, start: Cursor, ahead: usize, allocate: Allocate<M>) -> Self {
        let turns = source.deal(start.epoch);
        // A cursor of this loader stands between batches.
        let position = start.position as usize / source.batch_size * source.batch_size;
        let begun = source.own();
        Self {
            source,
            ahead,
            allocate,
            epoch: start.epoch,
            turns,
            position,
            begun,
            open: VecDeque::new(),
            closed: 0,
            running: 0,
            without_images: false,
            ready: VecDeque::new(),
            over: false,
        }
    }

    /// Begins the next batch. An epoch may have none, if all buckets are small.
    fn begin(&mut self) -> Result<(), DataError> {
        let (own, batch_size) = (self.source.own(), self.source.batch_size);
        while self.position + batch_size > self.turns.len() {
            self.epoch += 1;
            self.turns = self.source.deal(self.epoch);
            self.position = 0;
        }
        let bucket = self.source.buckets.bucket_of(self.turns[self.position].image);
        let ImageSize { height, width } = self.source.buckets.sizes()[bucket];
        let memory = (self.allocate)([own, 3, height as usize, width as usize]);
        let (rest, images) = memory.and_then(|memory| memory.split(own)).map_err(DataError::BatchMemory)?;
        self.position += batch_size;
        self.begun = 0;
        self.open.push_back(Open {
            bucket,
            rest,
            images: images.into_iter().map(Some).collect(),
            loaded: vec![None; own],
            missing: own,
            bad: vec![],
            cursor: Cursor { epoch: self.epoch, position: self.position as u64, ahead: 0 },
        });
        Ok(())
    }

    /// Hands out the batches that are complete, in order.
    fn settle(&mut self) {
        while self.open.front().is_some_and(|batch| batch.missing == 0)
            && let Some(batch) = self.open.pop_front()
        {
            self.closed += 1;
            self.ready.push_back(complete(batch));
        }
    }

    fn fail(&mut self, error: DataError) {
        self.ready.push_back(Err(error));
        self.open.clear();
        self.over = true;
    }
}

/// A batch whose images are all loaded.
fn complete<M: BatchMemory>(batch: Open<M>) -> Result<Ready<M>, DataError> {
    let lost = || DataError::Loader("a place in a batch is lost".to_owned());
    let Open { rest, images, loaded, cursor, bad, .. } = batch;
    let images: Vec<M::Image> = images.into_iter().collect::<Option<_>>().ok_or_else(lost)?;
    let (mut image_indices, mut names, mut labels, mut marks) = (vec![], vec![], vec![], Marks::default());
    for Loaded { image, name, label, marks: own } in loaded.into_iter().flatten() {
        image_indices.push(image);
        names.push(name);
        labels.push(label);
        marks += own;
    }
    Ok(Ready { rest, images, image_indices, names, labels, marks, cursor, bad })
}

impl<M: BatchMemory> Plan for Bucketed<M> {
    type Job = Job<M::Image>;
    type Done = Done<M::Image>;
    type Item = Result<Ready<M>, DataError>;

    fn next_job(&mut self) -> Option<Self::Job> {
        let own = self.source.own();
        if self.over || self.without_images {
            return None;
        }
        if self.begun == own {
            if self.open.len() + self.ready.len() >= self.ahead {
                return None;
            }
            if let Err(error) = self.begin() {
                self.fail(error);
                return None;
            }
        }
        let slot = self.begun;
        let open = self.open.len();
        let batch = self.open.back_mut()?;
        let memory = batch.images[slot].take()?;
        self.begun += 1;
        self.running += 1;
        let first = self.position - self.source.batch_size + self.source.share.rank * own;
        let Turn { image, ago } = self.turns[first + slot];
        let epoch = self.epoch - u64::from(ago);
        Some(Job { batch: self.closed + open - 1, slot, bucket: batch.bucket, epoch, image, memory })
    }

    fn done(&mut self, done: Self::Done) {
        let Done { job, loaded, bad } = done;
        self.running -= 1;
        // After an error no batch is open.
        let place = job.batch.checked_sub(self.closed);
        let Some(batch) = place.and_then(|place| self.open.get_mut(place)) else { return };
        batch.images[job.slot] = Some(job.memory);
        batch.bad.extend(bad);
        if loaded.is_some() {
            batch.loaded[job.slot] = loaded;
            batch.missing -= 1;
            self.settle();
        } else {
            self.without_images = true;
        }
        if self.without_images && self.running == 0 {
            let bad = self.open.iter_mut().flat_map(|batch| std::mem::take(&mut batch.bad)).collect();
            self.fail(DataError::NoGoodImages { total: self.source.dataset.len(), bad });
        }
    }

    fn has_item(&self) -> bool {
        !self.ready.is_empty()
    }

    fn next_item(&mut self) -> Option<Self::Item> {
        self.ready.pop_front()
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests;
