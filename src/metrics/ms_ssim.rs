//! Structural similarity over five scales.

use tch::{Kind, Tensor};

use super::ssim::{Maps, WINDOW, image_mean, maps};
use super::{Absent, ImageMetric};

/// Exponents from the finest scale to the coarsest (Wang et al. 2003).
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// The least side whose coarsest scale, a sixteenth of it, still holds a window.
const LEAST_SIDE: i64 = WINDOW << (WEIGHTS.len() - 1);

/// Multi-scale structural similarity (Wang et al. 2003): the contrast of four scales and the similarity of the fifth,
/// each a mean over channels and positions, 0 where negative, to the power of its weight. A scale is half the one
/// before, by the mean of 2×2 pixels; an odd last row or column is left out.
///
/// Equal to torchmetrics' `MultiScaleStructuralSimilarityIndexMeasure` with `data_range=255`, which takes the fifth
/// scale over the whole image, mirrored beyond its border, and the others where the window lies inside.
#[derive(Debug, Clone, Copy)]
pub struct MsSsim;

impl ImageMetric for MsSsim {
    fn name(&self) -> &'static str {
        "ms_ssim"
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        Absent::under(LEAST_SIDE, originals)?;
        let halved = |x: &Tensor| x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
        let (mut x, mut y) = (originals.to_kind(Kind::Double), recons.to_kind(Kind::Double));
        let mut product = Tensor::ones([x.size()[0]], (Kind::Double, x.device()));
        for (scale, weight) in WEIGHTS.iter().enumerate() {
            let factor = if scale + 1 < WEIGHTS.len() {
                let contrast = maps(&x, &y).contrast;
                (x, y) = (halved(&x), halved(&y));
                image_mean(&contrast)
            } else {
                let Maps { luminance, contrast } = maps(&mirrored(&x), &mirrored(&y));
                image_mean(&(luminance * contrast))
            };
            product *= factor.relu().pow_tensor_scalar(*weight);
        }
        Ok(product)
    }
}

/// With half a window of mirrored pixels around it.
fn mirrored(x: &Tensor) -> Tensor {
    x.reflection_pad2d([WINDOW / 2; 4])
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
