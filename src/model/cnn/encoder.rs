//! Encodes images to latents.

use tch::{Device, Tensor, nn::Module};

use super::blocks::Blocks;
use super::haar::Haar;
use super::plan::{Plan, Variant};
use crate::layers::{Conv2d, GroupNorm, conv, norm_silu, padded_conv};
use crate::model::grid::grid_of;
use crate::model::layout::fastest;
use crate::model::{self, ModelError};
use crate::quantizer::Mode;
use crate::variables::Scope;
use pixtok_images::data::ImageSize;
use pixtok_tokens::TokenShape;

/// The Haar transform if there is one, stem, stages with strided convolutions between them, middle,
/// and a 1×1 convolution to the latent's width.
#[derive(Debug)]
pub(super) struct Encoder {
    haar: Option<Haar>,
    stem: Conv2d,
    stages: Vec<(Blocks, Option<Down>)>,
    middle: Blocks,
    norm: GroupNorm,
    head: Conv2d,
    /// To the quantizer's width, if the head's width differs.
    to_quantizer: Option<Conv2d>,
    /// Pixels per position along each axis.
    downsample: i64,
}

/// A strided convolution.
#[derive(Debug)]
struct Down {
    conv: Conv2d,
    /// Whether it is padded only on the right and at the bottom.
    one_sided: bool,
}

impl Down {
    fn new(path: &Scope, plan: &Plan, channels: i64, stride: i64) -> Self {
        // With an odd kernel of at least the stride, every pixel is covered.
        let kernel = (stride | 1).max(3);
        let one_sided = plan.variant == Variant::Vqgan;
        let padding = if one_sided { 0 } else { kernel / 2 };
        Self { conv: padded_conv(path, (channels, channels), kernel, stride, padding), one_sided }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        if self.one_sided {
            self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]))
        } else {
            self.conv.forward(x)
        }
    }
}

impl Encoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let stem = conv(&(path / "stem").touching_pixels(), plan.pixel_channels(), plan.stem_channels, 3, 1);
        let mut channels = plan.stem_channels;
        let stages = plan.stages.iter().enumerate().map(|(i, stage)| {
            let path = path / format!("stage{i}");
            let widths = (channels, stage.channels);
            channels = stage.channels;
            let blocks = Blocks::stage(&path, plan, widths, stage.res_blocks, stage.attention);
            let down = (stage.stride > 1).then(|| Down::new(&(&path / "down"), plan, channels, stage.stride));
            (blocks, down)
        });
        let stages = stages.collect();
        Self {
            haar: plan.haar(path.device()),
            stem,
            stages,
            middle: Blocks::middle(&(path / "middle"), plan, channels),
            norm: plan.norm(&(path / "norm"), channels),
            head: match plan.outer_channels {
                None => conv(&(path / "head"), channels, plan.latent_channels, 1, 1),
                Some(outer) => conv(&(path / "head"), channels, outer, 3, 1),
            },
            to_quantizer: plan
                .outer_channels
                .map(|outer| conv(&(path / "to_quantizer"), outer, plan.latent_channels, 1, 1)),
            downsample: plan.downsample(),
        }
    }
}

impl model::Encoder for Encoder {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        grid_of(image, self.downsample)
    }

    fn side_multiple(&self) -> i64 {
        self.downsample
    }

    fn device(&self) -> Device {
        self.stem.weight.device()
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        let pixels = self.haar.as_ref().map_or_else(|| images.shallow_clone(), |haar| haar.forward(images));
        let x = self.stem.forward(&fastest(&pixels, mode));
        let x = self.stages.iter().fold(x, |x, (blocks, down)| {
            let x = blocks.forward(x);
            down.as_ref().map_or_else(|| x.shallow_clone(), |down| down.forward(&x))
        });
        let x = self.head.forward(&norm_silu(&self.norm, &self.middle.forward(x)));
        let x = self.to_quantizer.as_ref().map_or_else(|| x.shallow_clone(), |conv| conv.forward(&x));
        // A view in either layout.
        x.permute([0, 2, 3, 1]).flatten(1, 2)
    }
}
