//! Normalisations over the last axis.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn::Module};

use super::as_kind;
use crate::variables::{Init, Scope};
use pixtok_torch::rms_norm;

/// The kinds of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// (x − mean) / √(variance + ε), with learned scale and shift (arXiv 1607.06450).
    Layer,
    /// x / √(mean of x² + ε), with a learned scale (arXiv 1910.07467).
    #[default]
    Rms,
}

/// A normalisation over the last axis. Its result is float32, whatever the precision.
#[derive(Debug)]
pub enum Norm {
    /// [`NormKind::Layer`].
    Layer {
        /// `[width]`.
        weight: Tensor,
        /// `[width]`.
        bias: Tensor,
        /// Added to the variance.
        eps: f64,
    },
    /// [`NormKind::Rms`].
    Rms {
        /// `[width]`.
        weight: Tensor,
        /// Added to the mean of the squares.
        eps: f64,
    },
}

impl Norm {
    /// Over `width` numbers, with scale 1 and shift 0.
    #[must_use]
    pub fn new(path: &Scope, kind: NormKind, width: i64, eps: f64) -> Self {
        let weight = path.norm("weight", &[width], Init::Ones);
        match kind {
            NormKind::Layer => Self::Layer { weight, bias: path.norm("bias", &[width], Init::Zeros), eps },
            NormKind::Rms => Self::Rms { weight, eps },
        }
    }
}

impl Module for Norm {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = as_kind(x, Kind::Float);
        match self {
            Self::Layer { weight, bias, eps } => {
                x.layer_norm(weight.size(), Some(weight), Some(bias), *eps, true)
            }
            Self::Rms { weight, eps } => rms_norm(&x, weight, *eps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use pixtok_base::seed::Seed;
    use pixtok_torch::fill_gaussian;
    use tch::Device;

    #[test]
    fn they_are_their_formulas() {
        let variables = Variables::new(Device::Cpu);
        let scope = variables.scope(Component::Encoder);
        let x = Tensor::zeros([2, 5, 7], (Kind::Float, Device::Cpu));
        fill_gaussian(&x, Seed(1), 0.5, 2.0);
        let mean = |x: &Tensor| x.mean_dim([-1].as_slice(), true, Kind::Float);
        for (kind, eps) in [(NormKind::Layer, 1e-6), (NormKind::Rms, 0.1)] {
            let norm = Norm::new(&(&scope / format!("{kind:?}")), kind, 7, eps);
            let centred = if kind == NormKind::Layer { &x - mean(&x) } else { x.shallow_clone() };
            let expected = &centred / (mean(&centred.square()) + eps).sqrt();
            let off = (norm.forward(&x) - expected).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{kind:?}: {off}");
            let half = norm.forward(&x.to_kind(Kind::BFloat16));
            assert_eq!(half.kind(), Kind::Float);
        }
        assert_eq!(variables.parameters(&[Component::Encoder]), 3 * 7);
    }
}
