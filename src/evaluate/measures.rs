//! The metrics that an evaluation computes.

use crate::metrics::{Computation, ImageMetric, L1, Metric, PerceptualDistance, Psnr, Ssim};
use crate::pretrained::{Backbone, Inception, Lpips};

/// The metrics of an evaluation, ready to compute.
#[derive(Default)]
pub struct Measures {
    /// The metrics that have a value for each image.
    pub images: Vec<Box<dyn ImageMetric>>,
    /// The network for the Fréchet distance, if that is requested.
    pub inception: Option<Inception>,
    /// The metrics that cannot be computed, each with the reason.
    pub missing: Vec<(&'static str, String)>,
    /// How many of the first tokens of an image are decoded, ascending, besides all of them.
    pub prefixes: Vec<u32>,
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
        for &metric in metrics {
            match metric.computation() {
                Computation::Image(computed) => measures.images.push(computed),
                Computation::Lpips(backbone) => measures.lpips(metric, backbone, &mut networks),
                Computation::Frechet => match networks.inception.take() {
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
