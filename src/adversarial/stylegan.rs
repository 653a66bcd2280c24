//! A discriminator similar to StyleGAN2's (Karras et al. 2020, arXiv 1912.04958): residual blocks
//! that halve a filtered image, a channel with the deviation over the batch, and one logit. It has
//! no equalised learning rate, because Adam's moments have the same effect.

use std::f64::consts::FRAC_1_SQRT_2;

use serde::{Deserialize, Serialize};
use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::AdversarialError;
use super::discriminator::{Discriminator, SLOPE, in_range};
use crate::layers::{Conv2d, conv, padded_conv};
use crate::variables::{Init, Scope};
use crate::world::World;
use pixtok_torch::leaky_relu;

/// The low-pass filter before each halving, along one axis.
const FILTER: [f32; 4] = [1.0 / 8.0, 3.0 / 8.0, 3.0 / 8.0, 1.0 / 8.0];
/// The side in pixels at which the blocks end.
const LAST_SIDE: i64 = 4;
/// The number of images in a group whose deviation is computed, if the batch size is divisible by
/// it.
const SPREAD_OVER: i64 = 4;

/// Settings of a discriminator like StyleGAN2's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Channels at full size; each halving doubles them.
    pub channels: i64,
    /// The largest number of channels.
    pub most_channels: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { channels: 64, most_channels: 512 }
    }
}

impl Config {
    pub(super) fn check(&self, (height, width): (i64, i64)) -> Result<(), AdversarialError> {
        in_range("channels", self.channels, 1..=4096)?;
        in_range("most_channels", self.most_channels, 1..=4096)?;
        let side = height.min(width);
        if side < 2 * LAST_SIDE {
            return Err(AdversarialError::Config(format!(
                "adversarial.discriminator.kind is stylegan, which needs images of {} pixels a side, and they have {side}; \
                 choose kind = \"patch\"",
                2 * LAST_SIDE
            )));
        }
        Ok(())
    }

    /// The channels at full size and after each halving.
    fn widths(&self, (height, width): (i64, i64)) -> Vec<i64> {
        let halvings = (height.min(width) / LAST_SIDE).ilog2();
        (0..=halvings).map(|halving| (self.channels << halving.min(16)).min(self.most_channels)).collect()
    }

    /// How many numbers one image keeps for the backward pass. A block keeps two rectified
    /// convolutions and both filtered inputs, at full and at half size.
    pub(super) fn saved_per_image(&self, image_size: (i64, i64)) -> i64 {
        let (mut pixels, mut saved) = (image_size.0 * image_size.1, 0);
        for pair in self.widths(image_size).windows(2) {
            saved += pixels * pair[0] * 5 + pixels / 4 * pair[1] * 3;
            pixels /= 4;
        }
        saved
    }
}

#[derive(Debug)]
struct Block {
    conv: Conv2d,
    down: Conv2d,
    shortcut: Conv2d,
}

#[derive(Debug)]
pub(super) struct Stylegan {
    stem: Conv2d,
    blocks: Vec<Block>,
    last: Conv2d,
    hidden: nn::Linear,
    out: nn::Linear,
    /// The 2-D filter, `[1, 1, 4, 4]`.
    filter: Tensor,
}

impl Stylegan {
    pub fn new(path: &Scope, config: &Config, image_size: (i64, i64)) -> Self {
        let widths = config.widths(image_size);
        let blocks = widths.windows(2).enumerate().map(|(i, pair)| {
            let path = path / format!("block{i}");
            // The input of the filter is padded, so that stride 2 halves its size.
            let unpadded =
                |name: &str, kernel: i64| padded_conv(&(&path / name), (pair[0], pair[1]), kernel, 2, 0);
            Block {
                conv: conv(&(&path / "conv"), pair[0], pair[0], 3, 1),
                down: unpadded("down", 3),
                shortcut: unpadded("shortcut", 1),
            }
        });
        let blocks: Vec<Block> = blocks.collect();
        let (widest, halvings) = (widths[widths.len() - 1], blocks.len());
        let positions = (image_size.0 >> halvings) * (image_size.1 >> halvings);
        let filter = Tensor::from_slice(&FILTER).to_device(path.device());
        Self {
            stem: conv(&(path / "stem").touching_pixels(), 3, widths[0], 1, 1),
            blocks,
            last: conv(&(path / "last"), widest + 1, widest, 3, 1),
            hidden: linear(&(path / "hidden"), widest * positions, widest),
            out: linear(&(path / "out"), widest, 1),
            filter: filter.outer(&filter).view([1, 1, 4, 4]),
        }
    }

    /// Filters each channel, with `padding` around it.
    fn filtered(&self, x: &Tensor, padding: i64) -> Tensor {
        let size = x.size();
        // Each channel is treated as a separate image.
        let planes = x.reshape([-1, 1, size[2], size[3]]);
        let filtered = planes.conv2d(&self.filter, None::<&Tensor>, [1, 1], [padding, padding], [1, 1], 1);
        let [height, width] = [2, 3].map(|axis: usize| filtered.size()[axis]);
        filtered.view([size[0], size[1], height, width])
    }
}

impl Discriminator for Stylegan {
    fn logits(&self, images: &Tensor, _world: &World) -> Tensor {
        let stem = leaky_relu(&self.stem.forward(images), SLOPE);
        let x = self.blocks.iter().fold(stem, |x, block| {
            let inner = leaky_relu(&block.conv.forward(&x), SLOPE);
            let inner = leaky_relu(&block.down.forward(&self.filtered(&inner, 2)), SLOPE);
            (inner + block.shortcut.forward(&self.filtered(&x, 1))) * FRAC_1_SQRT_2
        });
        let x = leaky_relu(&self.last.forward(&with_spread(&x)), SLOPE);
        self.out.forward(&leaky_relu(&self.hidden.forward(&x.flatten(1, -1)), SLOPE))
    }
}

/// Adds a channel: the standard deviation over some images of the batch, averaged over channels and
/// positions (Karras et al. 2018, arXiv 1710.10196). Each process has groups of its own images, as
/// in StyleGAN's code.
fn with_spread(x: &Tensor) -> Tensor {
    let (images, height, width) = (x.size()[0], x.size()[2], x.size()[3]);
    let together = if images % SPREAD_OVER == 0 { SPREAD_OVER } else { images };
    let groups = x.to_kind(Kind::Float).reshape([together, images / together, -1]);
    let deviation = (groups.var_dim([0].as_slice(), false, false) + 1e-8).sqrt();
    let spread = deviation.mean_dim([1].as_slice(), false, Kind::Float);
    let channel = spread.repeat([together]).view([images, 1, 1, 1]).expand([images, 1, height, width], false);
    Tensor::cat(&[x.shallow_clone(), channel.to_kind(x.kind())], 1)
}

fn linear(path: &Scope, from: i64, to: i64) -> nn::Linear {
    let init = Init::fan_in(from);
    // The bias is drawn first, so that runs repeat from their seed.
    let bs = Some(path.bias("bias", to, init));
    nn::Linear { ws: path.matrix("weight", [to, from], init), bs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use tch::Device;

    #[test]
    fn one_logit_for_each_image_of_any_size() {
        for (height, width) in [(8, 8), (24, 40), (33, 47)] {
            let config = Config { channels: 8, most_channels: 32 };
            config.check((height, width)).unwrap();
            let store = Variables::new(Device::Cpu);
            tch::manual_seed(1);
            let net = Stylegan::new(&store.root(Component::Discriminator), &config, (height, width));
            let images = Tensor::rand([3, 3, height, width], (Kind::Float, Device::Cpu));
            assert_eq!(net.logits(&images, World::alone()).size(), [3, 1], "{height}x{width}");
        }
        let message = Config::default().check((7, 64)).unwrap_err().to_string();
        assert!(message.contains("8 pixels a side, and they have 7"), "{message}");
    }

    #[test]
    fn the_spread_of_equal_images_is_nothing() {
        let x = Tensor::rand([1, 2, 4, 5], (Kind::Float, Device::Cpu)).repeat([8, 1, 1, 1]);
        let spread = with_spread(&x);
        assert_eq!(spread.size(), [8, 3, 4, 5]);
        assert!((spread.narrow(1, 2, 1) - 1e-4).abs().max().double_value(&[]) < 1e-6);
        assert_eq!(spread.narrow(1, 0, 2), x);
    }
}
