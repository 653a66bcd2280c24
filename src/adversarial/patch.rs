//! PatchGAN (Isola et al. 2017, arXiv 1611.07004), as in VQGAN.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::Module;

use super::AdversarialError;
use super::discriminator::{Discriminator, SLOPE, in_range};
use super::norm::{Norm, NormKind};
use crate::layers::{Conv2d, norm_groups};
use crate::variables::{Init, Scope};
use crate::world::World;
use pixtok_torch::{in_full_precision, leaky_relu, no_grad};

/// Kernel size of every convolution.
const KERNEL: i64 = 4;
/// The largest number of channels, as a multiple of the first layer's.
const WIDEST: i64 = 8;
/// The number of positions that the last two convolutions, which have stride 1, remove per axis.
const LOST: i64 = 2;

/// Settings of a PatchGAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Channels of the first layer. Each later layer has twice as many, up to eight times.
    pub channels: i64,
    /// The number of convolutions with stride 2. The side of a patch is about 16 pixels with one,
    /// 70 with three.
    pub layers: i64,
    /// The normalisation after all convolutions but the first and the last.
    pub norm: NormKind,
    /// Whether `norm = "batch"` normalises over the images of all processes that train together, as
    /// one process with the whole batch would. That costs two small exchanges for each layer and
    /// pass. It changes nothing in one process, or with another norm.
    #[serde(skip_serializing_if = "is_on")]
    pub sync_norm: bool,
}

/// A switch that is on by default is written only where it is off, so that the configs of earlier
/// runs stay as they were.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_on(switch: &bool) -> bool {
    *switch
}

impl Default for Config {
    fn default() -> Self {
        Self { channels: 64, layers: 3, norm: NormKind::default(), sync_norm: true }
    }
}

impl Config {
    pub(super) fn check(&self, (height, width): (i64, i64)) -> Result<(), AdversarialError> {
        in_range("channels", self.channels, 4..=4096)?;
        in_range("layers", self.layers, 1..=16)?;
        let undivided = |channels: &&i64| **channels % norm_groups(**channels) != 0;
        if self.norm == NormKind::Group
            && let Some(channels) = self.widths().iter().find(undivided)
        {
            return Err(AdversarialError::Config(format!(
                "adversarial.discriminator.channels is {}, which makes layers of {channels}, and {} groups do not divide them; take a \
                 multiple of 32, or a power of two",
                self.channels,
                norm_groups(*channels)
            )));
        }
        let side = height.min(width);
        if side >> self.layers <= LOST {
            let most = (1..=16_i64).take_while(|layers| side >> layers > LOST).count();
            let remedy = match most {
                0 => format!("images need {} pixels a side for the least", 2 * (LOST + 1)),
                _ => format!("set it to {most} or less"),
            };
            return Err(AdversarialError::Config(format!(
                "adversarial.discriminator.layers is {}, after which images of {side} pixels have no patch left; {remedy}",
                self.layers
            )));
        }
        Ok(())
    }

    /// The channels after each convolution but the last.
    fn widths(&self) -> Vec<i64> {
        (0..=self.layers).map(|layer| self.channels * (1 << layer.min(16)).min(WIDEST)).collect()
    }

    /// How many numbers one image keeps for the backward pass. A normalised layer keeps the
    /// convolution's result and the two inputs of norm and rectifier.
    pub(super) fn saved_per_image(&self, (height, width): (i64, i64)) -> i64 {
        let positions = |layer: usize| (height >> layer) * (width >> layer);
        let of_layer = |(layer, channels): (usize, i64)| {
            let size = positions((layer + 1).min(self.layers as usize));
            channels * size * if layer == 0 { 2 } else { 3 }
        };
        3 * height * width + self.widths().into_iter().enumerate().map(of_layer).sum::<i64>()
    }
}

#[derive(Debug)]
pub(super) struct Patch {
    layers: Vec<(Conv2d, Option<Norm>)>,
    last: Conv2d,
    looks_at_data: bool,
}

impl Patch {
    pub fn new(path: &Scope, config: &Config) -> Self {
        let mut from = 3;
        let layers = config.widths().into_iter().enumerate().map(|(layer, to)| {
            let path = path / format!("layer{layer}");
            let normed = layer > 0;
            let stride = if (layer as i64) < config.layers { 2 } else { 1 };
            // A batch norm removes any bias before it and adds its own shift.
            let bias = !(normed && config.norm == NormKind::Batch);
            let place = &path / "conv";
            let place = if layer == 0 { place.touching_pixels() } else { place };
            let conv = conv(&place, (from, to), stride, bias);
            from = to;
            (conv, normed.then(|| Norm::new(&(&path / "norm"), config.norm, to, config.sync_norm)))
        });
        let layers = layers.collect();
        let last = conv(&(path / "last"), (from, 1), 1, true);
        Self { layers, last, looks_at_data: config.norm == NormKind::Actnorm }
    }

    fn run(&self, images: &Tensor, world: &World, seen: impl Fn(&Norm, &Tensor)) -> Tensor {
        let x = self.layers.iter().fold(images.shallow_clone(), |x, (conv, norm)| {
            let x = conv.forward(&x);
            let Some(norm) = norm else { return leaky_relu(&x, SLOPE) };
            seen(norm, &x);
            leaky_relu(&norm.forward(&x, world), SLOPE)
        });
        self.last.forward(&x)
    }
}

impl Discriminator for Patch {
    fn logits(&self, images: &Tensor, world: &World) -> Tensor {
        self.run(images, world, |_, _| ())
    }

    /// In float32: autocast would cache weights that were cast without a graph, and the next step
    /// would use them.
    fn start(&self, images: &Tensor, world: &World) {
        if self.looks_at_data {
            let start = |norm: &Norm, x: &Tensor| norm.start(x, world);
            no_grad(|| in_full_precision(|| drop(self.run(images, world, start))));
        }
    }
}

/// A 4×4 convolution with pix2pix's initialisation: weights of standard deviation 0.02.
fn conv(path: &Scope, (from, to): (i64, i64), stride: i64, bias: bool) -> Conv2d {
    // The bias is drawn first, so that runs repeat from their seed.
    let bias = bias.then(|| path.bias("bias", to, Init::fan_in(from * KERNEL * KERNEL)));
    let init = Init::Gaussian { mean: 0.0, deviation: 0.02 };
    let weight = path.conv("weight", [to, from, KERNEL, KERNEL], init);
    Conv2d { weight, bias, stride, padding: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use tch::{Device, Kind};

    fn images(height: i64, width: i64) -> Tensor {
        Tensor::rand([2, 3, height, width], (Kind::Float, Device::Cpu)) * 2.0 - 1.0
    }

    #[test]
    fn the_published_size() {
        let store = Variables::new(Device::Cpu);
        let patch = Patch::new(&store.root(Component::Discriminator), &Config::default());
        // taming-transformers' NLayerDiscriminator() has the same number of parameters.
        assert_eq!(store.parameters(&[Component::Discriminator]), 2_765_633);
        assert_eq!(patch.logits(&images(64, 96), World::alone()).size(), [2, 1, 6, 10]);
    }

    #[test]
    fn as_many_layers_as_fit_and_no_more() {
        for norm in [NormKind::Batch, NormKind::Group, NormKind::Actnorm] {
            let deepest = Config { channels: 8, layers: 3, norm, ..Config::default() };
            deepest.check((24, 40)).unwrap();
            let store = Variables::new(Device::Cpu);
            let patch = Patch::new(&store.root(Component::Discriminator), &deepest);
            patch.start(&images(24, 40), World::alone());
            let logits = patch.logits(&images(24, 40), World::alone());
            assert_eq!(logits.size(), [2, 1, 1, 3]);
            assert!(logits.isfinite().all().int64_value(&[]) == 1);
        }
        let message = Config { layers: 4, ..Config::default() }.check((24, 40)).unwrap_err().to_string();
        assert!(message.contains("layers is 4") && message.ends_with("set it to 3 or less"), "{message}");
        let message = Config::default().check((4, 40)).unwrap_err().to_string();
        assert!(message.contains("need 6 pixels"), "{message}");
    }
}
