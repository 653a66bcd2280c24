//! Makes batches in the background: a [`Pipeline`] whose threads decode images directly into the
//! caller's memory.

use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assemble::Assembler;
use super::attempts::Attempts;
use super::bucketed::{Bucketed, Source};
use super::epoch::{Done, Loaded, Ready};
use super::load::{load, load_uncached};
use super::memory::{Allocate, BatchMemory, MemoryError};
use super::pass::Pass;
use super::transform::Transform;
use super::{BadSample, Config, DataError, Dataset, Pipeline, Share};
use pixtok_base::seed::Seed;

/// A place in the endless order of training images, from which a process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The number of whole passes over the data set so far.
    pub epoch: u64,
    /// The number of images of this epoch's order that are processed, including bad ones. With
    /// several processes it counts whole batches of all of them, of which this process has
    /// processed its share.
    pub position: u64,
    /// The number of images of its share after `position` that this process has processed, too,
    /// because others were bad. Always 0 with one process, and of no use to another number of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The number of images with properties that an evaluation reports. Unknown for images from the
/// cache, which an evaluation does not use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The number of images with pixels that show the background.
    pub transparent: usize,
    /// The number of images that are larger than in their pictures.
    pub enlarged: usize,
}

impl AddAssign for Marks {
    fn add_assign(&mut self, other: Self) {
        self.transparent += other.transparent;
        self.enlarged += other.enlarged;
    }
}

/// A batch of images of one size, with their names.
#[derive(Debug)]
pub struct Batch<T> {
    /// `[B, 3, H, W]` uint8. In the loader's batches, the memory may be longer than B images.
    pub images: T,
    /// The images' indices in the data set, B of them.
    pub image_indices: Vec<usize>,
    /// The images' names in the data set, B of them.
    pub names: Vec<String>,
    /// The classes of the B images: indices into [`Dataset::labels`]; `None` for an image outside
    /// every class folder, or without a class in its tar.
    pub labels: Vec<Option<usize>>,
    /// The number of images with properties that an evaluation reports.
    pub marks: Marks,
    /// The place in the order after this batch.
    pub cursor: Cursor,
    /// The bad images since the previous batch.
    pub bad: Vec<BadSample>,
}

/// Loads the batches of a data set ahead. Dropping the loader stops its threads.
///
/// After an error there are no more batches.
#[derive(Debug)]
pub struct Loader<M: BatchMemory> {
    batches: Pipeline<Result<Ready<M>, DataError>>,
}

impl<M: BatchMemory> Loader<M> {
    /// Endless batches for training, from `start` on. A batch is the next `batch_size` images of
    /// the epoch's order; images at the end of an epoch that do not fill a batch are dropped. Each
    /// of N processes loads its [`Share`] of the batch, `batch_size` / N images. In place of a bad
    /// image it takes the next one of its share.
    ///
    /// The order depends on (seed, epoch); crop and mirroring of an image depend on (seed, epoch,
    /// image). Neither depends on the number of processes, of threads or of images in a batch.
    ///
    /// With `data.buckets` each batch has images of one size, and the order depends on `batch_size`
    /// too. Then images that do not fill a batch wait for the next epoch, and the place of a bad
    /// image is taken by another one of its size, or of the nearest if there is none.
    ///
    /// `allocate` makes the memory of this process's part of a batch, for a shape `[B, 3, H, W]`.
    ///
    /// An epoch without a full batch gives the item [`DataError::BatchTooLarge`],
    /// [`DataError::ShareTooSmall`] or [`DataError::NoGoodImages`]. A lack of memory is such an
    /// item too.
    ///
    /// # Errors
    /// When the settings are out of range, the number of processes does not divide `batch_size`,
    /// the data set is smaller than a batch, or threads cannot be started.
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
        if !batch_size.is_multiple_of(share.size) {
            let allowed = format!("a multiple of the number of processes, {}", share.size);
            return Err(DataError::Setting {
                key: "train.batch_size",
                value: batch_size.to_string(),
                allowed,
            });
        }
        if config.buckets.is_some() {
            return Self::train_in_buckets(
                dataset,
                config,
                batch_size,
                seed,
                start,
                share,
                Box::new(allocate),
            );
        }
        let pass = Pass::Train { seed, window: config.shuffle_window };
        let load = loads(&dataset, config, Transform::train(config));
        Self::start(dataset, config, (pass, share, start), batch_size / share.size, allocate, load)
    }

    /// The same as [`Loader::train`], where images have several sizes.
    fn train_in_buckets(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        seed: Seed,
        start: Cursor,
        share: Share,
        allocate: Allocate<M>,
    ) -> Result<Self, DataError> {
        check(config, batch_size)?;
        let window = config.shuffle_window;
        let buckets = Arc::new(dataset.buckets(config)?);
        let whole = Transform::train(config);
        let transforms: Vec<Transform> = buckets.sizes().iter().map(|size| whole.of_bucket(*size)).collect();
        let (set, own) = (Arc::clone(&dataset), Arc::clone(&buckets));
        let source = Source { dataset: set, buckets, seed, window, share, batch_size };
        let (attempts, decode) = (Attempts::new(&source), config.decode_options());
        let pass = Pass::Train { seed, window };
        let plan = Bucketed::new(source, start, config.queue + 1, allocate);
        let batches = Pipeline::start(plan, config.workers, move |job| {
            let (bucket, transform) = (job.bucket, &transforms[job.bucket]);
            // The choices belong to the turn, whichever image takes it.
            let seed = pass.seed(job.epoch, job.image as usize);
            attempts.done(job, |image, planes| {
                let load = if own.bucket_of(image as u32) == bucket { load } else { load_uncached };
                load(&dataset, image, &decode, transform, seed, planes)
            })
        })?;
        Ok(Self { batches })
    }

    /// One pass for evaluation: every image of the share in index order, resized and cropped at the
    /// centre; the last batch may be smaller. With `max_images`, the passes of all processes have
    /// that many images together, including bad ones, spread evenly over the data set. `batch_size`
    /// is that of this process.
    ///
    /// A pass without a good image gives the item [`DataError::NoGoodImages`]. A lack of memory is
    /// such an item too.
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

    /// Starts a loader in which `load` loads an image, given its index and seed, into its memory.
    /// `batch_size` is the number of this process's images in a batch.
    fn start(
        dataset: Arc<Dataset>,
        config: &Config,
        (pass, share, start): (Pass, Share, Cursor),
        batch_size: usize,
        allocate: impl Fn([usize; 4]) -> Result<M, MemoryError> + Send + 'static,
        load: impl Fn(usize, Seed, &mut [u8]) -> Result<Marks, String> + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        check(config, batch_size)?;
        let size = config.image_size;
        let bytes = 3 * size.height as usize * size.width as usize;
        // The ready batches, and one that is being made.
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
                Ok(marks) => Ok(Loaded { image, name, label: dataset.label(image), marks }),
                Err(reason) => Err(BadSample { name, reason }),
            };
            Done { job, outcome }
        })?;
        Ok(Self { batches })
    }
}

/// Checks the settings and the number of images in a batch.
fn check(config: &Config, batch_size: usize) -> Result<(), DataError> {
    config.check()?;
    if batch_size == 0 {
        let allowed = "at least 1".to_owned();
        return Err(DataError::Setting { key: "train.batch_size", value: "0".to_owned(), allowed });
    }
    Ok(())
}

/// A function that loads images of `dataset` as a config says.
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
        let Ready { rest, images, image_indices, names, labels, marks, cursor, bad } = ready;
        let images = M::join(rest, images).map_err(DataError::BatchMemory);
        Some(images.map(|images| Batch { images, image_indices, names, labels, marks, cursor, bad }))
    }
}

#[cfg(test)]
mod tests;
