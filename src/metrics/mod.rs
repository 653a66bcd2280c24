//! Pure accumulators of quality figures: feed batches with `add`, read the figure once at the end.
//!
//! Images enter as 8-bit values (see [`to_8bit`]), for that is what a viewer shows and what papers compare. Sums and
//! counts are accumulated and divided once, so a figure doesn't depend on how the images were batched. Sums stay on
//! the device of the images: `add` doesn't wait for it, reading a figure does.

mod codebook;
mod fid;
mod joint;
mod l1;
mod psnr;
mod ssim;

use tch::{Kind, Tensor};

pub use codebook::{CodebookFigures, CodebookUse};
pub use fid::{FeatureStatistics, FrechetError, frechet_distance};
pub use joint::{JointFigures, JointUse};
pub use l1::L1;
pub use psnr::Psnr;
pub use ssim::Ssim;

/// 8-bit values of an image in -1..1: round((x + 1) * 127.5), clamped to 0..=255, ties to even.
///
/// What a value that is not a number becomes is unspecified: check for it before.
///
/// # Shapes
/// Any, floating point -> the same, uint8.
pub fn to_8bit(x: &Tensor) -> Tensor {
    // float32 first: a bfloat16 product would miss 8-bit levels.
    let levels = (x.detach().to_kind(Kind::Float) + 1.0) * 127.5;
    levels.round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// Mean of one float64 value per image.
#[derive(Debug, Default)]
struct ImageMean {
    /// Scalar float64, on the device of the first batch.
    sum: Option<Tensor>,
    images: i64,
}

impl ImageMean {
    /// `values`: `[B]` float64.
    fn add(&mut self, values: &Tensor) {
        let batch_sum = values.sum(Kind::Double);
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + batch_sum,
            None => batch_sum,
        });
        self.images += values.size()[0];
    }

    /// `None` without images. Waits for the device.
    fn value(&self) -> Option<f64> {
        let sum = self.sum.as_ref().filter(|_| self.images > 0)?;
        Some(sum.double_value(&[]) / self.images as f64)
    }
}

/// Differences between two batches of 8-bit images, in levels.
///
/// # Shapes
/// `a`, `b`: `[B, 3, H, W]` uint8 -> the same, int32.
///
/// # Panics
/// When the shapes differ: broadcasting would compare one image with a whole batch.
fn differences(a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.size(), b.size(), "images and reconstructions differ in shape");
    a.to_kind(Kind::Int) - b.to_kind(Kind::Int)
}

/// Per-image mean of an integer per value, exact up to the one division.
///
/// # Shapes
/// `values`: `[B, 3, H, W]` int32 -> `[B]` float64.
fn image_means(values: &Tensor) -> Tensor {
    let per_image: i64 = values.size()[1..].iter().product();
    values.sum_dim_intlist([1, 2, 3].as_slice(), false, Kind::Int64).to_kind(Kind::Double) / per_image as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_8bit_level_survives_the_float_range() {
        let levels = Tensor::arange(256, (Kind::Float, tch::Device::Cpu));
        let restored = to_8bit(&(&levels / 127.5 - 1.0));
        assert_eq!(Vec::<u8>::try_from(restored).unwrap(), (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn values_outside_the_range_are_clamped_and_halves_round_to_even() {
        // (x + 1) * 127.5 = -127.5, 0, 127.5, 255, 382.5
        let x = Tensor::from_slice(&[-2.0f32, -1.0, 0.0, 1.0, 2.0]);
        assert_eq!(Vec::<u8>::try_from(to_8bit(&x)).unwrap(), [0, 0, 128, 255, 255]);
        assert_eq!(Vec::<u8>::try_from(to_8bit(&x.to_kind(Kind::BFloat16))).unwrap(), [0, 0, 128, 255, 255]);
    }

    #[test]
    fn a_mean_does_not_depend_on_the_batches() {
        let values = Tensor::from_slice(&[1.0f64, 2.0, 6.0]);
        let (mut whole, mut parts) = (ImageMean::default(), ImageMean::default());
        assert_eq!(whole.value(), None);
        whole.add(&values);
        parts.add(&values.narrow(0, 0, 2));
        parts.add(&values.narrow(0, 2, 1));
        assert_eq!(whole.value(), Some(3.0));
        assert_eq!(parts.value(), whole.value());
    }

    #[test]
    #[should_panic(expected = "differ in shape")]
    fn different_shapes_are_refused() {
        let image = |batch| Tensor::zeros([batch, 3, 5, 7], (Kind::Uint8, tch::Device::Cpu));
        let _ = differences(&image(1), &image(2));
    }
}
