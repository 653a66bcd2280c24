//! Encodes images to latents.

use tch::{Device, Tensor, nn::Module};

use super::plan::Plan;
use super::trunk::Trunk;
use crate::layers::{Conv2d, Linear, padded_conv};
use crate::model::grid::grid_of;
use crate::model::transformer::beside_latent;
use crate::model::{self, ImageSize, ModelError, TokenShape};
use crate::quantizer::Mode;
use crate::variables::{Component, Scope};

/// A transformer over the patches of an image, and a linear layer to the latent's width.
#[derive(Debug)]
pub(super) struct Encoder {
    /// From the pixels of a patch.
    stem: Conv2d,
    trunk: Trunk,
    head: Linear,
    patch: i64,
    only_size: Option<ImageSize>,
}

impl Encoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let (width, patch) = (plan.common.encoder.width, plan.settings.patch);
        Self {
            stem: padded_conv(&(path / "stem").touching_pixels(), (3, width), patch, patch, 0),
            trunk: Trunk::new(path, plan, plan.common.encoder, Component::Encoder),
            head: beside_latent(&(path / "head"), width, plan.common.latent_channels),
            patch,
            only_size: plan.only_size(),
        }
    }
}

impl model::Encoder for Encoder {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        match self.only_size {
            Some(only) if only != image => Err(ModelError::Network(format!(
                "images of {}×{} pixels are not of the model's only size, {}×{}: its learned positions are of \
                 that size; set model.extension = \"interpolate\", resize the images, or train with \
                 model.positions = \"rope\"",
                image.height, image.width, only.height, only.width
            ))),
            _ => grid_of(image, self.patch),
        }
    }

    fn side_multiple(&self) -> i64 {
        self.patch
    }

    fn only_size(&self) -> Option<ImageSize> {
        self.only_size
    }

    fn device(&self) -> Device {
        self.stem.weight.device()
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        let features = self.stem.forward(images);
        let patches = features.flatten(2, 3).transpose(1, 2);
        self.head.forward(&self.trunk.forward(&patches, &features.select(1, 0), mode))
    }
}
