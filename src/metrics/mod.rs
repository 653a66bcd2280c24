//! Metrics of image quality, computed for each image ([`ImageMetric`]), and statistics that are
//! accumulated over a set, such as codebook use.
//!
//! Images are compared as 8-bit values (see [`to_8bit`]), because viewers show 8 bits and papers
//! compare 8 bits. A figure is a mean over images, so it does not depend on the batch size.

mod bootstrap;
mod codebook;
mod fid;
mod joint;
mod l1;
mod lpips;
mod ms_ssim;
mod psnr;
mod ssim;
mod ssimulacra2;
mod stream;

use tch::{Kind, Tensor};

pub use bootstrap::{ResampledMeans, interval};
pub use codebook::{CodebookFigures, CodebookUse};
pub use fid::{FeatureStatistics, FrechetError, frechet_distance};
pub use joint::{JointFigures, JointUse};
pub use l1::L1;
pub use lpips::PerceptualDistance;
pub use ms_ssim::MsSsim;
pub use psnr::{Psnr, mean_psnr};
pub use ssim::Ssim;
pub use ssimulacra2::Ssimulacra2;
pub use stream::{StreamFigures, TokenStream};

use crate::pretrained::Backbone;
use pixtok_report::definition::least_side;

// The table of figures states the least sides that these metrics derive.
const _: () = assert!(
    ssim::LEAST_SIDE == least_side::SSIM
        && ms_ssim::LEAST_SIDE == least_side::MS_SSIM
        && ssimulacra2::LEAST_SIDE == least_side::SSIMULACRA2
        && Backbone::Alex.min_side() == least_side::LPIPS_ALEX
        && Backbone::Vgg.min_side() == least_side::LPIPS_VGG
);

/// Converts images in [−1, 1] to 8-bit values: round((x + 1) * 127.5), ties to even, clamped to
/// 0..=255.
///
/// The result for NaN is unspecified; check for it first.
///
/// # Shapes
/// Any shape, floating point -> the same shape, uint8.
pub fn to_8bit(x: &Tensor) -> Tensor {
    // In float32: a bfloat16 product would miss some 8-bit levels.
    let levels = (x.detach().to_kind(Kind::Float) + 1.0) * 127.5;
    levels.round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// A metric that has one value for each image. The figure is its mean over images.
pub trait ImageMetric {
    /// The name in logs, tables and JSON.
    fn name(&self) -> &'static str;

    /// Computes one value for each pair. Does not wait for the device, unless the metric is
    /// computed on the CPU.
    ///
    /// # Shapes
    /// `originals`, `recons`: `[B, 3, H, W]` uint8 -> `[B]` float64.
    ///
    /// # Errors
    /// [`Absent`], if images of this size have no value.
    ///
    /// # Panics
    /// If the shapes differ. Broadcasting would compare one image with a whole batch.
    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent>;
}

/// The reason why there is no value, in words that complete "absent: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent(pub String);

impl Absent {
    /// Refuses `images` `[B, 3, H, W]` with a side of fewer than `least` pixels.
    fn under(least: i64, images: &Tensor) -> Result<(), Self> {
        let size = images.size();
        if size[2].min(size[3]) < least {
            return Err(Self(format!("images under {least} px a side")));
        }
        Ok(())
    }
}

/// The differences between two batches of 8-bit images, in levels.
///
/// # Shapes
/// `a`, `b`: `[B, 3, H, W]` uint8 -> `[B, 3, H, W]` int32.
///
/// # Panics
/// If the shapes differ. Broadcasting would compare one image with a whole batch.
fn differences(a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.size(), b.size(), "images and reconstructions differ in shape");
    a.to_kind(Kind::Int) - b.to_kind(Kind::Int)
}

/// The mean over each image of integer values. Only the final division rounds.
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
    #[should_panic(expected = "differ in shape")]
    fn different_shapes_are_refused() {
        let image = |batch| Tensor::zeros([batch, 3, 5, 7], (Kind::Uint8, tch::Device::Cpu));
        let _ = differences(&image(1), &image(2));
    }
}
