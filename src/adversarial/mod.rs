//! The adversary of a training: a network that tells reconstructions from images, and what both sides then minimise.
//!
//! Which steps it takes part in and with what weight is decided in `config`; how both losses meet in one step, in `train`.

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

/// Gradient norm of the adversarial part below which its ratio to the other part's says nothing (taming-transformers).
const LEAST_NORM: f64 = 1e-4;

/// The discriminator with its moving averages.
#[derive(Debug)]
pub struct Adversary {
    /// Its settings, checked.
    pub config: Config,
    /// The network.
    pub discriminator: Box<dyn Discriminator>,
    /// Moving averages of its logits, where the settings ask for them.
    pub lecam: Option<Lecam>,
}

impl Adversary {
    /// Builds it with its variables in `variables`, for images of `image_size` (height, width).
    ///
    /// # Errors
    /// As [`Config::check`].
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

    /// What the adversary thinks of images, augmented as the settings say: positive for those that it takes for real.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` in about [−1, 1] -> logits, `[B, …]` float32.
    pub fn judge(&self, images: &Tensor, seed: pixtok_base::seed::Seed) -> Tensor {
        let augmented = augment::augment(images, &self.config.augment, seed);
        self.discriminator.logits(&augmented).to_kind(tch::Kind::Float)
    }
}

/// How much the adversarial loss weighs where the gradients of both parts at the decoder's last layer are to be of one size
/// (Esser et al. 2021, arXiv 2012.09841, eq. 7).
///
/// # Shapes
/// The layer's gradients from the reconstruction's terms and from the adversary, of one shape -> a scalar, at most `most`.
pub fn adaptive_weight(of_reconstruction: &Tensor, of_adversary: &Tensor, most: f64) -> Tensor {
    (of_reconstruction.norm() / (of_adversary.norm() + LEAST_NORM)).clamp(0.0, most)
}
