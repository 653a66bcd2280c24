//! Structural similarity of two images: for the metrics in float64, for the loss in float32 with gradients.

use tch::{Kind, Tensor};

/// Side of the Gaussian window, in pixels.
pub const WINDOW: i64 = 11;
/// Exponents of [`multi_scale`] from the finest scale to the coarsest (Wang et al. 2003).
pub const SCALES: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// Standard deviation of the window, in pixels.
const SIGMA: f64 = 1.5;
/// C1 = (K1 · range)².
const K1: f64 = 0.01;
/// C2 = (K2 · range)².
const K2: f64 = 0.03;

/// The two factors of the similarity (Wang et al. 2004) at every position.
#[derive(Debug)]
pub struct Maps {
    /// (2 μx μy + C1) / (μx² + μy² + C1).
    pub luminance: Tensor,
    /// (2 σxy + C2) / (σx² + σy² + C2), contrast and structure in one.
    pub contrast: Tensor,
}

/// Of images whose values lie `range` apart at most, in the type of the images.
///
/// # Shapes
/// `[B, 3, H, W]` twice -> maps `[B, 3, H - 10, W - 10]`.
///
/// # Panics
/// When the shapes differ or a side is under [`WINDOW`].
#[must_use]
pub fn maps(x: &Tensor, y: &Tensor, range: f64) -> Maps {
    assert_eq!(x.size(), y.size(), "images and reconstructions differ in shape");
    let (c1, c2) = ((K1 * range).powi(2), (K2 * range).powi(2));
    let blur = Blur::of(x);
    let (mean_x, mean_y) = (blur.apply(x), blur.apply(y));
    let (squares, product) = (mean_x.square() + mean_y.square(), &mean_x * &mean_y);
    let variances = blur.apply(&(x.square() + y.square())) - &squares;
    let covariance = blur.apply(&(x * y)) - &product;
    Maps {
        luminance: (product * 2.0 + c1) / (squares + c1),
        contrast: (covariance * 2.0 + c2) / (variances + c2),
    }
}

/// Mean over channels and positions: `[B, 3, H, W]` -> `[B]`.
pub fn image_mean(map: &Tensor) -> Tensor {
    map.mean_dim([1, 2, 3].as_slice(), false, map.kind())
}

/// How many scales an image of this least side has, each half the one before, the coarsest no smaller than the window.
#[must_use]
pub fn scales_within(side: i64) -> usize {
    (0..SCALES.len()).take_while(|scale| WINDOW << scale <= side).count()
}

/// Multi-scale structural similarity (Wang et al. 2003): the contrast of all scales but the last and the similarity of that, each
/// a mean over channels and positions, at least `floor`, to the power of its weight. A scale is half the one before, by the mean
/// of 2×2 pixels; an odd last row or column is left out. With fewer than five scales the weights of those are raised to the sum
/// of all. The last scale is taken over the whole image, mirrored beyond its border, and the others where the window lies
/// inside, as torchmetrics does.
///
/// # Shapes
/// `[B, 3, H, W]` twice -> `[B]`.
///
/// # Panics
/// When the shapes differ, `scales` is 0, or more than [`scales_within`] the images.
pub fn multi_scale(x: &Tensor, y: &Tensor, range: f64, scales: usize, floor: f64) -> Tensor {
    let weights = &SCALES[..scales];
    let raised = SCALES.iter().sum::<f64>() / weights.iter().sum::<f64>();
    let halved = |x: &Tensor| x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
    let (mut x, mut y) = (x.shallow_clone(), y.shallow_clone());
    let mut factors = vec![];
    for (scale, weight) in weights.iter().enumerate() {
        let factor = if scale + 1 < scales {
            let contrast = maps(&x, &y, range).contrast;
            (x, y) = (halved(&x), halved(&y));
            image_mean(&contrast)
        } else {
            let Maps { luminance, contrast } = maps(&mirrored(&x), &mirrored(&y), range);
            image_mean(&(luminance * contrast))
        };
        factors.push(factor.clamp_min(floor).pow_tensor_scalar(weight * raised));
    }
    // One factor after the other: the gradient of libtorch's product over an axis waits for the device.
    let one = Tensor::ones([x.size()[0]], (x.kind(), x.device()));
    factors.iter().fold(one, |product, factor| product * factor)
}

/// With half a window of mirrored pixels around it; libtorch's own operation is not deterministic backward on CUDA.
fn mirrored(x: &Tensor) -> Tensor {
    let half = WINDOW / 2;
    [2, 3].into_iter().fold(x.shallow_clone(), |x, axis| {
        let side = x.size()[axis as usize];
        let part = |start: i64| x.narrow(axis, start, half).flip([axis]);
        Tensor::cat(&[part(1), x.shallow_clone(), part(side - 1 - half)], axis)
    })
}

/// Weighted means under the window at every position inside, as many at a time as share their sides.
struct Blur {
    /// `[H, H - 10]` and `[W, W - 10]`, or the window itself, `[11]`.
    down: Tensor,
    across: Tensor,
    banded: bool,
}

impl Blur {
    /// For images like `x`. In float32 each axis is a product with a banded matrix: few operations with cheap gradients. In float64
    /// it is a sum of shifted images, which large images take less time for.
    fn of(x: &Tensor) -> Self {
        let banded = x.kind() != Kind::Double;
        let along = |axis: usize| if banded { band(x, x.size()[axis]) } else { band(x, WINDOW).view([-1]) };
        Self { down: along(2), across: along(3), banded }
    }

    /// `[B, 3, H, W]` -> `[B, 3, H - 10, W - 10]`.
    fn apply(&self, x: &Tensor) -> Tensor {
        if self.banded {
            self.down.transpose(0, 1).matmul(x).matmul(&self.across)
        } else {
            shifted(&shifted(x, &self.down, 2), &self.across, 3)
        }
    }
}

/// The window at each place inside `side` pixels, a column each, with sum 1: `[side, side - 10]`.
fn band(x: &Tensor, side: i64) -> Tensor {
    let places = |count: i64| Tensor::arange(count, (x.kind(), x.device()));
    let offset = places(side).unsqueeze(1) - places(side - WINDOW + 1) - (WINDOW / 2) as f64;
    let inside = offset.abs().le((WINDOW / 2) as f64);
    let weights = (offset.square() * (-0.5 / (SIGMA * SIGMA))).exp() * inside;
    &weights / weights.sum_dim_intlist([0].as_slice(), true, x.kind())
}

fn shifted(x: &Tensor, window: &Tensor, axis: i64) -> Tensor {
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
    use tch::Device;

    fn images(kind: Kind, size: [i64; 4]) -> Tensor {
        Tensor::rand(size, (Kind::Double, Device::Cpu)).to_kind(kind)
    }

    #[test]
    fn the_window_is_normalised_and_symmetric() {
        let weights = Vec::<f64>::try_from(band(&images(Kind::Double, [1; 4]), WINDOW).view([-1])).unwrap();
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(weights[0], weights[10]);
        // exp(-1 / 4.5) one pixel from the centre.
        assert!((weights[6] / weights[5] - 0.800_737_402_916_808_1).abs() < 1e-12);
    }

    #[test]
    fn both_ways_to_blur_agree() {
        tch::manual_seed(5);
        let x = images(Kind::Double, [2, 3, 13, 29]);
        let (banded, shifted) = (Blur::of(&x.to_kind(Kind::Float)), Blur::of(&x));
        let difference = banded.apply(&x.to_kind(Kind::Float)).to_kind(Kind::Double) - shifted.apply(&x);
        assert_eq!(difference.size(), [2, 3, 3, 19]);
        assert!(difference.abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn scales_are_as_many_as_fit() {
        assert_eq!([10, 11, 21, 22, 64, 175, 176, 500].map(scales_within), [0, 1, 1, 2, 3, 4, 5, 5]);
    }

    #[test]
    fn one_scale_is_the_similarity_of_the_mirrored_images() {
        tch::manual_seed(6);
        let x = images(Kind::Double, [2, 3, 12, 17]);
        let y = &x + images(Kind::Double, [2, 3, 12, 17]) * 0.1;
        let Maps { luminance, contrast } =
            maps(&x.reflection_pad2d([5; 4]), &y.reflection_pad2d([5; 4]), 1.0);
        let expected = image_mean(&(luminance * contrast)).pow_tensor_scalar(SCALES.iter().sum::<f64>());
        assert!((multi_scale(&x, &y, 1.0, 1, 0.0) - expected).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn unlike_images_leave_gradients_finite() {
        tch::manual_seed(7);
        let x = images(Kind::Float, [1, 3, 24, 31]).set_requires_grad(true);
        let opposite: Tensor = 1.0 - x.detach();
        multi_scale(&x, &opposite, 1.0, 2, 1e-3).sum(Kind::Float).backward();
        assert!(x.grad().isfinite().all().int64_value(&[]) == 1);
    }
}
