//! The leaky rectifier, which tch offers only with one slope.

use tch::Tensor;

use super::shim::{made, px_leaky_relu};

/// `x` where it is positive, otherwise `slope` · `x`, with derivatives.
///
/// # Shapes
/// Any shape -> the same shape.
///
/// # Panics
/// If libtorch fails, as tch's own operations do.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Tensor {
    // SAFETY: a live tensor and a number. On success the shim has written a new tensor.
    unsafe { made(|y| px_leaky_relu(x.as_ptr(), slope, y)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn values_and_slopes() {
        let x = Tensor::from_slice(&[-2f32, 3.0]).set_requires_grad(true);
        let y = leaky_relu(&x, 0.25);
        y.sum(Kind::Float).backward();
        assert_eq!(y, Tensor::from_slice(&[-0.5f32, 3.0]));
        assert_eq!(x.grad(), Tensor::from_slice(&[0.25f32, 1.0]));
    }
}
