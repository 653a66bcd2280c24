//! Batches, made in the background: one thread drives a pool of its own that decodes the images of a batch in
//! parallel, straight into memory of the caller; a bounded channel holds the batches that are ready.

use std::error::Error;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};

use super::assemble::Assembler;
use super::pass::{EvalPass, Pass, TrainPass};
use super::transform::Transform;
use super::{BadSample, Config, DataError, Dataset};
use pixtok_base::seed::Seed;

/// Where to go on in the endless order of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Whole passes over the data set so far.
    pub epoch: u64,
    /// Images of this epoch's order that are done with, bad ones included.
    pub position: u64,
}

/// How many images have properties that an evaluation mentions. Unknown for images from the cache,
/// which an evaluation does not use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Images with pixels that show the background.
    pub transparent: usize,
    /// Images that are larger than in their pictures.
    pub enlarged: usize,
}

impl AddAssign for Marks {
    fn add_assign(&mut self, other: Self) {
        self.transparent += other.transparent;
        self.enlarged += other.enlarged;
    }
}

/// Memory that a batch is decoded into. It is the caller's, for instance pinned memory of a tensor.
pub trait BatchMemory: Send + 'static {
    /// All of it.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl BatchMemory for Vec<u8> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Why there is no memory for a batch.
pub type MemoryError = Box<dyn Error + Send + Sync>;

/// Makes memory for images of the shape `[B, 3, H, W]`, a byte for each value.
pub(super) type Allocate<M> = Box<dyn Fn([usize; 4]) -> Result<M, MemoryError> + Send>;

/// Images of one size, and where they come from.
#[derive(Debug)]
pub struct Batch<T> {
    /// `[B, 3, H, W]` uint8. As the loader makes it, the memory may be longer than B images.
    pub images: T,
    /// The images' names in the data set, B of them.
    pub names: Vec<String>,
    /// Their classes, B of them: positions in [`Dataset::labels`], none for an image outside every class
    /// folder, or without a class in its tar.
    pub labels: Vec<Option<usize>>,
    /// How many of them have properties that an evaluation mentions.
    pub marks: Marks,
    /// Where to go on after this batch.
    pub cursor: Cursor,
    /// The bad images met since the batch before.
    pub bad: Vec<BadSample>,
}

/// The batches of a data set, loaded ahead. Dropping it stops its threads.
///
/// After an error there is nothing more to come.
#[derive(Debug)]
pub struct Loader<M> {
    /// Present until the loader is dropped.
    batches: Option<Receiver<Result<Batch<M>, DataError>>>,
    /// Present until the thread has been waited for.
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl<M: BatchMemory> Loader<M> {
    /// Endless batches for training, from `start` on. A batch is the next `batch_size` good images of the
    /// epoch's order; what remains of an epoch below one batch is dropped. The order depends on (seed,
    /// epoch), the crop and the mirroring of an image on (seed, epoch, image), neither on the number of
    /// threads nor on the batch size. `allocate` makes the memory of a batch for a shape `[B, 3, H, W]`.
    ///
    /// An epoch without a full batch is an error, [`DataError::BatchTooLarge`] or
    /// [`DataError::NoGoodImages`], as an item.
    ///
    /// # Errors
    /// When the settings are out of range, the data set is smaller than a batch, or threads cannot be
    /// started.
    pub fn train(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        seed: Seed,
        start: Cursor,
        allocate: impl Fn([usize; 4]) -> Result<M, MemoryError> + Send + 'static,
    ) -> Result<Self, DataError> {
        if batch_size > dataset.len() {
            let total = dataset.len();
            return Err(DataError::BatchTooLarge { batch_size, good: total, total, bad: Vec::new() });
        }
        let pass = TrainPass::new(seed, config.shuffle_window, start);
        Self::start(dataset, config, batch_size, Box::new(allocate), Transform::train(config), pass)
    }

    /// One pass for evaluation: every image in index order, resized and cropped at the centre, the last batch
    /// partial. With `max_images`, that many images spread evenly over the data set, bad ones included.
    ///
    /// A pass without one good image is an error, [`DataError::NoGoodImages`], as an item.
    ///
    /// # Errors
    /// When the settings are out of range or threads cannot be started.
    pub fn eval(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        max_images: Option<usize>,
        allocate: impl Fn([usize; 4]) -> Result<M, MemoryError> + Send + 'static,
    ) -> Result<Self, DataError> {
        let images = max_images.unwrap_or(usize::MAX).min(dataset.len());
        let pass = EvalPass::new(images);
        Self::start(dataset, config, batch_size, Box::new(allocate), Transform::eval(config), pass)
    }

    fn start(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        allocate: Allocate<M>,
        transform: Transform,
        mut pass: impl Pass<M>,
    ) -> Result<Self, DataError> {
        config.check()?;
        if batch_size == 0 {
            let allowed = "at least 1".to_owned();
            return Err(DataError::Setting { key: "train.batch_size", value: "0".to_owned(), allowed });
        }
        let pool = ThreadPoolBuilder::new()
            // 0 means one per core here too.
            .num_threads(config.workers)
            .thread_name(|index| format!("decode-{index}"))
            .build()
            .map_err(|error| DataError::Loader(error.to_string()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let decode = config.decode_options();
        let mut assembler =
            Assembler::new(dataset, transform, decode, batch_size, pool, Arc::clone(&stop), allocate)?;
        let (sender, batches) = sync_channel(config.queue);
        let thread = thread::Builder::new()
            .name("batches".to_owned())
            .spawn(move || {
                while let Some(batch) = pass.next(&mut assembler) {
                    let last = batch.is_err();
                    // Sending fails once the loader is dropped.
                    if sender.send(batch).is_err() || last {
                        return;
                    }
                }
            })
            .map_err(|error| DataError::Loader(error.to_string()))?;
        Ok(Loader { batches: Some(batches), thread: Some(thread), stop })
    }
}

impl<M> Iterator for Loader<M> {
    type Item = Result<Batch<M>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.batches.as_ref()?.recv();
        received.ok().or_else(|| match self.thread.take()?.join() {
            Ok(()) => None,
            Err(_) => Some(Err(DataError::Loader("its thread panicked".to_owned()))),
        })
    }
}

impl<M> Drop for Loader<M> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for room in the channel wakes up when the receiver goes.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already, and a destructor has nobody to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
