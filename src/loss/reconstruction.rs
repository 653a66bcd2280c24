//! Errors between pixels, on images in [−1, 1], each a mean over all elements in float32.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::LossTerm;

/// Weights of the reconstruction terms; a term of weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of the mean absolute error.
    pub l1: f64,
    /// Of the mean squared error.
    pub mse: f64,
    /// Of the Charbonnier error √(d² + ε²) (Charbonnier et al. 1994): l2 near 0, l1 far from it.
    pub charbonnier: f64,
    /// Where the Charbonnier error turns, in units of [−1, 1].
    pub charbonnier_epsilon: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { l1: 0.0, mse: 1.0, charbonnier: 0.0, charbonnier_epsilon: 1e-3 }
    }
}

/// The loss settings leave nothing to minimise or are out of range.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LossError(String);

impl Config {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self) -> Result<(), LossError> {
        for (key, weight) in [("l1", self.l1), ("mse", self.mse), ("charbonnier", self.charbonnier)] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(LossError(format!("loss.{key} is {weight}; a weight must be 0 or more")));
            }
        }
        let epsilon = self.charbonnier_epsilon;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(LossError(format!("loss.charbonnier_epsilon is {epsilon}; it must be over 0")));
        }
        if self.l1 + self.mse + self.charbonnier == 0.0 {
            return Err(LossError(
                "loss.l1, loss.mse and loss.charbonnier are all 0; give one of them a weight, like mse = 1.0"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The terms with a weight.
    ///
    /// # Shapes
    /// `recon`, `images`: `[B, 3, H, W]` -> scalars.
    #[must_use]
    pub fn terms(&self, recon: &Tensor, images: &Tensor) -> Vec<LossTerm> {
        let recon = recon.to_kind(Kind::Float);
        let mut terms = vec![];
        let mut add = |name, weight: f64, value: &dyn Fn() -> Tensor| {
            if weight > 0.0 {
                terms.push(LossTerm { name, value: value(), weight });
            }
        };
        add("l1", self.l1, &|| recon.l1_loss(images, tch::Reduction::Mean));
        add("mse", self.mse, &|| recon.mse_loss(images, tch::Reduction::Mean));
        add("charbonnier", self.charbonnier, &|| {
            let squared = self.charbonnier_epsilon.powi(2);
            ((&recon - images).square() + squared).sqrt().mean(Kind::Float)
        });
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::total;

    #[test]
    fn terms_by_hand() {
        let config = Config { l1: 1.0, mse: 2.0, charbonnier: 4.0, charbonnier_epsilon: 0.75 };
        let terms = config.terms(&Tensor::from_slice(&[1f32, 0.0]), &Tensor::from_slice(&[0f32, 0.0]));
        let values: Vec<f64> = terms.iter().map(|term| term.value.double_value(&[])).collect();
        // √(1 + 0.5625) = 1.25 and √0.5625 = 0.75.
        assert_eq!(values, [0.5, 0.5, 1.0]);
        assert_eq!(total(&terms).unwrap().double_value(&[]), 0.5 + 1.0 + 4.0);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: Config| config.check().unwrap_err().to_string();
        assert!(message(Config { mse: -1.0, ..Config::default() }).contains("loss.mse is -1"));
        assert!(message(Config { mse: 0.0, ..Config::default() }).contains("all 0"));
        assert!(message(Config { charbonnier_epsilon: 0.0, ..Config::default() }).contains("epsilon is 0"));
    }
}
