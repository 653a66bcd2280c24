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

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};
use tch::{Kind, Tensor};

pub use bootstrap::{ResampledMeans, interval};
pub use codebook::{CodebookFigures, CodebookUse};
pub use fid::{FeatureStatistics, FrechetError, frechet_distance};
pub use joint::{JointFigures, JointUse};
pub use l1::L1;
pub use lpips::PerceptualDistance;
pub use psnr::{Psnr, mean_psnr};
pub use ssim::Ssim;
pub use stream::{StreamFigures, StreamSums, TokenStream};

use crate::pretrained::Backbone;
use pixtok_report::definition;

/// A metric of image quality, by its name. What its figure means is in
/// [`DEFINITIONS`](pixtok_report::DEFINITIONS).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = no_metric)]
pub enum Metric {
    /// Peak signal-to-noise ratio.
    PsnrDb,
    /// Structural similarity.
    Ssim,
    /// Structural similarity over five scales.
    MsSsim,
    /// Mean absolute error.
    L1,
    /// SSIMULACRA 2.
    Ssimulacra2,
    /// LPIPS with AlexNet. Needs a weight file.
    LpipsAlex,
    /// LPIPS with VGG16. Needs a weight file.
    LpipsVgg,
    /// Fréchet distance to the originals. Needs a weight file.
    Rfid,
}

/// How a metric is computed.
pub enum Computation {
    /// For each image, without weights.
    Image(Box<dyn ImageMetric>),
    /// For each image, as [`PerceptualDistance`] with this network.
    Lpips(Backbone),
    /// For the whole set, from features of the Inception network.
    Frechet,
}

impl Metric {
    /// All metrics, in the order of the tables.
    pub const ALL: &'static [Self] = <Self as VariantArray>::VARIANTS;

    /// The name in JSON and in `--metrics`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The least height and width of images, in pixels, for which the metric can be computed.
    #[must_use]
    pub fn least_side(self) -> i64 {
        definition(self.name()).map_or(1, |known| known.least_side)
    }

    /// How it is computed.
    #[must_use]
    pub fn computation(self) -> Computation {
        match self {
            Self::PsnrDb => Computation::Image(Box::new(Psnr)),
            Self::Ssim => Computation::Image(Box::new(Ssim)),
            Self::MsSsim => Computation::Image(Box::new(ms_ssim::MsSsim)),
            Self::L1 => Computation::Image(Box::new(L1)),
            Self::Ssimulacra2 => Computation::Image(Box::new(ssimulacra2::Ssimulacra2)),
            Self::LpipsAlex => Computation::Lpips(Backbone::Alex),
            Self::LpipsVgg => Computation::Lpips(Backbone::Vgg),
            Self::Rfid => Computation::Frechet,
        }
    }
}

fn no_metric(text: &str) -> String {
    let names = <Metric as VariantNames>::VARIANTS.join(", ");
    format!("\"{text}\" is not a metric; choose from {names}")
}

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
    use pixtok_report::DEFINITIONS;
    use tch::Device;

    use super::*;

    #[test]
    fn names_and_order_are_those_of_the_definitions() {
        let error = "psnr".parse::<Metric>().unwrap_err();
        assert!(error.starts_with("\"psnr\" is not a metric; choose from psnr_db, ssim, "), "{error}");
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(*metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
            assert!(definition(metric.name()).is_some(), "{metric} has no definition");
            if let Computation::Image(computed) = metric.computation() {
                assert_eq!(computed.name(), metric.name());
            }
        }
        let place = |metric: &Metric| DEFINITIONS.iter().position(|known| known.name == metric.name());
        assert!(Metric::ALL.is_sorted_by_key(place), "the tables have another order than {:?}", Metric::ALL);
    }

    #[test]
    fn a_metric_is_had_from_its_least_side_on() {
        for metric in Metric::ALL {
            let least = metric.least_side();
            let computed = match metric.computation() {
                Computation::Image(computed) => computed,
                Computation::Lpips(network) => {
                    assert_eq!(network.min_side(), least, "{metric}");
                    continue;
                }
                Computation::Frechet => continue,
            };
            let measured = |height, width| {
                let image = Tensor::full([1, 3, height, width], 7, (Kind::Uint8, Device::Cpu));
                computed.measure(&image, &image)
            };
            assert!(measured(least, least + 3).is_ok(), "{metric}");
            let small = least - 1;
            if small > 0 {
                let absent = measured(least + 3, small).unwrap_err();
                assert_eq!(absent.0, format!("images under {least} px a side"), "{metric}");
            }
        }
    }

    /// The page is written by hand.
    #[test]
    fn the_page_has_every_metric_with_its_least_side() {
        let page = include_str!("../../docs/evaluation.md");
        for metric in Metric::ALL {
            let start = format!("| `{metric}` | ");
            let row = page.lines().find_map(|line| line.strip_prefix(&start));
            let least = row.and_then(|row| row.split(" | ").nth(1));
            assert_eq!(
                least,
                Some(metric.least_side().to_string().as_str()),
                "{metric} in docs/evaluation.md"
            );
        }
    }

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
