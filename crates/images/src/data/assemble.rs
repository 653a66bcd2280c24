//! The plan of a loader: epochs become batches, in order, while threads load images of later
//! batches.

use std::collections::VecDeque;
use std::sync::Arc;

use super::epoch::{Done, Epoch, Job, Ready, Step};
use super::memory::{Allocate, BatchMemory};
use super::pass::Pass;
use super::pipeline::Plan;
use super::{BadSample, Cursor, DataError, Dataset, ImageSize, Share};

/// Makes batches from the images of a pass.
pub(super) struct Assembler<M: BatchMemory> {
    dataset: Arc<Dataset>,
    pass: Pass,
    share: Share,
    /// The number of this process's images in a batch.
    batch_size: usize,
    image_size: ImageSize,
    /// The largest number of batches that are loaded, or being loaded, before the consumer takes
    /// them.
    ahead: usize,
    allocate: Allocate<M>,
    /// The start of the next epoch; `None` after the only one.
    following: Option<Cursor>,
    /// The epochs that were started. Batches come from the first one.
    epochs: VecDeque<Epoch<M>>,
    /// The bad images since the last batch.
    bad: Vec<BadSample>,
    /// In a single pass, the last batch so far. The bad images after it are added to it if no good
    /// image follows.
    held: Option<Ready<M>>,
    ready: VecDeque<Result<Ready<M>, DataError>>,
    over: bool,
}

impl<M: BatchMemory> Assembler<M> {
    pub fn new(
        dataset: Arc<Dataset>,
        (pass, share, start): (Pass, Share, Cursor),
        (batch_size, image_size, ahead): (usize, ImageSize, usize),
        allocate: Allocate<M>,
    ) -> Self {
        Self {
            dataset,
            pass,
            share,
            batch_size,
            image_size,
            ahead,
            allocate,
            following: Some(start),
            epochs: VecDeque::new(),
            bad: vec![],
            held: None,
            ready: VecDeque::new(),
            over: false,
        }
    }

    /// Whether images of another epoch may be loaded. Each started epoch must first be likely to
    /// give a batch; otherwise loading would never end if every image is bad.
    fn may_begin(&self) -> bool {
        self.following.is_some() && self.epochs.iter().all(Epoch::may_be_fruitful)
    }

    fn begin(&mut self) {
        let Some(start) = self.following.take() else { return };
        let stream = self.pass.stream(&self.dataset, self.share, start, self.batch_size);
        let endless = self.pass.is_endless();
        self.following = endless.then_some(Cursor { epoch: start.epoch + 1, ..Cursor::default() });
        self.epochs.push_back(Epoch::new(stream, self.batch_size, endless));
        // The pass may end at once.
        self.settle();
    }

    /// Processes the loaded images in order, as far as they are available.
    fn settle(&mut self) {
        while let Some(epoch) = self.epochs.front_mut() {
            match epoch.step() {
                Step::Wait => return,
                Step::Good => self.release(),
                Step::Bad(sample) => self.bad.push(sample),
                Step::Full => self.finish(),
                Step::End if self.pass.is_endless() => self.end_epoch(),
                Step::End => self.end_pass(),
            }
        }
    }

    /// Hands out the held batch, since it was not the last one.
    fn release(&mut self) {
        self.ready.extend(self.held.take().map(Ok));
    }

    fn finish(&mut self) {
        let Some(epoch) = self.epochs.front_mut() else { return };
        match epoch.finish(std::mem::take(&mut self.bad)) {
            Ok(batch) if self.pass.is_endless() => self.ready.push_back(Ok(batch)),
            Ok(batch) => self.held = Some(batch),
            Err(error) => self.fail(error),
        }
    }

    /// Drops the images that don't fill a batch. The list of bad images stays for the next batch.
    fn end_epoch(&mut self) {
        let Some(epoch) = self.epochs.pop_front().filter(Epoch::is_fruitless) else { return };
        let (good, total) = (epoch.rest(), epoch.len());
        let (batch_size, Share { rank, size }) = (self.batch_size, self.share);
        let bad = std::mem::take(&mut self.bad);
        self.fail(match (good, size) {
            (0, _) => DataError::NoGoodImages { total, bad },
            (_, 1) => DataError::BatchTooLarge { batch_size, good, total, bad },
            _ => DataError::ShareTooSmall { rank, size, batch_size, good, total, bad },
        });
    }

    fn end_pass(&mut self) {
        let Some(epoch) = self.epochs.front() else { return };
        let (rest, images, fruitless) = (epoch.rest(), epoch.len(), epoch.is_fruitless());
        if rest > 0 {
            self.finish();
        } else if fruitless && images > 0 {
            let bad = std::mem::take(&mut self.bad);
            return self.fail(DataError::NoGoodImages { total: images, bad });
        }
        if let Some(last) = &mut self.held {
            last.bad.append(&mut self.bad);
        }
        self.release();
        self.end();
    }

    fn fail(&mut self, error: DataError) {
        self.ready.push_back(Err(error));
        self.end();
    }

    fn end(&mut self) {
        self.over = true;
        self.following = None;
        self.epochs.clear();
    }

    /// The number of batches, complete or not, that the consumer has not taken.
    fn open(&self) -> usize {
        let on_their_way: usize = self.epochs.iter().map(Epoch::open).sum();
        on_their_way + usize::from(self.held.is_some()) + self.ready.len()
    }

    /// Allocates another batch. It is at most as large as the data set, whatever the batch size of
    /// an evaluation.
    fn memory(&self) -> Result<(M::Rest, Vec<M::Image>), DataError> {
        let ImageSize { height, width } = self.image_size;
        let images = self.batch_size.min(self.dataset.len());
        let memory = (self.allocate)([images, 3, height as usize, width as usize]);
        memory.and_then(|memory| memory.split(images)).map_err(DataError::BatchMemory)
    }
}

impl<M: BatchMemory> Plan for Assembler<M> {
    type Job = Job<M::Image>;
    type Done = Done<M::Image>;
    type Item = Result<Ready<M>, DataError>;

    fn next_job(&mut self) -> Option<Self::Job> {
        while !self.epochs.iter().any(Epoch::has_work) && self.may_begin() {
            self.begin();
        }
        // The first epoch that has work: the end of an epoch may need more images after all.
        let at = self.epochs.iter().position(Epoch::has_work)?;
        if self.epochs[at].needs_memory() {
            if self.open() >= self.ahead {
                return None;
            }
            match self.memory() {
                Ok((rest, images)) => self.epochs[at].add_memory(rest, images),
                Err(error) => {
                    self.fail(error);
                    return None;
                }
            }
        }
        self.epochs[at].job()
    }

    fn done(&mut self, done: Self::Done) {
        // If the epoch is over, it does not need the result.
        if let Some(epoch) = self.epochs.iter_mut().find(|epoch| epoch.number == done.job.epoch) {
            epoch.add(done);
            self.settle();
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
