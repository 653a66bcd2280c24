//! Structural similarity over five scales.

use tch::{Kind, Tensor};

use super::ssim::RANGE;
use super::{Absent, ImageMetric};
use crate::similarity::{SCALES, WINDOW, multi_scale};

/// The least side in pixels: at the coarsest scale, a sixteenth of it, the window still fits.
const LEAST_SIDE: i64 = WINDOW << (SCALES.len() - 1);

/// Multi-scale structural similarity (Wang et al. 2003) over five scales: see [`multi_scale`].
/// Negative values count as 0.
///
/// Equal to torchmetrics' `MultiScaleStructuralSimilarityIndexMeasure` with `data_range=255`.
#[derive(Debug, Clone, Copy)]
pub struct MsSsim;

impl ImageMetric for MsSsim {
    fn name(&self) -> &'static str {
        "ms_ssim"
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        Absent::under(LEAST_SIDE, originals)?;
        let double = |images: &Tensor| images.to_kind(Kind::Double);
        Ok(multi_scale(&double(originals), &double(recons), RANGE, SCALES.len(), 0.0))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn equal_images_score_one_and_opposite_ones_nothing() {
        let image = Tensor::randint(256, [2, 3, 176, 181], (Kind::Uint8, Device::Cpu));
        let same = Vec::<f64>::try_from(MsSsim.measure(&image, &image).unwrap()).unwrap();
        assert!(same.iter().all(|value| (value - 1.0).abs() < 1e-12), "{same:?}");
        let inverse = image.bitwise_not();
        let opposite = Vec::<f64>::try_from(MsSsim.measure(&image, &inverse).unwrap()).unwrap();
        assert_eq!(opposite, [0.0, 0.0]);
    }

    #[test]
    fn absent_where_the_coarsest_scale_is_smaller_than_the_window() {
        let image = Tensor::zeros([1, 3, 175, 300], (Kind::Uint8, Device::Cpu));
        assert_eq!(MsSsim.measure(&image, &image).unwrap_err().0, "images under 176 px a side");
    }
}
