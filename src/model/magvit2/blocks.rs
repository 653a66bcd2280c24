//! The parts that encoder and decoder share.

use tch::{Tensor, nn::Module};

use super::plan::Plan;
use crate::layers::{Conv2d, GroupNorm, norm_silu};
use crate::variables::{Init, Scope};
use pixtok_torch::{Shared, recomputed};

/// The number of groups of every normalisation, at any width.
pub(super) const NORM_GROUPS: i64 = 32;
/// The epsilon of every normalisation, and of the deviation of a latent.
pub(super) const EPS: f64 = 1e-6;

/// A normalisation over `channels`.
pub(super) fn norm(path: &Scope, channels: i64) -> GroupNorm {
    GroupNorm::new(path, NORM_GROUPS, channels, EPS)
}

/// A convolution with odd `kernel` that keeps the size, without a bias.
///
/// # Shapes
/// `[B, in, H, W]` -> `[B, out, H, W]`.
pub(super) fn conv_without_bias(path: &Scope, channels_in: i64, channels_out: i64, kernel: i64) -> Conv2d {
    let shape = [channels_out, channels_in, kernel, kernel];
    let weight = path.conv("weight", shape, Init::fan_in(channels_in * kernel * kernel));
    Conv2d { weight, bias: None, stride: 1, padding: kernel / 2 }
}

/// GroupNorm, SiLU and a 3×3 convolution, twice, with a shortcut (a 1×1 convolution if the widths
/// differ). No convolution has a bias.
#[derive(Debug)]
struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResBlock {
    fn new(path: &Scope, channels_in: i64, channels_out: i64) -> Self {
        Self {
            norm1: norm(&(path / "norm1"), channels_in),
            conv1: conv_without_bias(&(path / "conv1"), channels_in, channels_out, 3),
            norm2: norm(&(path / "norm2"), channels_out),
            conv2: conv_without_bias(&(path / "conv2"), channels_out, channels_out, 3),
            shortcut: (channels_in != channels_out)
                .then(|| conv_without_bias(&(path / "shortcut"), channels_in, channels_out, 1)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&norm_silu(&self.norm1, x));
        let h = self.conv2.forward(&norm_silu(&self.norm2, &h));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
        }
    }
}

/// The residual blocks of one resolution.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Shared<ResBlock>>,
    /// Whether the backward pass computes them again.
    checkpoint: bool,
}

impl Blocks {
    /// As many as the plan has in each stage, from `channels_in` to `channels_out`.
    pub fn new(path: &Scope, plan: &Plan, channels_in: i64, channels_out: i64) -> Self {
        let block = |i: i64| {
            let from = if i == 0 { channels_in } else { channels_out };
            Shared::new(ResBlock::new(&(path / format!("res{i}")), from, channels_out))
        };
        let checkpoint = plan.settings.checkpoint_blocks;
        Self { blocks: (0..plan.settings.res_blocks).map(block).collect(), checkpoint }
    }

    pub fn forward(&self, x: Tensor) -> Tensor {
        self.blocks.iter().fold(x, |x, block| {
            if self.checkpoint { recomputed(block, &x, ResBlock::forward) } else { block.forward(&x) }
        })
    }
}
