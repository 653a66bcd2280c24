//! Errors between what images look like rather than between pixels.

use tch::{Kind, Tensor};

use super::{Config, LossTerm};
use crate::pretrained::Lpips;
use crate::similarity::{multi_scale, scales_within};
use pixtok_torch::in_full_precision;

/// Span of the values of images.
const RANGE: f64 = 2.0;
/// The least similarity of a scale: below, the gradient of its power, whose exponent is under 1, grows without bound.
const FLOOR: f64 = 1e-4;

/// The terms with a weight; `network` is there when they need it.
///
/// # Shapes
/// `recon`, `images`: `[B, 3, H, W]` float32 -> scalars.
pub(super) fn terms(
    config: &Config,
    network: Option<&Lpips>,
    recon: &Tensor,
    images: &Tensor,
) -> Vec<LossTerm> {
    let mut terms = vec![];
    if config.ms_ssim > 0.0 {
        terms.push(LossTerm { name: "ms_ssim", value: dissimilarity(recon, images), weight: config.ms_ssim });
    }
    if let Some(network) = network.filter(|_| config.needed_network().is_some()) {
        let differences = network.differences(recon, images, config.lpips > 0.0, config.features > 0.0);
        let named =
            [("lpips", differences.lpips, config.lpips), ("features", differences.features, config.features)];
        terms.extend(
            named
                .into_iter()
                .filter_map(|(name, value, weight)| Some(LossTerm { name, value: value?, weight })),
        );
    }
    terms
}

/// 1 − MS-SSIM, the mean over images.
fn dissimilarity(recon: &Tensor, images: &Tensor) -> Tensor {
    let size = recon.size();
    let scales = scales_within(size[2].min(size[3]));
    // A product of matrices would follow autocast.
    in_full_precision(|| 1.0 - multi_scale(recon, images, RANGE, scales, FLOOR).mean(Kind::Float))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_torch::{Precision, with_precision};
    use tch::Device;

    #[test]
    fn dissimilarity_is_nothing_for_equal_images_and_ignores_autocast() {
        tch::manual_seed(2);
        let x = Tensor::rand([2, 3, 24, 33], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        assert!(dissimilarity(&x, &x).double_value(&[]).abs() < 1e-5);
        let y = x.flip([3]).set_requires_grad(true);
        let plain = dissimilarity(&y, &x);
        assert!(plain.double_value(&[]) > 0.1);
        with_precision(Precision::Bf16, || assert_eq!(dissimilarity(&y, &x), plain));
        plain.backward();
        assert!(y.grad().abs().max().double_value(&[]) > 0.0);
    }
}
