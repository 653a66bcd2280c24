//! Loss terms for how images look: MS-SSIM, and distances between features.

use tch::{Kind, Tensor};

use super::{Config, LossTerm};
use crate::pretrained::Lpips;
use crate::similarity::{multi_scale, scales_within};
use pixtok_torch::in_full_precision;

/// The range of image values: the maximum minus the minimum.
const RANGE: f64 = 2.0;
/// The least similarity of a scale. Below it, the gradient of the power would grow without bound,
/// because its exponent is less than 1.
const FLOOR: f64 = 1e-4;

/// The terms whose weight is not 0. `network` must be given if they need it.
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

/// 1 − MS-SSIM, averaged over the images.
fn dissimilarity(recon: &Tensor, images: &Tensor) -> Tensor {
    let size = recon.size();
    let scales = scales_within(size[2].min(size[3]));
    // Autocast would compute a matrix product in bf16.
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
