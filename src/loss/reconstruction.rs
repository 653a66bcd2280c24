//! Loss terms between pixels of images in [−1, 1], each a mean over all elements in float32.

use tch::{Kind, Tensor};

use super::{Config, LossTerm};

/// The terms whose weight is not 0.
///
/// # Shapes
/// `recon`, `images`: `[B, 3, H, W]` float32 -> scalars.
pub(super) fn terms(config: &Config, recon: &Tensor, images: &Tensor) -> Vec<LossTerm> {
    let mut terms = vec![];
    let mut add = |name, weight: f64, value: &dyn Fn() -> Tensor| {
        if weight > 0.0 {
            terms.push(LossTerm { name, value: value(), weight });
        }
    };
    add("l1", config.l1, &|| recon.l1_loss(images, tch::Reduction::Mean));
    add("mse", config.mse, &|| recon.mse_loss(images, tch::Reduction::Mean));
    add("charbonnier", config.charbonnier, &|| {
        let squared = config.charbonnier_epsilon.powi(2);
        ((recon - images).square() + squared).sqrt().mean(Kind::Float)
    });
    terms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::total;

    #[test]
    fn terms_by_hand() {
        let config =
            Config { l1: 1.0, mse: 2.0, charbonnier: 4.0, charbonnier_epsilon: 0.75, ..Config::default() };
        let terms = terms(&config, &Tensor::from_slice(&[1f32, 0.0]), &Tensor::from_slice(&[0f32, 0.0]));
        let values: Vec<f64> = terms.iter().map(|term| term.value.double_value(&[])).collect();
        // √(1 + 0.5625) = 1.25 and √0.5625 = 0.75.
        assert_eq!(values, [0.5, 0.5, 1.0]);
        assert_eq!(total(&terms).unwrap().double_value(&[]), 0.5 + 1.0 + 4.0);
    }
}
