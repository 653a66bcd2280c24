//! Buckets of aspect: training images of several sizes, each batch of one of them
//! (`data.buckets`).
//!
//! **Which size an image has.** The sizes are a list in the config. An image belongs to the bucket
//! whose aspect is nearest to that of its picture, in the ratio of the two. It is resized to the
//! smallest size that covers the bucket, and what juts out at one pair of sides is cut off, so no
//! picture loses more than its bucket needs. `sizes` reads the pictures' sizes once from their
//! headers, before the first batch. A picture whose size cannot be read belongs to the bucket of
//! `data.image_size`, where it turns out to be bad when its turn comes.
//!
//! **In which batches.** `deal` goes through an epoch's order, which is the same as without
//! buckets, and lays each image onto the pile of its bucket. A pile as high as a batch becomes the
//! next batch. So batches of all sizes alternate as the images do, and images from archives are
//! still read near each other. What is left on the piles stays there for the next epoch: no image
//! is dropped or repeated, and each has its turn once an epoch. The batches of an epoch are a
//! function of (seed, epoch, batch size), whatever happened before, since the number of images on
//! each pile is. Each of several processes takes its part of every batch.
//!
//! **Bad images.** In a batch the place of an image that cannot be used is taken by another image
//! of its bucket, which is drawn from (seed, epoch, image). If the bucket has none that can be
//! used, it is one of the bucket with the nearest aspect, cut to this size. So bad images move
//! nothing, even if only one of several processes can't read them, and a
//! [`Cursor`](super::Cursor) of whole batches leads any number of processes to the same place.
//!
//! `data.image_size` is one of the sizes. Evaluations, sample sheets and exports use only this one.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::config::require;
use super::{Config, Crop, DataError, ImageSize};
use pixtok_base::MAX_SIDE;

/// The most buckets, since the bucket of an image is kept in one byte.
const MOST: usize = 256;

/// The images of a data set by bucket.
#[derive(Debug)]
pub(super) struct Buckets {
    sizes: Vec<ImageSize>,
    /// The bucket of each image.
    of: Vec<u8>,
    /// The images of each bucket, in ascending order.
    images: Vec<Vec<u32>>,
}

impl Buckets {
    /// The buckets of a config for pictures of these widths and heights; 0 for a size that is
    /// unknown.
    pub(super) fn new(config: &Config, pictures: &[[u32; 2]]) -> Self {
        let sizes = config.sizes().to_vec();
        let own = sizes.iter().position(|size| *size == config.image_size).unwrap_or(0);
        let mut images = vec![vec![]; sizes.len()];
        let mut bucket = |(image, picture): (usize, &[u32; 2])| {
            let bucket = if picture.contains(&0) { own } else { nearest(&sizes, *picture) };
            images[bucket].push(image as u32);
            bucket as u8
        };
        let of = pictures.iter().enumerate().map(&mut bucket).collect();
        Self { sizes, of, images }
    }

    /// The sizes of the buckets.
    pub(super) fn sizes(&self) -> &[ImageSize] {
        &self.sizes
    }

    /// A hash (blake3, hexadecimal) of the bucket of each image.
    pub(super) fn digest(&self) -> String {
        blake3::hash(&self.of).to_hex().to_string()
    }

    /// The bucket of an image.
    pub(super) fn bucket_of(&self, image: u32) -> usize {
        usize::from(self.of[image as usize])
    }

    /// The images of a bucket, in ascending order.
    pub(super) fn images_of(&self, bucket: usize) -> &[u32] {
        &self.images[bucket]
    }

    /// All buckets, those first whose aspects are nearest to that of `bucket`, which is the first.
    pub(super) fn nearest_to(&self, bucket: usize) -> Vec<usize> {
        let ImageSize { height, width } = self.sizes[bucket];
        let mut nearest: Vec<usize> = (0..self.sizes.len()).collect();
        nearest.sort_by(|&a, &b| compare(self.sizes[a], self.sizes[b], [width, height]));
        nearest
    }
}

/// The size whose aspect is nearest to that of a picture with this width and height; the first one
/// if two are as near. The comparison is exact, so that all processors agree.
fn nearest(sizes: &[ImageSize], picture: [u32; 2]) -> usize {
    let mut best = 0;
    for (bucket, size) in sizes.iter().enumerate() {
        if compare(*size, sizes[best], picture) == Ordering::Less {
            best = bucket;
        }
    }
    best
}

/// Whether the aspect of `a` is nearer (`Less`) to that of a picture with this width and height
/// than the aspect of `b` is.
fn compare(a: ImageSize, b: ImageSize, [width, height]: [u32; 2]) -> Ordering {
    // The aspects' quotient, at least 1, as a fraction.
    let quotient = |size: ImageSize| {
        let a = u128::from(width) * u128::from(size.height);
        let b = u128::from(height) * u128::from(size.width);
        (a.max(b), a.min(b))
    };
    let (a, b) = (quotient(a), quotient(b));
    (a.0 * b.1).cmp(&(b.0 * a.1))
}

/// Checks the settings that go with buckets, if there are any.
pub(super) fn check(config: &Config) -> Result<(), DataError> {
    let Some(sizes) = &config.buckets else { return Ok(()) };
    let listed = list(sizes);
    require((1..=MOST).contains(&sizes.len()), "data.buckets", &listed, || {
        format!(
            "a list of 1 to {MOST} sizes, like [64, [48, 80], [80, 48]]; leave it out to have all images of \
             data.image_size"
        )
    })?;
    for (at, size) in sizes.iter().enumerate() {
        let (least, most) = (size.height.min(size.width), size.height.max(size.width));
        require(least >= 1 && most <= MAX_SIDE, "data.buckets", &listed, || {
            format!("sizes from 1 to {MAX_SIDE} pixels a side, unlike {size}")
        })?;
        let same = |other: &&ImageSize| {
            u64::from(other.height) * u64::from(size.width) == u64::from(size.height) * u64::from(other.width)
        };
        if let Some(other) = sizes[..at].iter().find(same) {
            require(false, "data.buckets", &listed, || {
                format!(
                    "sizes of different aspects, and {other} and {size} have the same; leave one of them out"
                )
            })?;
        }
    }
    require(sizes.contains(&config.image_size), "data.image_size", config.image_size, || {
        format!("one of data.buckets, which are {listed}")
    })?;
    if let Some(resize) = config.resize {
        require(false, "data.resize", resize, || {
            "absent with data.buckets, where a picture is resized to the smallest size that covers its bucket"
                .to_owned()
        })?;
    }
    require(!matches!(config.crop, Crop::RandomResized { .. }), "data.crop.kind", "random-resized", || {
        "random or centre with data.buckets, so that no more of a picture is cut off than its bucket needs"
            .to_owned()
    })
}

/// `[64, [48, 80]]`
fn list(sizes: &[ImageSize]) -> String {
    let mut list = "[".to_owned();
    for (at, size) in sizes.iter().enumerate() {
        let _ = write!(list, "{}{size}", if at > 0 { ", " } else { "" });
    }
    list + "]"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(sides: &[(u32, u32)]) -> Vec<ImageSize> {
        sides.iter().map(|&(height, width)| ImageSize { height, width }).collect()
    }

    #[test]
    fn the_nearest_aspect_is_found_by_its_ratio() {
        let sizes = sizes(&[(64, 64), (32, 128), (128, 32), (64, 96)]);
        for ((width, height), bucket) in [
            ((10, 10), 0),
            ((4000, 1000), 1),
            ((1000, 4000), 2),
            ((3, 2), 3),
            // 2.0 is as far from 4 as from 1, and nearest to 1.5.
            ((20, 10), 3),
            // 0.5 is as far from 0.25 as from 1: the first.
            ((10, 20), 0),
            ((10, 21), 2),
            ((u32::MAX, 1), 1),
            // The geometric mean of 1.5 and 4 is 2.449.
            ((2449, 1000), 3),
            ((2450, 1000), 1),
        ] {
            assert_eq!(nearest(&sizes, [width, height]), bucket, "{width}×{height}");
        }
    }

    #[test]
    fn images_are_grouped_and_unknown_ones_are_with_the_image_size() {
        let buckets = Some(sizes(&[(48, 80), (64, 64), (80, 48)]));
        let config = Config { buckets, ..Config::default() };
        let found = Buckets::new(&config, &[[5, 3], [3, 5], [0, 0], [4, 4], [50, 30]]);
        let images = [0, 1, 2].map(|bucket| found.images_of(bucket).to_vec());
        assert_eq!(images, [vec![0, 4], vec![2, 3], vec![1]]);
        assert_eq!((0..5).map(|image| found.bucket_of(image)).collect::<Vec<_>>(), [0, 2, 1, 1, 0]);
        assert_eq!(found.sizes().len(), 3);
        // 5:3, 1:1 and 3:5.
        assert_eq!([0, 1, 2].map(|bucket| found.nearest_to(bucket)), [[0, 1, 2], [1, 0, 2], [2, 1, 0]]);
        // Without buckets there is one.
        let whole = Buckets::new(&Config::default(), &[[5, 3], [3, 5]]);
        assert_eq!((whole.sizes(), whole.images_of(0)), (&[config.image_size][..], &[0, 1][..]));
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let of = |sides: &[(u32, u32)]| Config { buckets: Some(sizes(sides)), ..Config::default() };
        let good = of(&[(64, 64), (48, 80), (80, 48)]);
        good.check().unwrap();
        let random_resized = Crop::RandomResized { scale: [0.5, 1.0], ratio: [1.0, 1.0] };
        for (config, part) in [
            (of(&[]), "data.buckets = []: must be a list of 1 to 256 sizes"),
            (of(&[(64, 64), (0, 8)]), "data.buckets = [64, [0, 8]]: must be sizes from 1 to"),
            (of(&[(64, 64), (48, 80), (24, 40)]), "and [48, 80] and [24, 40] have the same"),
            (of(&[(48, 80)]), "data.image_size = 64: must be one of data.buckets, which are [[48, 80]]"),
            (
                Config { resize: Some(96), ..good.clone() },
                "data.resize = 96: must be absent with data.buckets",
            ),
            (
                Config { crop: random_resized, ..good.clone() },
                "data.crop.kind = random-resized: must be random or centre with data.buckets",
            ),
        ] {
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
