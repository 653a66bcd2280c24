//! Peak signal-to-noise ratio.

use tch::{Kind, Tensor};

use super::{Absent, ImageMetric, differences, image_means};

/// The highest value of an image. A perfect copy has an infinite ratio, which would make every mean
/// infinite.
const CAP_DB: f64 = 100.0;

/// Peak signal-to-noise ratio in decibels, 10 log10(255² / MSE), at most 100. Higher is better.
#[derive(Debug, Clone, Copy)]
pub struct Psnr;

impl ImageMetric for Psnr {
    fn name(&self) -> &'static str {
        "psnr_db"
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        let mse = image_means(&differences(originals, recons).square());
        Ok(((mse.reciprocal() * (255.0 * 255.0)).log10() * 10.0).clamp_max(CAP_DB))
    }
}

/// The mean over the images of a batch, in decibels. Waits for the device.
///
/// # Shapes
/// `a`, `b`: `[B, 3, H, W]` uint8.
#[must_use]
pub fn mean_psnr(a: &Tensor, b: &Tensor) -> f64 {
    // Images of every size have one.
    Psnr.measure(a, b).map_or(f64::NAN, |values| values.mean(Kind::Double).double_value(&[]))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn flat(level: i64) -> Tensor {
        Tensor::full([1, 3, 5, 7], level, (Kind::Uint8, Device::Cpu))
    }

    fn psnr(a: &Tensor, b: &Tensor) -> Vec<f64> {
        Psnr.measure(a, b).unwrap().try_into().unwrap()
    }

    #[test]
    fn known_ratios() {
        for (a, b, db) in [(0, 255, 0.0), (255, 0, 0.0), (100, 101, 48.130_803_608_679_1), (3, 3, 100.0)] {
            let found = psnr(&flat(a), &flat(b));
            assert!((found[0] - db).abs() < 1e-9, "{a} against {b}: {found:?}");
        }
    }

    #[test]
    fn each_image_has_its_own() {
        let found = psnr(&Tensor::cat(&[flat(0), flat(9)], 0), &Tensor::cat(&[flat(255), flat(9)], 0));
        assert_eq!(found, [0.0, 100.0]);
    }

    #[test]
    fn one_wrong_value_counts() {
        let (a, b) = (flat(7), flat(7));
        let _ = b.get(0).get(2).get(4).get(6).fill_(8);
        // The MSE is 1/105.
        assert!((psnr(&a, &b)[0] - 10.0 * (65025.0f64 * 105.0).log10()).abs() < 1e-9);
    }
}
