//! Estimators of the gradient through the choice of a code. In the forward pass each gives the code
//! bit for bit.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::straight_through::straight_through;
use super::vectors::{MIN_NORM, normalised, norms};

/// The gradient that the encoder (and, with `diveq`, the codebook) gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum GradientEstimator {
    /// The decoder's gradient, unchanged.
    #[default]
    StraightThrough,
    /// The decoder's gradient, rotated and scaled in the same way as the latent onto its code
    /// (Fifty et al., arXiv 2410.06424).
    Rotation,
    /// The gradient flows through the distance to the code, to latent and code alike (kexue.fm
    /// 11328). There is no auxiliary loss, and the codebook learns by gradient.
    Diveq,
}

impl GradientEstimator {
    /// `codes`, with the gradient of the estimator.
    ///
    /// # Shapes
    /// Both `[B, N, D]`.
    pub(super) fn estimate(self, codes: &Tensor, z: &Tensor) -> Tensor {
        match self {
            Self::StraightThrough => straight_through(codes, z),
            Self::Rotation => straight_through(codes, &rotated(&codes.detach(), z)),
            Self::Diveq => straight_through(codes, &moved(codes, z)),
        }
    }
}

fn along(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum_dim_intlist(-1, true, Kind::Float)
}

/// y = sg[‖e‖/‖z‖ · R]·z with R = I − 2rrᵀ + 2êẑᵀ, r = (ẑ + ê)/‖ẑ + ê‖ (section 4.2 of the paper).
/// A latent without a direction is not rotated.
fn rotated(codes: &Tensor, z: &Tensor) -> Tensor {
    let fixed = z.detach();
    let (from, onto) = (normalised(&fixed), normalised(codes));
    let between = normalised(&(&from + &onto));
    let turned = z - along(z, &between) * &between * 2.0 + along(z, &from) * &onto * 2.0;
    let length = norms(&fixed);
    let scaled = turned * (norms(codes) / length.clamp_min(MIN_NORM));
    scaled.where_self(&length.gt(MIN_NORM), z)
}

/// y = z + ‖e − z‖ · sg[(e − z)/‖e − z‖]; the direction is 0 if e = z.
fn moved(codes: &Tensor, z: &Tensor) -> Tensor {
    let difference = codes - z;
    let distance = norms(&difference);
    let direction = (&difference / &distance).detach();
    // 0/0 if the latent equals its code.
    z + &distance * direction.where_self(&distance.gt(0.0), &direction.zeros_like())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;
    use tch::Device;

    const ALL: [GradientEstimator; 3] =
        [GradientEstimator::StraightThrough, GradientEstimator::Rotation, GradientEstimator::Diveq];

    #[test]
    fn values_are_the_codes_and_gradients_are_numbers_at_the_edges() {
        pixtok_torch::reseed(Seed(4));
        let codes = Tensor::randn([2, 35, 4], (Kind::Float, Device::Cpu));
        let z = Tensor::randn([2, 35, 4], (Kind::Float, Device::Cpu));
        // A latent of 0, one that equals its code, and one that is opposite to it.
        for (column, factor) in [(0, 0.0), (1, 1.0), (2, -1.0)] {
            z.select(1, column).copy_(&(codes.select(1, column) * factor));
        }
        for estimator in ALL {
            let (z, codes) = (z.copy().set_requires_grad(true), codes.copy().set_requires_grad(true));
            let y = estimator.estimate(&codes, &z);
            assert_eq!(y, codes, "{estimator:?}");
            y.square().sum(Kind::Float).backward();
            assert_eq!(z.grad().isfinite().all().int64_value(&[]), 1, "{estimator:?}");
            let to_codes = codes.grad();
            assert_eq!(to_codes.defined(), estimator == GradientEstimator::Diveq, "{estimator:?}");
        }
    }
}
