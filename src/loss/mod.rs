//! The reconstruction loss: named terms and their weighted sum.

mod config;
mod perceptual;
mod reconstruction;

use tch::Tensor;

use crate::pretrained::Lpips;
pub use crate::quantizer::LossTerm;
pub use config::{Config, LossError};

/// The terms that compare a reconstruction with its image, and the network that some of them need.
#[derive(Debug)]
pub struct Loss {
    config: Config,
    network: Option<Lpips>,
}

impl Loss {
    /// Builds the loss from checked settings.
    ///
    /// # Errors
    /// If a term needs a network that is missing or of another kind.
    pub fn new(config: Config, network: Option<Lpips>) -> Result<Self, LossError> {
        config.check_network(network.as_ref().map(Lpips::backbone))?;
        Ok(Self { config, network })
    }

    /// The terms whose weight is not 0, as float32. Differences between pixels are computed in
    /// float32; networks follow the caller's autocast.
    ///
    /// # Shapes
    /// `recon`, `images`: `[B, 3, H, W]` in about [−1, 1] -> scalars.
    #[must_use]
    pub fn terms(&self, recon: &Tensor, images: &Tensor) -> Vec<LossTerm> {
        let recon = recon.to_kind(tch::Kind::Float);
        let mut terms = reconstruction::terms(&self.config, &recon, images);
        terms.extend(perceptual::terms(&self.config, self.network.as_ref(), &recon, images));
        terms
    }
}

/// The weighted sum of the terms, Σ weight · value.
///
/// # Shapes
/// Scalars -> a scalar; `None` without terms.
#[must_use]
pub fn total(terms: &[LossTerm]) -> Option<Tensor> {
    terms.iter().map(|term| &term.value * term.weight).reduce(|sum, next| sum + next)
}
