//! The sizes of a data set's pictures, read from their headers.

use rayon::prelude::*;

use super::buckets::Buckets;
use super::{Config, Dataset, ImageSize};

impl Dataset {
    /// Width and height of each picture once it is upright; 0 for both if its header states no
    /// size. They are read once, by all processors, without decoding: of tars and most files only
    /// the headers, of Parquet files all pages of images. `read_more` is told how many more were
    /// read.
    pub fn picture_sizes(&self, read_more: &(dyn Fn(u64) + Sync)) -> &[[u32; 2]] {
        self.sizes().get_or_init(|| {
            let size = |image: usize| {
                let size = self.picture_size(image);
                read_more(1);
                size.map_or([0; 2], |(width, height)| [width as u32, height as u32])
            };
            (0..self.len()).into_par_iter().map(size).collect()
        })
    }

    /// The buckets of a config, each with the number of its images, and the number of images whose
    /// size cannot be read; they count as of `data.image_size`.
    #[must_use]
    pub fn bucket_counts(&self, config: &Config) -> (Vec<(ImageSize, usize)>, usize) {
        let buckets = self.buckets(config);
        let count = |(bucket, size): (usize, &ImageSize)| (*size, buckets.images_of(bucket).len());
        let counts = buckets.sizes().iter().enumerate().map(count).collect();
        let unknown = self.picture_sizes(&|_| ()).iter().filter(|size| size.contains(&0)).count();
        (counts, unknown)
    }

    /// The images by bucket.
    pub(super) fn buckets(&self, config: &Config) -> Buckets {
        Buckets::new(config, self.picture_sizes(&|_| ()))
    }
}
