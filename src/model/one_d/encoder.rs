//! Encodes images to latents.

use tch::{Device, Tensor, nn::Module};

use super::config::Layout;
use super::plan::Plan;
use super::transformer::{Transformer, vectors};
use crate::layers::{Conv2d, Linear, padded_conv};
use crate::model::grid::check_sides;
use crate::model::transformer::beside_latent;
use crate::model::{self, ImageSize, ModelError, TokenShape};
use crate::quantizer::Mode;
use crate::variables::Scope;

/// A transformer over patches and latent tokens. Of its result only the latter are kept.
#[derive(Debug)]
pub(super) struct Encoder {
    /// From the pixels of a patch.
    stem: Conv2d,
    latent_tokens: Tensor,
    transformer: Transformer,
    /// To the latent's width.
    head: Linear,
    layout: Layout,
    patch: i64,
    tokens: i64,
    width: i64,
    /// The only size of images that learned positions allow.
    only_size: Option<ImageSize>,
}

impl Encoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let (width, patch, tokens) = (plan.common.encoder.width, plan.settings.patch, plan.tokens());
        Self {
            stem: padded_conv(&(path / "stem").touching_pixels(), (3, width), patch, patch, 0),
            latent_tokens: vectors(path, "latent_tokens", tokens, width),
            transformer: Transformer::new(path, plan, plan.common.encoder),
            head: beside_latent(&(path / "head"), width, plan.common.latent_channels),
            layout: plan.settings.layout,
            patch,
            tokens,
            width,
            only_size: plan.only_size(),
        }
    }
}

impl model::Encoder for Encoder {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        let ImageSize { height, width } = image;
        if let Some(only) = self.only_size.filter(|only| *only != image) {
            return Err(ModelError::Network(format!(
                "images of {height}×{width} pixels are not of the model's only size, {}×{}: its learned positions \
                 are of that size; resize the images, or train with model.positions = \"rope\"",
                only.height, only.width
            )));
        }
        let patch = self.patch;
        check_sides(image, patch, &format!("the model's patches of {patch}×{patch}"))?;
        Ok(TokenShape::Sequence { n: self.tokens as u32 })
    }

    fn only_size(&self) -> Option<ImageSize> {
        self.only_size
    }

    fn side_multiple(&self) -> i64 {
        self.patch
    }

    fn device(&self) -> Device {
        self.stem.weight.device()
    }

    fn forward(&self, images: &Tensor, _mode: Mode) -> Tensor {
        // TiTok's images are in [0, 1].
        let features = self.stem.forward(&(images * 0.5 + 0.5));
        let patches = features.flatten(2, 3).transpose(1, 2);
        let of_each = patches.slice(1, 0, 1, 1).expand([-1, self.tokens, -1], false);
        let latents = self.latent_tokens.expand_as(&of_each);
        let x = self.transformer.forward(&patches, &latents, &features.select(1, 0));
        let x = self.transformer.norm_out(&x.slice(1, -self.tokens, None, 1));
        let x = match self.layout {
            Layout::Vq8k => x,
            // Not a transposition: the first numbers of a latent's width are those of the first
            // tokens.
            Layout::Legacy => x.flatten(1, 2).unflatten(1, [self.width, self.tokens]).transpose(1, 2),
        };
        self.head.forward(&x)
    }
}
