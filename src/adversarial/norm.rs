//! The normalisations of a discriminator.

use serde::{Deserialize, Serialize};
use tch::nn::Module;
use tch::{Kind, Tensor};

use crate::layers::{GROUP_NORM_EPS, GroupNorm, norm_groups};
use crate::variables::{Init, Scope};
use crate::world::World;
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
    /// no running averages, because a discriminator is never evaluated. `sync_norm` says whether
    /// several processes normalise over the images of all.
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
    Batch { weight: Tensor, bias: Tensor, sync: bool },
    Group(GroupNorm),
    Actnorm { location: Tensor, scale: Tensor },
}

impl Norm {
    /// With `sync`, [`NormKind::Batch`] normalises over the images of all processes.
    pub fn new(path: &Scope, kind: NormKind, channels: i64, sync: bool) -> Self {
        match kind {
            NormKind::Batch => {
                // pix2pix's initialisation.
                let init = Init::Gaussian { mean: 1.0, deviation: 0.02 };
                let weight = path.norm("weight", &[channels], init);
                Self::Batch { weight, bias: path.norm("bias", &[channels], Init::Zeros), sync }
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

    /// All processes of `world` call it at the same time, each with as many images of its own.
    ///
    /// # Shapes
    /// `[B, C, h, w]` -> the same.
    pub fn forward(&self, x: &Tensor, world: &World) -> Tensor {
        match self {
            Self::Batch { weight, bias, sync: true } if world.size() > 1 => {
                batch_norm_over(world, x, weight, bias)
            }
            Self::Batch { weight, bias, .. } => x.batch_norm(
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

    /// Initialises what depends on data from `x` of all processes, before the first step.
    pub fn start(&self, x: &Tensor, world: &World) {
        let Self::Actnorm { location, scale } = self else { return };
        let by_channel = x.to_kind(Kind::Float).transpose(0, 1).flatten(1, -1);
        let numbers = (by_channel.size()[1] * i64::from(world.size())) as f64;
        let over_all =
            |x: &Tensor| world.all_mean(&x.mean_dim([1].as_slice(), /* keepdim */ true, Kind::Float));
        let moments = |value: Tensor| value.view([-1, 1, 1]);
        no_grad(|| {
            let mean = over_all(&by_channel);
            // Unbiased, as in taming-transformers.
            let variance = over_all(&(&by_channel - &mean).square()) * (numbers / (numbers - 1.0));
            location.shallow_clone().copy_(&moments(-mean));
            scale.shallow_clone().copy_(&moments(1.0 / (variance.sqrt() + ACTNORM_EPS)));
        });
    }
}

/// Batch norm over the images of all processes, which have as many each, in float32. As libtorch's,
/// it uses the biased variance and returns the kind of `x`. It can be differentiated twice, which
/// R1 needs.
///
/// # Shapes
/// `x [B, C, h, w]`, `weight [C]`, `bias [C]` -> `[B, C, h, w]`.
fn batch_norm_over(world: &World, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    // Processes have as many numbers each, so the mean of their means is that of all numbers.
    let over_all = |x: &Tensor| {
        world.all_mean(&x.mean_dim([0, 2, 3].as_slice(), /* keepdim */ true, Kind::Float))
    };
    let of_channels = |values: &Tensor| values.view([1, -1, 1, 1]);
    let wide = x.to_kind(Kind::Float);
    let centred = &wide - over_all(&wide);
    let variance = over_all(&centred.square());
    let normal = centred * (variance + EPS).rsqrt();
    (normal * of_channels(weight) + of_channels(bias)).to_kind(x.kind())
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
            let norm = Norm::new(&store.root(Component::Discriminator), kind, 8, true);
            norm.start(&x, World::alone());
            let y = norm.forward(&x, World::alone());
            assert_eq!(y.size(), x.size());
            assert!(y.mean(Kind::Float).abs().double_value(&[]) < 0.01, "{kind:?}");
            assert!((y.std(false).double_value(&[]) - 1.0).abs() < 0.05, "{kind:?}");
        }
    }

    /// In one process it is libtorch's, with its gradients and the gradients of these.
    #[test]
    fn batch_norm_over_processes_is_the_usual_one_in_one() {
        tch::manual_seed(5);
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let x = (draw(&[3, 8, 5, 7]) * 3.0 + 2.0).set_requires_grad(true);
        let weight = (draw(&[8]) * 0.2 + 1.0).set_requires_grad(true);
        let (bias, g) = (draw(&[8]).set_requires_grad(true), draw(&[3, 8, 5, 7]));
        let derived = |y: &Tensor| {
            let inputs = [&x, &weight, &bias];
            let first = Tensor::run_backward(&[(y * &g).sum(Kind::Float)], &inputs, true, true);
            let penalty = first[0].square().sum(Kind::Float);
            let second = Tensor::run_backward(&[penalty], &inputs[..2], false, false);
            first.into_iter().chain(second).map(|gradient| gradient.detach()).collect::<Vec<_>>()
        };
        let ours = batch_norm_over(World::alone(), &x, &weight, &bias);
        let norm = Norm::Batch { weight: weight.shallow_clone(), bias: bias.shallow_clone(), sync: true };
        let usual = norm.forward(&x, World::alone());
        let off = |a: &Tensor, b: &Tensor| ((a - b).abs().max() / b.abs().max()).double_value(&[]);
        assert!(off(&ours, &usual) < 1e-5);
        for (i, (ours, usual)) in derived(&ours).iter().zip(derived(&usual)).enumerate() {
            assert!(off(ours, &usual) < 1e-4, "gradient {i} is off by {:e}", off(ours, &usual));
        }
    }
}
