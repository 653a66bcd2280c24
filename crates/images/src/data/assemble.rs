//! One batch: decode its images in parallel into its memory, closing the gaps that bad ones leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::cache::Kept;
use super::loader::{Allocate, BatchMemory};
use super::transform::Transform;
use super::{BadSample, Batch, Cursor, DataError, Dataset, Marks};
use crate::picture::DecodeOptions;
use pixtok_base::seed::Seed;

/// Makes batches, one at a time: [`Assembler::add`] until full, then [`Assembler::finish`].
pub(super) struct Assembler<M> {
    dataset: Arc<Dataset>,
    transform: Transform,
    decode: DecodeOptions,
    batch_size: usize,
    pool: ThreadPool,
    stop: Arc<AtomicBool>,
    allocate: Allocate<M>,
    /// [batch_size, 3, H, W]; the first `good.len()` images are there.
    buffer: M,
    /// The images in the buffer.
    good: Vec<usize>,
    marks: Marks,
    /// The bad ones since the last batch.
    bad: Vec<BadSample>,
}

impl<M: BatchMemory> Assembler<M> {
    pub(super) fn new(
        dataset: Arc<Dataset>,
        transform: Transform,
        decode: DecodeOptions,
        batch_size: usize,
        pool: ThreadPool,
        stop: Arc<AtomicBool>,
        allocate: Allocate<M>,
    ) -> Result<Self, DataError> {
        let buffer = buffer(&allocate, &dataset, &transform, batch_size)?;
        let (good, bad) = (Vec::new(), Vec::new());
        Ok(Self {
            dataset,
            transform,
            decode,
            batch_size,
            pool,
            stop,
            allocate,
            buffer,
            good,
            marks: Marks::default(),
            bad,
        })
    }

    pub(super) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    pub(super) fn images(&self) -> usize {
        self.dataset.len()
    }

    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// How many more images the batch takes.
    pub(super) fn room(&self) -> usize {
        self.batch_size - self.good.len()
    }

    pub(super) fn good(&self) -> usize {
        self.good.len()
    }

    /// Whether the loader is being dropped; what has been added since then is incomplete.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Loads `images`, at most [`Assembler::room`] of them, each with the seed that `seed` gives it. The good
    /// ones join the batch in their order, the bad ones its list.
    pub(super) fn add(&mut self, images: &[usize], seed: impl Fn(usize) -> Seed + Sync) {
        let bytes = self.transform.image_bytes();
        let start = self.good.len();
        let Self { dataset, transform, decode, pool, stop, buffer, .. } = &mut *self;
        let kept = dataset.kept(transform.form(), decode);
        let outcomes: Vec<Result<Marks, String>> = pool.install(|| {
            images
                .par_iter()
                .zip(buffer.bytes_mut()[start * bytes..].par_chunks_exact_mut(bytes))
                .map(|(&image, planes)| {
                    if stop.load(Ordering::Relaxed) {
                        return Err("the loader is being stopped".to_owned());
                    }
                    load(dataset, kept, image, decode, transform, seed(image), planes)
                })
                .collect()
        });
        for (offset, (&image, outcome)) in images.iter().zip(outcomes).enumerate() {
            match outcome {
                Ok(marks) => {
                    self.marks += marks;
                    let (from, to) = (start + offset, self.good.len());
                    if from != to {
                        self.buffer.bytes_mut().copy_within(from * bytes..(from + 1) * bytes, to * bytes);
                    }
                    self.good.push(image);
                }
                Err(reason) => {
                    let name = self.dataset.name(image).into_owned();
                    self.bad.push(BadSample { name, reason });
                }
            }
        }
    }

    /// Gives up the images of an unfinished batch; the list of bad ones stays for the next.
    pub(super) fn discard(&mut self) {
        self.good.clear();
        self.marks = Marks::default();
    }

    /// The list of bad images, which is then empty.
    pub(super) fn take_bad(&mut self) -> Vec<BadSample> {
        std::mem::take(&mut self.bad)
    }

    /// The batch of what has been added.
    pub(super) fn finish(&mut self, cursor: Cursor) -> Result<Batch<M>, DataError> {
        let good = std::mem::take(&mut self.good);
        let next = buffer(&self.allocate, &self.dataset, &self.transform, self.batch_size)?;
        Ok(Batch {
            images: std::mem::replace(&mut self.buffer, next),
            names: good.iter().map(|&image| self.dataset.name(image).into_owned()).collect(),
            marks: std::mem::take(&mut self.marks),
            labels: good.iter().map(|&image| self.dataset.label(image)).collect(),
            cursor,
            bad: self.take_bad(),
        })
    }
}

/// Room for a batch; at most the data set fits, however large the batches of an evaluation are said to be.
fn buffer<M>(
    allocate: &Allocate<M>,
    dataset: &Dataset,
    transform: &Transform,
    batch_size: usize,
) -> Result<M, DataError> {
    let (height, width) = transform.size();
    let shape = [batch_size.min(dataset.len()), 3, height as usize, width as usize];
    allocate(shape).map_err(DataError::BatchMemory)
}

/// Writes image `image` into `planes` and returns its marks, or why it is bad. Of images from the
/// cache nothing is known.
fn load(
    dataset: &Dataset,
    kept: Option<&Kept>,
    image: usize,
    decode_options: &DecodeOptions,
    transform: &Transform,
    seed: Seed,
    planes: &mut [u8],
) -> Result<Marks, String> {
    if let Some(whole) = kept.and_then(|kept| kept.get(image)) {
        return transform.finish(whole, seed, planes).map(|()| Marks::default());
    }
    let picture = dataset.picture(image, decode_options)?;
    let marks = Marks {
        transparent: picture.traits().transparent.into(),
        enlarged: transform.enlarges(&picture).into(),
    };
    let Some(kept) = kept.filter(|_| transform.keeps(&picture)) else {
        return transform.apply(&picture, seed, planes).map(|()| marks);
    };
    // What does not fit goes the same way, so an image is the same whether it was kept or not.
    let whole = transform.whole(picture.release())?;
    kept.put(image, whole.view());
    transform.finish(whole.view(), seed, planes).map(|()| marks)
}
