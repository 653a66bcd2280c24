//! The networks that tell reconstructions from images.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::AdversarialError;
use super::norm::NormKind;
use super::patch::{self, Patch};
use super::stylegan::{self, Stylegan};
use crate::variables::Scope;
use crate::world::World;

/// A network that tells reconstructions from images.
pub trait Discriminator: Debug + Send {
    /// Positive logits mean that the network takes the input for an image. All processes of `world`
    /// call it at the same time, each with as many images of its own.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` in about [−1, 1] -> `[B, …]`.
    fn logits(&self, images: &Tensor, world: &World) -> Tensor;

    /// Called once, before the first step, with the first images of each process.
    fn start(&self, _images: &Tensor, _world: &World) {}
}

/// The choice of network and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DiscriminatorConfig {
    /// PatchGAN: each logit judges a patch.
    Patch(patch::Config),
    /// Similar to StyleGAN2's: one logit judges the whole image.
    Stylegan(stylegan::Config),
}

impl Default for DiscriminatorConfig {
    fn default() -> Self {
        Self::Patch(patch::Config::default())
    }
}

impl DiscriminatorConfig {
    /// Checks the settings for images of `image_size` (height, width).
    pub(super) fn check(&self, image_size: (i64, i64)) -> Result<(), AdversarialError> {
        match self {
            Self::Patch(config) => config.check(image_size),
            Self::Stylegan(config) => config.check(image_size),
        }
    }

    /// Builds the network from checked settings.
    pub(super) fn build(&self, path: &Scope, image_size: (i64, i64)) -> Box<dyn Discriminator> {
        match self {
            Self::Patch(config) => Box::new(Patch::new(path, config)),
            Self::Stylegan(config) => Box::new(Stylegan::new(path, config, image_size)),
        }
    }

    /// The statistic of a batch that the network computes, in words. Micro-batches change it, since
    /// it is over the images of one: over those of all processes in the same micro-batch for batch
    /// norm (with `sync_norm`) and the start of ActNorm, over those of each process for StyleGAN.
    #[must_use]
    pub fn batch_terms(&self) -> Option<&'static str> {
        match self {
            Self::Patch(config) => match config.norm {
                NormKind::Batch => Some("batch norm"),
                NormKind::Actnorm => Some("the start of ActNorm"),
                NormKind::Group => None,
            },
            Self::Stylegan(_) => Some("the standard deviation over a batch"),
        }
    }

    /// How many numbers the forward pass of one image keeps for the backward pass.
    #[must_use]
    pub fn saved_per_image(&self, image_size: (i64, i64)) -> i64 {
        match self {
            Self::Patch(config) => config.saved_per_image(image_size),
            Self::Stylegan(config) => config.saved_per_image(image_size),
        }
    }
}

/// Checks that `value` of `adversarial.discriminator.<key>` lies in a range.
pub(super) fn in_range(
    key: &str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<(), AdversarialError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(AdversarialError::Config(format!(
        "adversarial.discriminator.{key} is {value}; it must be from {} to {}",
        range.start(),
        range.end()
    )))
}

/// The slope of both networks' leaky rectifiers for negative inputs.
pub(super) const SLOPE: f64 = 0.2;
