//! The plan of a loader with buckets: batches whose images are known beforehand, each loaded into
//! its own place. The design is in `buckets`, the threads' part of it in `attempts`.

use std::collections::{BTreeSet, VecDeque};
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
    /// The image that was loaded; `None` if the bucket has no image that can be used.
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
    /// The buckets that have given no image since the last batch.
    barren: BTreeSet<usize>,
    /// The bad images of batches without an image, since the last batch.
    bad: Vec<BadSample>,
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
            barren: BTreeSet::new(),
            bad: vec![],
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
            if batch.loaded.iter().any(Option::is_some) {
                self.barren.clear();
                let bad = std::mem::take(&mut self.bad);
                self.ready.push_back(complete(batch, bad));
                continue;
            }
            // Every image of the bucket is bad, which all processes find.
            self.barren.insert(batch.bucket);
            self.bad.extend(batch.bad);
            if self.barren.len() == self.source.buckets.used() {
                let (total, bad) = (self.source.dataset.len(), std::mem::take(&mut self.bad));
                return self.fail(DataError::NoGoodImages { total, bad });
            }
        }
    }

    fn fail(&mut self, error: DataError) {
        self.ready.push_back(Err(error));
        self.open.clear();
        self.over = true;
    }
}

/// A loaded batch. `bad` are the bad images before it. If an image could not be read just once, so
/// that others of its bucket were found, its place shows another one of the batch.
fn complete<M: BatchMemory>(batch: Open<M>, mut bad: Vec<BadSample>) -> Result<Ready<M>, DataError> {
    let lost = || DataError::Loader("a place in a batch is lost".to_owned());
    let Open { rest, images, mut loaded, cursor, .. } = batch;
    let mut images: Vec<M::Image> = images.into_iter().collect::<Option<_>>().ok_or_else(lost)?;
    let good = loaded.iter().position(Option::is_some).ok_or_else(lost)?;
    for slot in 0..loaded.len() {
        if loaded[slot].is_none() {
            let bytes = images[good].as_mut().to_vec();
            images[slot].as_mut().copy_from_slice(&bytes);
            loaded[slot] = loaded[good].clone();
        }
    }
    bad.extend(batch.bad);
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
        if self.begun == own {
            if self.over || self.open.len() + self.ready.len() >= self.ahead {
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
        let first = self.position - self.source.batch_size + self.source.share.rank * own;
        let Turn { image, ago } = self.turns[first + slot];
        let epoch = self.epoch - u64::from(ago);
        Some(Job { batch: self.closed + open - 1, slot, bucket: batch.bucket, epoch, image, memory })
    }

    fn done(&mut self, done: Self::Done) {
        let Done { job, loaded, bad } = done;
        // After an error no batch is open.
        let place = job.batch.checked_sub(self.closed);
        let Some(batch) = place.and_then(|place| self.open.get_mut(place)) else { return };
        batch.images[job.slot] = Some(job.memory);
        batch.loaded[job.slot] = loaded;
        batch.bad.extend(bad);
        batch.missing -= 1;
        self.settle();
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
