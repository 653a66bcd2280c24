//! Batches, made in the background: a [`Pipeline`] whose threads decode images straight into memory of the caller.

use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assemble::Assembler;
use super::epoch::{Done, Loaded, Ready};
use super::load::load;
use super::memory::{BatchMemory, MemoryError};
use super::pass::Pass;
use super::transform::Transform;
use super::{BadSample, Config, DataError, Dataset, Pipeline, Share};
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
pub struct Loader<M: BatchMemory> {
    batches: Pipeline<Result<Ready<M>, DataError>>,
}

impl<M: BatchMemory> Loader<M> {
    /// Endless batches for training, from `start` on. A batch is the next `batch_size` good images of the
    /// epoch's order; what remains of an epoch below one batch is dropped. The order depends on (seed,
    /// epoch) and the share, the crop and the mirroring of an image on (seed, epoch, image), neither on the
    /// number of threads nor on the batch size. `allocate` makes the memory of a batch for a shape
    /// `[B, 3, H, W]`.
    ///
    /// An epoch without a full batch is an error, [`DataError::BatchTooLarge`] or
    /// [`DataError::NoGoodImages`], as an item, and so is a lack of memory.
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
        share: Share,
        allocate: impl Fn([usize; 4]) -> Result<M, MemoryError> + Send + 'static,
    ) -> Result<Self, DataError> {
        if batch_size > dataset.len() {
            let total = dataset.len();
            return Err(DataError::BatchTooLarge { batch_size, good: total, total, bad: Vec::new() });
        }
        let pass = Pass::Train { seed, window: config.shuffle_window };
        let load = loads(&dataset, config, Transform::train(config));
        Self::start(dataset, config, (pass, share, start), batch_size, allocate, load)
    }

    /// One pass for evaluation: every image in index order, resized and cropped at the centre, the last batch
    /// partial. With `max_images`, that many images spread evenly over the data set, bad ones included.
    ///
    /// A pass without one good image is an error, [`DataError::NoGoodImages`], as an item, and so is a lack
    /// of memory.
    ///
    /// # Errors
    /// When the settings are out of range or threads cannot be started.
    pub fn eval(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        max_images: Option<usize>,
        share: Share,
        allocate: impl Fn([usize; 4]) -> Result<M, MemoryError> + Send + 'static,
    ) -> Result<Self, DataError> {
        let pass = Pass::Eval { images: max_images.unwrap_or(usize::MAX).min(dataset.len()) };
        let load = loads(&dataset, config, Transform::eval(config));
        Self::start(dataset, config, (pass, share, Cursor::default()), batch_size, allocate, load)
    }

    /// Loads the images by `load`: an image by its index and its seed into its memory.
    fn start(
        dataset: Arc<Dataset>,
        config: &Config,
        (pass, share, start): (Pass, Share, Cursor),
        batch_size: usize,
        allocate: impl Fn([usize; 4]) -> Result<M, MemoryError> + Send + 'static,
        load: impl Fn(usize, Seed, &mut [u8]) -> Result<Marks, String> + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        config.check()?;
        if batch_size == 0 {
            let allowed = "at least 1".to_owned();
            return Err(DataError::Setting { key: "train.batch_size", value: "0".to_owned(), allowed });
        }
        let size = config.image_size;
        let bytes = 3 * size.height as usize * size.width as usize;
        // Those that are ready, and one that is being made.
        let ahead = config.queue + 1;
        let plan = Assembler::new(
            Arc::clone(&dataset),
            (pass, share, start),
            (batch_size, size, ahead),
            Box::new(allocate),
        );
        let batches = Pipeline::start(plan, config.workers, move |mut job| {
            let image = job.image;
            let outcome = load(image, pass.seed(job.epoch, image), job.room.planes(bytes));
            let name = dataset.name(image).into_owned();
            let outcome = match outcome {
                Ok(marks) => Ok(Loaded { name, label: dataset.label(image), marks }),
                Err(reason) => Err(BadSample { name, reason }),
            };
            Done { job, outcome }
        })?;
        Ok(Self { batches })
    }
}

/// Loads images of `dataset` as a config says.
fn loads(
    dataset: &Arc<Dataset>,
    config: &Config,
    transform: Transform,
) -> impl Fn(usize, Seed, &mut [u8]) -> Result<Marks, String> + Send + Sync + use<> {
    let (dataset, decode) = (Arc::clone(dataset), config.decode_options());
    move |image, seed, planes| load(&dataset, image, &decode, &transform, seed, planes)
}

impl<M: BatchMemory> Iterator for Loader<M> {
    type Item = Result<Batch<M>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let ready = match self.batches.next()? {
            Ok(Ok(ready)) => ready,
            Ok(Err(error)) => return Some(Err(error)),
            Err(panicked) => return Some(Err(panicked.into())),
        };
        let Ready { rest, images, names, labels, marks, cursor, bad } = ready;
        let images = M::join(rest, images).map_err(DataError::BatchMemory);
        Some(images.map(|images| Batch { images, names, labels, marks, cursor, bad }))
    }
}

#[cfg(test)]
mod tests;
