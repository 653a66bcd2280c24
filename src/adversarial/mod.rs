//! Adversarial training: a network that tells reconstructions from images, and the losses of both
//! sides.
//!
//! `config` decides in which steps the adversary takes part and with what weight. The tokenizer
//! task combines both losses in one step.

mod augment;
mod config;
mod discriminator;
mod gan_loss;
mod norm;
mod patch;
mod regularization;
mod stylegan;

use tch::Tensor;

pub use augment::Augmentation;
pub use config::{AdversarialError, Config, Weighting};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use gan_loss::GanLoss;
pub use norm::NormKind;
pub use regularization::{Lecam, LecamConfig, R1Config, gradient_penalty};

use crate::variables::{Component, Variables};
use crate::world::World;
use pixtok_torch::Noise;

/// Below this norm the adversarial gradient is too small for a useful ratio (taming-transformers).
const LEAST_NORM: f64 = 1e-4;

/// The discriminator and its moving averages.
#[derive(Debug)]
pub struct Adversary {
    /// The checked settings.
    pub config: Config,
    /// The network.
    pub discriminator: Box<dyn Discriminator>,
    /// Moving averages of its logits, if the settings ask for them.
    pub lecam: Option<Lecam>,
}

impl Adversary {
    /// Builds the discriminator with its variables in `variables`, for images of `image_size`
    /// (height, width).
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn new(
        variables: &Variables,
        config: &Config,
        image_size: (i64, i64),
    ) -> Result<Self, AdversarialError> {
        config.check(image_size)?;
        let network = variables.scope(Component::Discriminator);
        let averages = variables.root(Component::Discriminator) / "lecam";
        Ok(Self {
            discriminator: config.discriminator.build(&network, image_size),
            lecam: config.lecam.as_ref().map(|lecam| Lecam::new(&averages, lecam)),
            config: config.clone(),
        })
    }

    /// The discriminator's logits of images, which are augmented as the settings say, by `noise`.
    /// Positive logits mean that it takes them for real. All processes of `world` judge at the same
    /// time, each as many images.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` in about [−1, 1] -> logits, `[B, …]` float32.
    pub fn judge(&self, images: &Tensor, noise: Noise, world: &World) -> Tensor {
        let augmented = augment::augment(images, &self.config.augment, noise);
        self.discriminator.logits(&augmented, world).to_kind(tch::Kind::Float)
    }
}

/// The factor of the adversarial loss that makes the gradients of both parts equally large at the
/// decoder's last layer (Esser et al. 2021, arXiv 2012.09841, eq. 7).
///
/// # Shapes
/// The layer's gradients from the reconstruction's terms and from the adversary, of one shape -> a
/// scalar, at most `most`.
pub fn adaptive_weight(of_reconstruction: &Tensor, of_adversary: &Tensor, most: f64) -> Tensor {
    (of_reconstruction.norm() / (of_adversary.norm() + LEAST_NORM)).clamp(0.0, most)
}
