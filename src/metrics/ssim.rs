//! Structural similarity.

use tch::{Kind, Tensor};

use super::{Absent, ImageMetric};
use crate::similarity::{Maps, WINDOW, image_mean, maps};

/// The least side in pixels: the window must fit into the image.
const LEAST_SIDE: i64 = WINDOW;

/// The range of the values of 8-bit images.
pub(super) const RANGE: f64 = 255.0;

/// Structural similarity (Wang et al. 2004) with a Gaussian window of 11×11, σ 1.5: the mean over
/// the positions where the window lies inside the image, and over the channels.
///
/// Equal to scikit-image's `structural_similarity` with `gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, data_range=255`.
#[derive(Debug, Clone, Copy)]
pub struct Ssim;

impl ImageMetric for Ssim {
    fn name(&self) -> &'static str {
        "ssim"
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        Absent::under(LEAST_SIDE, originals)?;
        // In float64: variances of flat regions are differences of numbers near 255². In float32
        // they would be rounding noise that C2 does not hide.
        let Maps { luminance, contrast } =
            maps(&originals.to_kind(Kind::Double), &recons.to_kind(Kind::Double), RANGE);
        Ok(image_mean(&(luminance * contrast)))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// (K1 · 255)².
    const C1: f64 = 2.55 * 2.55;

    fn flat(level: i64, height: i64, width: i64) -> Tensor {
        Tensor::full([2, 3, height, width], level, (Kind::Uint8, Device::Cpu))
    }

    fn ssim(a: &Tensor, b: &Tensor) -> Vec<f64> {
        Ssim.measure(a, b).unwrap().try_into().unwrap()
    }

    #[test]
    fn equal_images_score_one() {
        let image = Tensor::randint(256, [2, 3, 12, 17], (Kind::Uint8, Device::Cpu));
        assert!(ssim(&image, &image).iter().all(|value| (value - 1.0).abs() < 1e-12));
    }

    #[test]
    fn flat_images_score_by_their_means_alone() {
        // Without variance, the second factor is 1: (2 * 0 * 255 + C1) / (0 + 255² + C1).
        let found = ssim(&flat(0, 11, 13), &flat(255, 11, 13));
        assert!(found.iter().all(|value| (value - C1 / (65025.0 + C1)).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn absent_under_the_window() {
        assert!(Ssim.measure(&flat(0, 11, 11), &flat(0, 11, 11)).is_ok());
        let absent = Ssim.measure(&flat(0, 10, 20), &flat(0, 10, 20)).unwrap_err();
        assert_eq!(absent.0, "images under 11 px a side");
    }
}
