//! Structural similarity.

use tch::{Device, Kind, Tensor};

use super::{Absent, ImageMetric};

/// Side of the Gaussian window, in pixels.
pub(super) const WINDOW: i64 = 11;
/// Standard deviation of the window, in pixels.
const SIGMA: f64 = 1.5;
/// (K1 · 255)² with K1 = 0.01.
const C1: f64 = 2.55 * 2.55;
/// (K2 · 255)² with K2 = 0.03.
const C2: f64 = 7.65 * 7.65;

/// Structural similarity (Wang et al. 2004) with a Gaussian window of 11×11, σ 1.5: mean over the positions where the
/// window lies inside the image, and over the channels.
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
        Absent::under(WINDOW, originals)?;
        let Maps { luminance, contrast } =
            maps(&originals.to_kind(Kind::Double), &recons.to_kind(Kind::Double));
        Ok(image_mean(&(luminance * contrast)))
    }
}

/// The two factors of the similarity at every position.
pub(super) struct Maps {
    /// (2 μx μy + C1) / (μx² + μy² + C1).
    pub luminance: Tensor,
    /// (2 σxy + C2) / (σx² + σy² + C2), contrast and structure in one.
    pub contrast: Tensor,
}

/// `[B, 3, H, W]` twice -> maps `[B, 3, H - 10, W - 10]`, all float64: in float32 the variances of flat regions,
/// differences of numbers near 255², would be rounding noise that C2 doesn't hide.
pub(super) fn maps(x: &Tensor, y: &Tensor) -> Maps {
    assert_eq!(x.size(), y.size(), "images and reconstructions differ in shape");
    let window = window(x.device());
    let (mean_x, mean_y) = (blur(x, &window), blur(y, &window));
    let (squares, product) = (mean_x.square() + mean_y.square(), &mean_x * &mean_y);
    let variances = blur(&(x.square() + y.square()), &window) - &squares;
    let covariance = blur(&(x * y), &window) - &product;
    Maps {
        luminance: (product * 2.0 + C1) / (squares + C1),
        contrast: (covariance * 2.0 + C2) / (variances + C2),
    }
}

/// Mean over channels and positions: `[B, 3, H, W]` -> `[B]`.
pub(super) fn image_mean(map: &Tensor) -> Tensor {
    map.mean_dim([1, 2, 3].as_slice(), false, Kind::Double)
}

/// The window along one axis, `[11]` float64, with sum 1.
fn window(device: Device) -> Tensor {
    let offset = Tensor::arange(WINDOW, (Kind::Double, device)) - (WINDOW / 2) as f64;
    let weights = (offset.square() * (-0.5 / (SIGMA * SIGMA))).exp();
    &weights / weights.sum(Kind::Double)
}

/// Weighted mean under the window at every position inside: `[B, 3, H, W]` -> `[B, 3, H - 10, W - 10]`.
fn blur(x: &Tensor, window: &Tensor) -> Tensor {
    blur_along(&blur_along(x, window, 2), window, 3)
}

/// A sum of shifted images: libtorch's own float64 convolution is several times slower on the CPU.
fn blur_along(x: &Tensor, window: &Tensor, axis: i64) -> Tensor {
    let inside = x.size()[axis as usize] - (WINDOW - 1);
    let mut sum = x.narrow(axis, 0, inside).zeros_like();
    for offset in 0..WINDOW {
        let _ = sum.addcmul_(&x.narrow(axis, offset, inside), &window.narrow(0, offset, 1));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // Without variance the second factor is 1: (2 * 0 * 255 + C1) / (0 + 255² + C1).
        let found = ssim(&flat(0, 11, 13), &flat(255, 11, 13));
        assert!(found.iter().all(|value| (value - C1 / (65025.0 + C1)).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn absent_under_the_window() {
        assert!(Ssim.measure(&flat(0, 11, 11), &flat(0, 11, 11)).is_ok());
        let absent = Ssim.measure(&flat(0, 10, 20), &flat(0, 10, 20)).unwrap_err();
        assert_eq!(absent.0, "images under 11 px a side");
    }

    #[test]
    fn the_window_is_normalised_and_symmetric() {
        let weights = Vec::<f64>::try_from(window(Device::Cpu)).unwrap();
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(weights[0], weights[10]);
        // exp(-1 / 4.5) one pixel from the centre.
        assert!((weights[6] / weights[5] - 0.800_737_402_916_808_1).abs() < 1e-12);
    }
}
