//! The normalisations of a discriminator.

use serde::{Deserialize, Serialize};
use tch::nn::Module;
use tch::{Kind, Tensor};

use crate::layers::{GROUP_NORM_EPS, GroupNorm, norm_groups};
use crate::variables::{Init, Scope};
use pixtok_torch::no_grad;

/// Added to the variance of a batch.
const EPS: f64 = 1e-5;
/// Added to the standard deviation of a channel, as in Glow and taming-transformers.
const ACTNORM_EPS: f64 = 1e-6;

/// How a discriminator's features are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// Over the batch, separately for images and reconstructions (Ioffe & Szegedy 2015). There are
    /// no running averages, because a discriminator is never evaluated.
    #[default]
    Batch,
    /// Over groups of channels of each image.
    Group,
    /// A learned scale and shift of each channel, initialised so that the first images are
    /// normalised (Kingma & Dhariwal 2018, arXiv 1807.03039).
    Actnorm,
}

#[derive(Debug)]
pub(super) enum Norm {
    Batch { weight: Tensor, bias: Tensor },
    Group(GroupNorm),
    Actnorm { location: Tensor, scale: Tensor },
}

impl Norm {
    pub fn new(path: &Scope, kind: NormKind, channels: i64) -> Self {
        match kind {
            NormKind::Batch => {
                // pix2pix's initialisation.
                let init = Init::Gaussian { mean: 1.0, deviation: 0.02 };
                let weight = path.norm("weight", &[channels], init);
                Self::Batch { weight, bias: path.norm("bias", &[channels], Init::Zeros) }
            }
            NormKind::Group => {
                Self::Group(GroupNorm::new(path, norm_groups(channels), channels, GROUP_NORM_EPS))
            }
            NormKind::Actnorm => Self::Actnorm {
                location: path.norm("location", &[channels, 1, 1], Init::Zeros),
                scale: path.norm("scale", &[channels, 1, 1], Init::Ones),
            },
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Batch { weight, bias } => x.batch_norm(
                Some(weight),
                Some(bias),
                None::<&Tensor>,
                None::<&Tensor>,
                /* training */ true,
                /* momentum */ 0.0,
                EPS,
                /* cudnn_enabled */ true,
            ),
            Self::Group(norm) => norm.forward(x),
            Self::Actnorm { location, scale } => scale * (x + location),
        }
    }

    /// Initialises what depends on data from `x`, before the first step.
    pub fn start(&self, x: &Tensor) {
        let Self::Actnorm { location, scale } = self else { return };
        let by_channel = x.to_kind(Kind::Float).transpose(0, 1).flatten(1, -1);
        let moments = |value: Tensor| value.view([-1, 1, 1]);
        no_grad(|| {
            location.shallow_clone().copy_(&moments(-by_channel.mean_dim(
                [1].as_slice(),
                false,
                Kind::Float,
            )));
            let deviation = by_channel.std_dim([1].as_slice(), true, false);
            scale.shallow_clone().copy_(&moments(1.0 / (deviation + ACTNORM_EPS)));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use tch::Device;

    #[test]
    fn each_kind_normalises_at_its_start() {
        tch::manual_seed(4);
        let x = Tensor::randn([3, 8, 5, 7], (Kind::Float, Device::Cpu)) * 3.0 + 2.0;
        for kind in [NormKind::Batch, NormKind::Group, NormKind::Actnorm] {
            let store = Variables::new(Device::Cpu);
            let norm = Norm::new(&store.root(Component::Discriminator), kind, 8);
            norm.start(&x);
            let y = norm.forward(&x);
            assert_eq!(y.size(), x.size());
            assert!(y.mean(Kind::Float).abs().double_value(&[]) < 0.01, "{kind:?}");
            assert!((y.std(false).double_value(&[]) - 1.0).abs() < 0.05, "{kind:?}");
        }
    }
}
