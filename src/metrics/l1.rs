//! Mean absolute error.

use tch::Tensor;

use super::{Absent, ImageMetric, differences, image_means};

/// Mean absolute error in 8-bit levels (0 to 255).
#[derive(Debug, Clone, Copy)]
pub struct L1;

impl ImageMetric for L1 {
    fn name(&self) -> &'static str {
        "l1"
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        Ok(image_means(&differences(originals, recons).abs()))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn the_sign_does_not_matter_and_images_are_apart() {
        let flat = |level: i64| Tensor::full([1, 3, 5, 7], level, (Kind::Uint8, Device::Cpu));
        let a = Tensor::cat(&[flat(10), flat(200), flat(0)], 0);
        let b = Tensor::cat(&[flat(13), flat(198), flat(255)], 0);
        assert_eq!(Vec::<f64>::try_from(L1.measure(&a, &b).unwrap()).unwrap(), [3.0, 2.0, 255.0]);
    }
}
