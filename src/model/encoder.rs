//! Images to latents.

use tch::{Device, Tensor, nn, nn::Module};

use super::blocks::Blocks;
use super::plan::Plan;
use crate::layers::{conv, group_norm, norm_silu};

/// Stem, stages with strided convolutions between them, middle, and a 1×1 convolution to the latent's width.
#[derive(Debug)]
pub(super) struct Encoder {
    stem: nn::Conv2D,
    stages: Vec<(Blocks, Option<nn::Conv2D>)>,
    middle: Blocks,
    norm: nn::GroupNorm,
    head: nn::Conv2D,
}

impl Encoder {
    pub fn new(path: &nn::Path, plan: &Plan) -> Self {
        let stem = conv(&(path / "stem"), 3, plan.stem_channels, 3, 1);
        let mut channels = plan.stem_channels;
        let stages = plan.stages.iter().enumerate().map(|(i, stage)| {
            let path = path / format!("stage{i}");
            let widths = (channels, stage.channels);
            channels = stage.channels;
            let blocks = Blocks::stage(&path, plan, widths, plan.res_blocks, stage.attention);
            // An odd kernel of at least the stride sees every pixel.
            let down = (stage.stride > 1).then(|| {
                conv(&(&path / "down"), channels, channels, (stage.stride | 1).max(3), stage.stride)
            });
            (blocks, down)
        });
        let stages = stages.collect();
        Self {
            stem,
            stages,
            middle: Blocks::middle(&(path / "middle"), plan),
            norm: group_norm(&(path / "norm"), plan.groups(channels), channels),
            head: conv(&(path / "head"), channels, plan.latent_channels, 1, 1),
        }
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.stem.ws.device()
    }

    /// `[B, 3, H, W]` -> `[B, C, h, w]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let x = self.stages.iter().fold(self.stem.forward(images), |x, (blocks, down)| {
            let x = blocks.forward(x);
            down.as_ref().map_or_else(|| x.shallow_clone(), |down| down.forward(&x))
        });
        self.head.forward(&norm_silu(&self.norm, &self.middle.forward(x)))
    }
}
