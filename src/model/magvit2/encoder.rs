//! Encodes images to latents.

use tch::{Device, Tensor, nn::Module};

use super::blocks::{Blocks, norm};
use super::plan::{Plan, shape};
use crate::layers::{Conv2d, GroupNorm, conv, conv_without_bias, norm_silu};
use crate::model::layout::fastest;
use crate::model::{self, ModelError};
use crate::quantizer::Mode;
use crate::variables::Scope;
use pixtok_images::data::ImageSize;
use pixtok_tokens::TokenShape;

/// Stem, stages with convolutions of stride 2 between them, middle, and a 1×1 convolution to the
/// latent's width.
#[derive(Debug)]
pub(super) struct Encoder {
    stem: Conv2d,
    stages: Vec<(Blocks, Option<Conv2d>)>,
    middle: Blocks,
    norm: GroupNorm,
    head: Conv2d,
    /// Pixels per position along each axis.
    downsample: i64,
}

impl Encoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let mut channels = plan.settings.channels;
        let stem = conv_without_bias(&(path / "stem").touching_pixels(), 3, channels, 3);
        let last = plan.widths.len() - 1;
        let stages = plan.widths.iter().enumerate().map(|(i, &width)| {
            let path = path / format!("stage{i}");
            let blocks = Blocks::new(&path, plan, channels, width);
            channels = width;
            (blocks, (i < last).then(|| conv(&(&path / "down"), width, width, 3, 2)))
        });
        let stages = stages.collect();
        Self {
            stem,
            stages,
            middle: Blocks::new(&(path / "middle"), plan, channels, channels),
            norm: norm(&(path / "norm"), channels),
            head: conv(&(path / "head"), channels, plan.latent_channels, 1, 1),
            downsample: plan.downsample(),
        }
    }
}

impl model::Encoder for Encoder {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        shape(image, self.downsample)
    }

    fn side_multiple(&self) -> i64 {
        self.downsample
    }

    fn device(&self) -> Device {
        self.stem.weight.device()
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        let x = self.stem.forward(&fastest(images, mode));
        let x = self.stages.iter().fold(x, |x, (blocks, down)| {
            let x = blocks.forward(x);
            down.as_ref().map_or_else(|| x.shallow_clone(), |down| down.forward(&x))
        });
        let x = self.head.forward(&norm_silu(&self.norm, &self.middle.forward(x)));
        // A view in either layout.
        x.permute([0, 2, 3, 1]).flatten(1, 2)
    }
}
