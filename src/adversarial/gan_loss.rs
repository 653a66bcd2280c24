//! The losses of both sides, as functions of the discriminator's logits.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// A pair of losses. Both are means over all logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum GanLoss {
    /// Hinge loss (Lim & Ye 2017, arXiv 1705.02894), as in VQGAN.
    #[default]
    Hinge,
    /// Logistic loss (Goodfellow et al. 2014, arXiv 1406.2661, section 3); the tokenizer maximises
    /// log D.
    NonSaturating,
    /// Least squares (Mao et al. 2017, arXiv 1611.04076, eq. 9): 1 for images, 0 for
    /// reconstructions.
    LeastSquares,
}

impl GanLoss {
    /// The tokenizer's loss. It is small if the reconstructions are taken for images.
    ///
    /// # Shapes
    /// Logits of reconstructions -> a scalar.
    pub fn of_tokenizer(self, fake: &Tensor) -> Tensor {
        match self {
            Self::Hinge => -fake.mean(Kind::Float),
            Self::NonSaturating => (-fake).softplus().mean(Kind::Float),
            Self::LeastSquares => (fake - 1.0).square().mean(Kind::Float) * 0.5,
        }
    }

    /// The discriminator's loss: the mean of its losses on images and on reconstructions.
    ///
    /// # Shapes
    /// Logits of images and of reconstructions -> a scalar.
    pub fn of_discriminator(self, real: &Tensor, fake: &Tensor) -> Tensor {
        let (of_real, of_fake): (Tensor, Tensor) = match self {
            Self::Hinge => ((1f64 - real).relu(), (1f64 + fake).relu()),
            Self::NonSaturating => ((-real).softplus(), fake.softplus()),
            Self::LeastSquares => ((real - 1.0).square(), fake.square()),
        };
        (of_real.mean(Kind::Float) + of_fake.mean(Kind::Float)) * 0.5
    }

    /// The logit that should separate images from reconstructions.
    #[must_use]
    pub fn boundary(self) -> f64 {
        if self == Self::LeastSquares { 0.5 } else { 0.0 }
    }
}
