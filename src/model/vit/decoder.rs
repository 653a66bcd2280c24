//! Decodes latents to images.

use tch::{Kind, Tensor, nn::Module};

use super::plan::Plan;
use super::trunk::Trunk;
use crate::layers::{Conv2d, Linear, conv};
use crate::model::transformer::beside_latent;
use crate::model::{self, Decode, ImageSize, TokenShape, feature_map};
use crate::variables::{Component, Scope};

/// A linear layer from the latent's width, a transformer, and a linear layer to the pixels of each
/// patch.
#[derive(Debug)]
pub(super) struct Decoder {
    stem: Linear,
    trunk: Trunk,
    /// To the pixels of a patch, in the order (colour, row, column).
    head: Linear,
    /// Over the pixels of the image.
    conv: Option<Conv2d>,
    patch: i64,
}

impl Decoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let width = plan.common.decoder.width;
        Self {
            stem: beside_latent(&(path / "stem"), plan.common.latent_channels, width),
            trunk: Trunk::new(path, plan, plan.common.decoder, Component::Decoder),
            head: Linear::new(&(path / "head").touching_pixels(), width, plan.patch_numbers()),
            conv: plan.settings.head_conv.then(|| conv(&(path / "conv").touching_pixels(), 3, 3, 3, 1)),
            patch: plan.settings.patch,
        }
    }
}

impl model::Decoder for Decoder {
    /// The weight of the convolution over the pixels, `[3, 3, 3, 3]`, or without one of the linear
    /// layer to the pixels, `[3·p², width]`.
    fn last_layer(&self) -> &Tensor {
        self.conv.as_ref().map_or(&self.head.weight, |conv| &conv.weight)
    }

    fn forward(&self, z_q: &Tensor, shape: TokenShape, _image: ImageSize, how: &Decode) -> Tensor {
        let places = how.places.map_or_else(
            || {
                let grid = shape.stored();
                Tensor::zeros([i64::from(grid.h), i64::from(grid.w)], (Kind::Float, z_q.device()))
            },
            Tensor::shallow_clone,
        );
        // Contiguous wherever it comes from, so that the products have the same bits.
        let x = self.stem.forward(&z_q.contiguous());
        let pixels = self.head.forward(&self.trunk.forward(&x, &places, how.mode));
        // [B, 3·p², h, w] -> [B, 3, h, p, w, p].
        let patches = feature_map(&pixels, shape, how).unflatten(1, [3, self.patch, self.patch]);
        let recon = patches.permute([0, 1, 4, 2, 5, 3]).flatten(4, 5).flatten(2, 3);
        self.conv.as_ref().map_or_else(|| recon.shallow_clone(), |conv| conv.forward(&recon))
    }
}
