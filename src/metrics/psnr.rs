//! Peak signal-to-noise ratio.

use tch::{Kind, Tensor};

use super::{ImageMean, differences, image_means};

/// What an image counts at most: a perfect copy has an infinite ratio, which no mean survives.
const CAP_DB: f64 = 100.0;

/// Peak signal-to-noise ratio, 10 log10(255² / MSE) per image and then the mean over images, in decibels.
#[derive(Debug, Default)]
pub struct Psnr {
    mean: ImageMean,
    /// Scalar int64, on the device of the first batch.
    perfect: Option<Tensor>,
}

impl Psnr {
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
        let mse = image_means(&differences(a, b).square());
        let perfect = mse.eq(0.0).sum(Kind::Int64);
        self.perfect = Some(match self.perfect.take() {
            Some(before) => before + perfect,
            None => perfect,
        });
        self.mean.add(&((mse.reciprocal() * (255.0 * 255.0)).log10() * 10.0).clamp_max(CAP_DB));
    }

    /// Mean in decibels, each image capped at 100; `None` without images. Waits for the device.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.mean.value()
    }

    /// Number of pairs that are equal in every value. Waits for the device.
    #[must_use]
    pub fn perfect(&self) -> i64 {
        self.perfect.as_ref().map_or(0, |count| count.int64_value(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn flat(level: i64) -> Tensor {
        Tensor::full([1, 3, 5, 7], level, (Kind::Uint8, Device::Cpu))
    }

    #[test]
    fn known_ratios() {
        for (a, b, db) in [(0, 255, 0.0), (255, 0, 0.0), (100, 101, 48.130_803_608_679_1), (3, 3, 100.0)] {
            let mut psnr = Psnr::new();
            psnr.add(&flat(a), &flat(b));
            assert!((psnr.value().unwrap() - db).abs() < 1e-9, "{a} against {b}: {:?}", psnr.value());
        }
    }

    #[test]
    fn the_mean_is_over_images_and_not_over_errors() {
        let mut psnr = Psnr::new();
        psnr.add(&Tensor::cat(&[flat(0), flat(9)], 0), &Tensor::cat(&[flat(255), flat(9)], 0));
        psnr.add(&flat(7), &flat(7));
        assert_eq!((psnr.value(), psnr.perfect()), (Some(200.0 / 3.0), 2));
    }

    #[test]
    fn one_wrong_value_is_not_perfect() {
        let (a, b) = (flat(7), flat(7));
        let _ = b.get(0).get(2).get(4).get(6).fill_(8);
        let mut psnr = Psnr::new();
        psnr.add(&a, &b);
        assert_eq!(psnr.perfect(), 0);
        // MSE 1/105.
        assert!((psnr.value().unwrap() - 10.0 * (65025.0f64 * 105.0).log10()).abs() < 1e-9);
    }

    #[test]
    fn nothing_added_is_no_value() {
        assert_eq!((Psnr::new().value(), Psnr::new().perfect()), (None, 0));
    }
}
