//! Which images come next: an endless shuffled order, or one pass from first to last.

use super::assemble::Assembler;
use super::loader::BatchMemory;
use super::order::order;
use super::{Batch, Cursor, DataError};
use pixtok_base::seed::Seed;

/// A source of batches, run by the loader's thread.
pub(super) trait Pass<M>: Send + 'static {
    /// The next batch; none at the end or when the loader is being dropped. Not called again after an error.
    fn next(&mut self, assembler: &mut Assembler<M>) -> Option<Result<Batch<M>, DataError>>;
}

/// Epoch after epoch, each in its own order.
pub(super) struct TrainPass {
    seed: Seed,
    /// Of the order of tars.
    window: usize,
    cursor: Cursor,
    /// The order of `cursor.epoch`; empty until it is needed.
    order: Vec<u32>,
    /// Whether this epoch has been seen from its start without one full batch yet.
    fruitless: bool,
}

impl TrainPass {
    pub(super) fn new(seed: Seed, window: usize, start: Cursor) -> Self {
        Self { seed, window, cursor: start, order: Vec::new(), fruitless: start.position == 0 }
    }

    /// Loads the next images of the epoch's order, `count` at most.
    fn advance<M: BatchMemory>(&mut self, assembler: &mut Assembler<M>, count: usize) {
        let start = self.cursor.position as usize;
        let images: Vec<usize> =
            self.order[start..].iter().take(count).map(|&image| image as usize).collect();
        let augment = |image| self.seed.derive("augment", &[self.cursor.epoch, image as u64]);
        assembler.add(&images, augment);
        self.cursor.position += images.len() as u64;
    }

    fn remaining(&self) -> usize {
        (self.order.len() as u64).saturating_sub(self.cursor.position) as usize
    }
}

impl<M: BatchMemory> Pass<M> for TrainPass {
    fn next(&mut self, assembler: &mut Assembler<M>) -> Option<Result<Batch<M>, DataError>> {
        loop {
            if self.order.is_empty() {
                self.order = order(assembler.dataset(), self.window, self.seed, self.cursor.epoch);
            }
            while assembler.room() > 0 && self.remaining() >= assembler.room() {
                self.advance(assembler, assembler.room());
                if assembler.stopped() {
                    return None;
                }
            }
            if assembler.room() == 0 {
                self.fruitless = false;
                return Some(assembler.finish(self.cursor));
            }
            if self.fruitless {
                // The rest cannot fill a batch, but the error tells how many good images there are.
                self.advance(assembler, assembler.room());
                return if assembler.stopped() { None } else { Some(Err(too_few(assembler))) };
            }
            assembler.discard();
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
            self.order.clear();
            self.fruitless = true;
        }
    }
}

fn too_few<M: BatchMemory>(assembler: &mut Assembler<M>) -> DataError {
    let (good, total) = (assembler.good(), assembler.images());
    let (batch_size, bad) = (assembler.batch_size(), assembler.take_bad());
    if good == 0 {
        DataError::NoGoodImages { total, bad }
    } else {
        DataError::BatchTooLarge { batch_size, good, total, bad }
    }
}

/// The place in a data set of `total` images of the `k`-th of `images` images (at most `total`)
/// that are spread evenly over it.
pub(super) fn spread(k: usize, images: usize, total: usize) -> usize {
    (k as u128 * total as u128 / images as u128) as usize
}

/// One pass over `images` images, spread evenly over the data set, in index order.
pub(super) struct EvalPass<M> {
    images: usize,
    position: usize,
    /// The batch before the one being made, held back to take along the bad images that come after the last
    /// good one.
    held: Option<Batch<M>>,
    /// Whether a good image has been met.
    fruitful: bool,
}

impl<M: BatchMemory> EvalPass<M> {
    pub(super) fn new(images: usize) -> Self {
        Self { images, position: 0, held: None, fruitful: false }
    }

    /// Adds images until the batch is full or the pass is over.
    fn fill(&mut self, assembler: &mut Assembler<M>) {
        while assembler.room() > 0 && self.position < self.images && !assembler.stopped() {
            let end = self.images.min(self.position + assembler.room());
            let total = assembler.images();
            let images: Vec<usize> = (self.position..end).map(|k| spread(k, self.images, total)).collect();
            // Evaluation makes no random choice.
            assembler.add(&images, |_| Seed(0));
            self.position = end;
        }
    }
}

impl<M: BatchMemory> Pass<M> for EvalPass<M> {
    fn next(&mut self, assembler: &mut Assembler<M>) -> Option<Result<Batch<M>, DataError>> {
        loop {
            self.fill(assembler);
            if assembler.stopped() {
                return None;
            }
            if assembler.good() == 0 {
                let bad = assembler.take_bad();
                if !self.fruitful && self.images > 0 {
                    return Some(Err(DataError::NoGoodImages { total: self.images, bad }));
                }
                let mut last = self.held.take()?;
                last.bad.extend(bad);
                return Some(Ok(last));
            }
            self.fruitful = true;
            match assembler.finish(Cursor { epoch: 0, position: self.position as u64 }) {
                Ok(batch) => {
                    if let Some(before) = self.held.replace(batch) {
                        return Some(Ok(before));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
