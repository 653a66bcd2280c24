//! The metrics that an evaluation computes.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

use crate::metrics::{ImageMetric, L1, MsSsim, PerceptualDistance, Psnr, Ssim, Ssimulacra2};
use crate::pretrained::{Backbone, Inception, Lpips};
use pixtok_report::definition;

/// A metric of image quality, by its name.
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
}

fn no_metric(text: &str) -> String {
    let names = <Metric as VariantNames>::VARIANTS.join(", ");
    format!("\"{text}\" is not a metric; choose from {names}")
}

/// The metrics of an evaluation, ready to compute.
#[derive(Default)]
pub struct Measures {
    /// The metrics that have a value for each image.
    pub images: Vec<Box<dyn ImageMetric>>,
    /// The network for the Fréchet distance, if that is requested.
    pub inception: Option<Inception>,
    /// The metrics that cannot be computed, each with the reason.
    pub missing: Vec<(&'static str, String)>,
    /// Whether to compute bootstrap intervals and the compressed size of tokens too.
    pub thorough: bool,
}

/// The pretrained networks that some metrics need.
#[derive(Debug, Default)]
pub struct Networks {
    /// Networks for LPIPS, at most one for each backbone.
    pub lpips: Vec<Lpips>,
    /// The network for the Fréchet distance.
    pub inception: Option<Inception>,
}

impl Measures {
    /// The metrics that cost almost nothing compared with encoding and decoding, for evaluations
    /// during training.
    #[must_use]
    pub fn cheap() -> Self {
        Self { images: vec![Box::new(Psnr), Box::new(Ssim), Box::new(L1)], ..Self::default() }
    }

    /// The requested metrics, as far as their networks are given.
    #[must_use]
    pub fn of(metrics: &[Metric], mut networks: Networks) -> Self {
        let mut measures = Self { thorough: true, ..Self::default() };
        for metric in metrics {
            match metric {
                Metric::PsnrDb => measures.images.push(Box::new(Psnr)),
                Metric::Ssim => measures.images.push(Box::new(Ssim)),
                Metric::MsSsim => measures.images.push(Box::new(MsSsim)),
                Metric::L1 => measures.images.push(Box::new(L1)),
                Metric::Ssimulacra2 => measures.images.push(Box::new(Ssimulacra2)),
                Metric::LpipsAlex => measures.lpips(*metric, Backbone::Alex, &mut networks),
                Metric::LpipsVgg => measures.lpips(*metric, Backbone::Vgg, &mut networks),
                Metric::Rfid => match networks.inception.take() {
                    Some(inception) => measures.inception = Some(inception),
                    None => {
                        measures.missing.push((metric.name(), "no weights: --fid-weights gives them".into()))
                    }
                },
            }
        }
        measures
    }

    fn lpips(&mut self, metric: Metric, backbone: Backbone, networks: &mut Networks) {
        match networks.lpips.iter().position(|lpips| lpips.backbone() == backbone) {
            Some(place) => self.images.push(Box::new(PerceptualDistance(networks.lpips.swap_remove(place)))),
            None => self.missing.push((metric.name(), "no weights: --lpips-weights gives them".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn names_are_those_of_json() {
        let error = "psnr".parse::<Metric>().unwrap_err();
        assert_eq!(
            error,
            "\"psnr\" is not a metric; choose from psnr_db, ssim, ms_ssim, l1, ssimulacra2, lpips_alex, lpips_vgg, rfid"
        );
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(*metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
            assert!(definition(metric.name()).is_some(), "{metric}");
        }
    }

    #[test]
    fn a_metric_is_had_from_its_least_side_on() {
        let found: Vec<i64> = Metric::ALL.iter().map(|metric| metric.least_side()).collect();
        assert_eq!(found, [1, 11, 176, 1, 113, 31, 16, 1]);
        for metric in Measures::of(Metric::ALL, Networks::default()).images {
            let least = definition(metric.name()).unwrap().least_side;
            let measured = |height, width| {
                let image = Tensor::full([1, 3, height, width], 7, (Kind::Uint8, Device::Cpu));
                metric.measure(&image, &image)
            };
            assert!(measured(least, least + 3).is_ok(), "{}", metric.name());
            let small = least - 1;
            if small > 0 {
                let absent = measured(least + 3, small).unwrap_err();
                assert_eq!(absent.0, format!("images under {least} px a side"), "{}", metric.name());
            }
        }
    }
}
