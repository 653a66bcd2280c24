//! Mean absolute difference.

use tch::Tensor;

use super::{ImageMean, differences, image_means};

/// Mean absolute difference per image, then the mean over images, in 8-bit levels (0 to 255).
#[derive(Debug, Default)]
pub struct L1 {
    mean: ImageMean,
}

impl L1 {
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
        self.mean.add(&image_means(&differences(a, b).abs()));
    }

    /// Mean in 8-bit levels; `None` without images. Waits for the device.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.mean.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn counts_levels_in_either_direction() {
        let flat = |level: i64| Tensor::full([2, 3, 5, 7], level, (Kind::Uint8, Device::Cpu));
        let mut l1 = L1::new();
        assert_eq!(l1.value(), None);
        l1.add(&flat(0), &flat(255));
        l1.add(&flat(10), &flat(7));
        assert_eq!(l1.value(), Some(129.0));
    }
}
