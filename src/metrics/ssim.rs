//! Structural similarity.

use tch::{Device, Kind, Tensor};

use super::ImageMean;

/// Side of the Gaussian window, in pixels.
const WINDOW: i64 = 11;
/// Standard deviation of the window, in pixels.
const SIGMA: f64 = 1.5;
/// (K1 · 255)² with K1 = 0.01.
const C1: f64 = 2.55 * 2.55;
/// (K2 · 255)² with K2 = 0.03.
const C2: f64 = 7.65 * 7.65;

/// Structural similarity (Wang et al. 2004) with a Gaussian window of 11×11, σ 1.5: mean over the positions where the
/// window lies inside the image, over the channels, then over the images.
///
/// Equal to scikit-image's `structural_similarity` with `gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, data_range=255`.
#[derive(Debug, Default)]
pub struct Ssim {
    mean: ImageMean,
    /// An image was smaller than the window.
    too_small: bool,
}

impl Ssim {
    /// With no images yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch of pairs.
    ///
    /// # Shapes
    /// `a`, `b`: `[B, 3, H, W]` uint8.
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn add(&mut self, a: &Tensor, b: &Tensor) {
        assert_eq!(a.size(), b.size(), "images and reconstructions differ in shape");
        let size = a.size();
        if size[2].min(size[3]) < WINDOW {
            self.too_small = true;
            return;
        }
        let map = similarity(&a.to_kind(Kind::Double), &b.to_kind(Kind::Double));
        self.mean.add(&map.mean_dim([1, 2, 3].as_slice(), false, Kind::Double));
    }

    /// Mean, at most 1; `None` without images, and when any had a side under 11 pixels: a mean over the others would
    /// pass for one over all. Waits for the device.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        if self.too_small { None } else { self.mean.value() }
    }
}

/// SSIM of every position: `[B, 3, H, W]` twice -> `[B, 3, H - 10, W - 10]`, all float64: in float32 the variances of
/// flat regions, differences of numbers near 255², would be rounding noise that C2 doesn't hide.
fn similarity(x: &Tensor, y: &Tensor) -> Tensor {
    let window = window(x.device());
    let (mean_x, mean_y) = (blur(x, &window), blur(y, &window));
    let (xx, yy, xy) = (mean_x.square(), mean_y.square(), &mean_x * &mean_y);
    let variances = blur(&(x.square() + y.square()), &window) - &xx - &yy;
    let covariance = blur(&(x * y), &window) - &xy;
    ((xy * 2.0 + C1) * (covariance * 2.0 + C2)) / ((xx + yy + C1) * (variances + C2))
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

    #[test]
    fn equal_images_score_one() {
        let mut ssim = Ssim::new();
        let image = Tensor::randint(256, [2, 3, 12, 17], (Kind::Uint8, Device::Cpu));
        ssim.add(&image, &image);
        assert!((ssim.value().unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn flat_images_score_by_their_means_alone() {
        // Without variance the second factor is 1: (2 * 0 * 255 + C1) / (0 + 255² + C1).
        let mut ssim = Ssim::new();
        ssim.add(&flat(0, 11, 13), &flat(255, 11, 13));
        assert!((ssim.value().unwrap() - C1 / (65025.0 + C1)).abs() < 1e-9);
    }

    #[test]
    fn absent_under_the_window_even_among_larger_images() {
        let mut ssim = Ssim::new();
        assert_eq!(ssim.value(), None);
        ssim.add(&flat(0, 11, 11), &flat(0, 11, 11));
        assert!(ssim.value().is_some());
        ssim.add(&flat(0, 10, 20), &flat(0, 10, 20));
        assert_eq!(ssim.value(), None);
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
