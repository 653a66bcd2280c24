//! Decodes latents to images.

use tch::{Tensor, nn::Module};

use super::adaptive::{AdaptiveNorm, Style};
use super::blocks::{Blocks, norm};
use super::plan::Plan;
use crate::layers::{Conv2d, GroupNorm, conv, norm_silu};
use crate::model::layout::fastest;
use crate::model::{self, Decode, feature_map};
use crate::quantizer::Mode;
use crate::variables::Scope;
use pixtok_images::data::ImageSize;
use pixtok_tokens::TokenShape;

/// Stem, middle, the stages from the coarsest one, and head. A normalisation by the latent comes
/// before each stage.
#[derive(Debug)]
pub(super) struct Decoder {
    stem: Conv2d,
    middle: Blocks,
    stages: Vec<DecoderStage>,
    norm: GroupNorm,
    head: Conv2d,
}

#[derive(Debug)]
struct DecoderStage {
    adaptive: AdaptiveNorm,
    blocks: Blocks,
    up: Option<Up>,
}

/// A convolution to four times the channels, which become two by two positions.
#[derive(Debug)]
struct Up {
    conv: Conv2d,
    channels: i64,
}

impl Up {
    fn new(path: &Scope, channels: i64) -> Self {
        Self { conv: conv(path, channels, 4 * channels, 3, 1), channels }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        fastest(&depth_to_space(&self.conv.forward(x), self.channels), mode)
    }
}

/// The channels (dy, dx, c) of a position as two by two positions of c, in the order that ONNX
/// calls DCR.
///
/// # Shapes
/// `[B, 4 · channels, h, w]` -> `[B, channels, 2h, 2w]`, in channels_last.
pub(super) fn depth_to_space(x: &Tensor, channels: i64) -> Tensor {
    // [B, h, w, dy, dx, c] -> [B, h, dy, w, dx, c].
    let parts = x.permute([0, 2, 3, 1]).unflatten(3, [2, 2, channels]).permute([0, 1, 3, 2, 4, 5]);
    parts.flatten(3, 4).flatten(1, 2).permute([0, 3, 1, 2])
}

impl Decoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let mut channels = plan.coarsest_channels();
        let stem = conv(&(path / "stem"), plan.latent_channels, channels, 3, 1);
        let middle = Blocks::new(&(path / "middle"), plan, channels, channels);
        let stages = plan.widths.iter().enumerate().rev().map(|(i, &width)| {
            let path = path / format!("stage{i}");
            let adaptive = AdaptiveNorm::new(&(&path / "adaptive"), plan.latent_channels, channels);
            let blocks = Blocks::new(&path, plan, channels, width);
            channels = width;
            DecoderStage { adaptive, blocks, up: (i > 0).then(|| Up::new(&(&path / "up"), width)) }
        });
        let stages = stages.collect();
        Self {
            stem,
            middle,
            stages,
            norm: norm(&(path / "norm"), channels),
            head: conv(&(path / "head").touching_pixels(), channels, 3, 3, 1),
        }
    }
}

impl model::Decoder for Decoder {
    /// The weight of the convolution to pixels: `[3, C, 3, 3]`.
    fn last_layer(&self) -> &Tensor {
        &self.head.weight
    }

    fn forward(&self, z_q: &Tensor, shape: TokenShape, _image: ImageSize, how: &Decode) -> Tensor {
        let style = Style::of(z_q);
        let x = self.stem.forward(&fastest(&feature_map(z_q, shape, how), how.mode));
        let x = self.stages.iter().fold(self.middle.forward(x), |x, stage| {
            let x = stage.blocks.forward(stage.adaptive.forward(&x, &style));
            let Some(up) = &stage.up else { return x };
            up.forward(&x, how.mode)
        });
        self.head.forward(&norm_silu(&self.norm, &x))
    }
}
