//! The sizes of a data set's pictures, read from their headers.

use super::buckets::Buckets;
use super::{Config, DataError, Dataset, ImageSize, Pipeline};

/// The number of pictures whose headers a thread reads before it takes the next ones, so that the
/// threads don't wait for each other.
const TOGETHER: usize = 64;
/// How many times as many may be read ahead of the first that are not.
const AHEAD: usize = 256;

impl Dataset {
    /// Width and height of each picture once it is upright; 0 for both if its header states no
    /// size. They are read once, by as many threads as `data.workers` says, without decoding: of
    /// tars and most files only the headers, of Parquet files all pages of images. `read_more` is
    /// told how many more were read.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn read_picture_sizes(
        &self,
        config: &Config,
        read_more: &dyn Fn(u64),
    ) -> Result<&[[u32; 2]], DataError> {
        if let Some(sizes) = self.sizes().get() {
            return Ok(sizes);
        }
        let (total, size_of) = (self.len(), self.size_reader());
        let of = move |image| size_of(image).map_or([0; 2], |(width, height)| [width as u32, height as u32]);
        let read =
            move |first: usize| -> Vec<[u32; 2]> { (first..total.min(first + TOGETHER)).map(&of).collect() };
        let mut sizes = Vec::with_capacity(total);
        for read in Pipeline::map((0..total).step_by(TOGETHER), config.workers, AHEAD, read)? {
            let read = read?;
            read_more(read.len() as u64);
            sizes.extend(read);
        }
        Ok(self.sizes().get_or_init(|| sizes))
    }

    /// The buckets of a config, each with the number of its images, and the number of images whose
    /// size cannot be read; they count as of `data.image_size`. `None` until
    /// [`Dataset::read_picture_sizes`] has read the sizes.
    #[must_use]
    pub fn bucket_counts(&self, config: &Config) -> Option<(Vec<(ImageSize, usize)>, usize)> {
        let pictures = self.sizes().get()?;
        let buckets = Buckets::new(config, pictures);
        let count = |(bucket, size): (usize, &ImageSize)| (*size, buckets.images_of(bucket).len());
        let counts = buckets.sizes().iter().enumerate().map(count).collect();
        let unknown = pictures.iter().filter(|size| size.contains(&0)).count();
        Some((counts, unknown))
    }

    /// A hash (blake3, hexadecimal) of the bucket of each image, by which processes see that they
    /// train the same batches. `None` without buckets, and until
    /// [`Dataset::read_picture_sizes`] has read the sizes.
    #[must_use]
    pub fn bucket_digest(&self, config: &Config) -> Option<String> {
        config.buckets.as_ref()?;
        Some(Buckets::new(config, self.sizes().get()?).digest())
    }

    /// The images by bucket.
    ///
    /// # Errors
    /// The same as [`Dataset::read_picture_sizes`].
    pub(super) fn buckets(&self, config: &Config) -> Result<Buckets, DataError> {
        Ok(Buckets::new(config, self.read_picture_sizes(config, &|_| ())?))
    }
}
