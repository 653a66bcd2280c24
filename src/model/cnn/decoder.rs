//! Decodes latents to images.

use tch::{Tensor, nn::Module};

use super::blocks::Blocks;
use super::haar::Haar;
use super::plan::Plan;
use crate::layers::{Conv2d, GroupNorm, conv, norm_silu, upsample};
use crate::model::layout::fastest;
use crate::model::{self, Decode, feature_map};
use crate::variables::Scope;
use pixtok_images::data::ImageSize;
use pixtok_tokens::TokenShape;

/// The mirror image of the encoder: stem, middle, stages from the coarsest one with
/// nearest-neighbour upsampling and a 3×3 convolution between them, head, the inverse of the Haar
/// transform.
#[derive(Debug)]
pub(super) struct Decoder {
    /// From the quantizer's width, if the stem's width differs.
    from_quantizer: Option<Conv2d>,
    stem: Conv2d,
    middle: Blocks,
    stages: Vec<DecoderStage>,
    norm: GroupNorm,
    head: Conv2d,
    haar: Option<Haar>,
}

#[derive(Debug)]
struct DecoderStage {
    blocks: Blocks,
    /// The factor of the upsampling, and the convolution after it.
    up: Option<(i64, Conv2d)>,
}

impl Decoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let mut channels = plan.coarsest_decoder_channels();
        let outer = plan.outer_channels;
        let from_quantizer =
            outer.map(|outer| conv(&(path / "from_quantizer"), plan.latent_channels, outer, 1, 1));
        let stem = conv(&(path / "stem"), outer.unwrap_or(plan.latent_channels), channels, 3, 1);
        let middle = Blocks::middle(&(path / "middle"), plan, channels);
        let stages = plan.stages.iter().enumerate().rev().map(|(i, stage)| {
            let path = path / format!("stage{i}");
            let widths = (channels, stage.decoder_channels);
            channels = stage.decoder_channels;
            let blocks = Blocks::stage(&path, plan, widths, stage.decoder_res_blocks, stage.attention);
            let up = (stage.up > 1).then(|| (stage.up, conv(&(&path / "up"), channels, channels, 3, 1)));
            DecoderStage { blocks, up }
        });
        let stages = stages.collect();
        Self {
            from_quantizer,
            stem,
            middle,
            stages,
            norm: plan.norm(&(path / "norm"), channels),
            head: conv(&(path / "head").touching_pixels(), channels, plan.pixel_channels(), 3, 1),
            haar: plan.haar(path.device()),
        }
    }
}

impl model::Decoder for Decoder {
    /// The weight of the convolution to pixels or to Haar coefficients: `[3, C, 3, 3]` or `[3 ·
    /// 4^levels, C, 3, 3]`.
    fn last_layer(&self) -> &Tensor {
        &self.head.weight
    }

    fn forward(&self, z_q: &Tensor, shape: TokenShape, _image: ImageSize, how: &Decode) -> Tensor {
        let latent = fastest(&feature_map(z_q, shape, how), how.mode);
        let latent =
            self.from_quantizer.as_ref().map_or_else(|| latent.shallow_clone(), |conv| conv.forward(&latent));
        let x = self.middle.forward(self.stem.forward(&latent));
        let x = self.stages.iter().fold(x, |x, stage| {
            let x = stage.blocks.forward(x);
            let Some((factor, conv)) = &stage.up else { return x };
            upsample(*factor, conv, &x)
        });
        let pixels = self.head.forward(&norm_silu(&self.norm, &x));
        self.haar.as_ref().map_or_else(|| pixels.shallow_clone(), |haar| haar.inverse(&pixels))
    }
}
