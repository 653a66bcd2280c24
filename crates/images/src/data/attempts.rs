//! Loads an image of a bucket, or another one in its place if it is bad.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;

use super::bucketed::{Done, Job, Source};
use super::buckets::Buckets;
use super::epoch::Loaded;
use super::{BadSample, Dataset, Marks};
use pixtok_base::seed::Seed;

/// Tries images until one can be used.
pub(super) struct Attempts {
    dataset: Arc<Dataset>,
    buckets: Arc<Buckets>,
    seed: Seed,
    /// The number of the epoch, counted from 1, in which each image was last found to be bad; 0 if
    /// in none. In that epoch it is not tried again. In the next one it is, as in a run that was
    /// resumed: a disk may have failed only for a while.
    bad_in: Vec<AtomicU64>,
}

impl Attempts {
    /// No image was found to be bad yet.
    pub fn new(source: &Source) -> Self {
        let Source { dataset, buckets, seed, .. } = source;
        let bad_in = iter::repeat_with(|| AtomicU64::new(0)).take(dataset.len()).collect();
        Self { dataset: Arc::clone(dataset), buckets: Arc::clone(buckets), seed: *seed, bad_in }
    }

    /// Does a job with `load`, which writes the image with an index into the memory.
    pub fn done<I: AsMut<[u8]>>(
        &self,
        mut job: Job<I>,
        load: impl Fn(usize, &mut [u8]) -> Result<Marks, String>,
    ) -> Done<I> {
        let (mut bad, memory) = (vec![], job.memory.as_mut());
        let epoch = job.epoch + 1;
        let mut attempt = |image: u32| {
            let image = image as usize;
            if self.bad_in[image].load(Ordering::Relaxed) == epoch {
                return None;
            }
            let name = self.dataset.name(image).into_owned();
            match load(image, memory) {
                Ok(marks) => Some(Loaded { image, name, label: self.dataset.label(image), marks }),
                Err(reason) => {
                    self.bad_in[image].store(epoch, Ordering::Relaxed);
                    bad.push(BadSample { name, reason });
                    None
                }
            }
        };
        let loaded =
            attempt(job.image).or_else(|| self.others(job.bucket, job.epoch, job.image).find_map(attempt));
        Done { job, loaded, bad }
    }

    /// All images of the data set: first those of `bucket`, then those of the bucket with the
    /// nearest aspect, and so on, each bucket from an image on that is drawn for `image`.
    fn others(&self, bucket: usize, epoch: u64, image: u32) -> impl Iterator<Item = u32> {
        let buckets = &*self.buckets;
        let mut rng = self.seed.derive("substitute", &[epoch, u64::from(image)]).rng();
        let nearest = buckets.nearest_to(bucket).into_iter().map(move |bucket| buckets.images_of(bucket));
        nearest.filter(|images| !images.is_empty()).flat_map(move |images| {
            let (before, after) = images.split_at(rng.random_range(0..images.len()));
            after.iter().chain(before).copied()
        })
    }
}
