//! Enlarging an image and convolving it.

use tch::Tensor;

use super::shim::{made, px_upsample_conv};

/// conv2d(upsample_nearest(`x`, `factor`), `weight`, `bias`, padding 1). Calls the operator
/// `pixtok::upsample_conv`.
///
/// If `x` carries a gradient, is float32 or bfloat16 on the CPU, and is doubled, this is one
/// operation in `x`'s type with a channels_last result. It does not make the doubled image, and
/// needs less than half of the products. Its sums are rounded differently from those of two
/// operations. In all other cases it is libtorch's two operations.
///
/// # Shapes
/// `x`: `[B, I, h, w]`; `weight`: `[O, I, 3, 3]` float32; `bias`: `[O]` float32 -> `[B, O, factor ·
/// h, factor · w]`.
///
/// # Panics
/// If shapes, types or devices do not match, as tch's own methods do; [`super::catching`] converts
/// it to an error.
pub fn upsample_conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, factor: i64) -> Tensor {
    let bias = bias.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: live tensors (the bias may be null), which the operator checks before it accesses
    // their memory. On success it has written a new tensor.
    unsafe { made(|y| px_upsample_conv(x.as_ptr(), weight.as_ptr(), bias, factor, y)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Precision, catching, with_precision};
    use tch::{Device, Kind};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        x.upsample_nearest2d_vec(None::<&[i64]>, [2.0; 2]).conv2d(weight, Some(bias), 1, 1, 1, 1)
    }

    /// y and the derivatives of sum(y · dy) with respect to x, weight and bias, in float64.
    fn with_derivatives(
        [x, weight, bias, dy]: [&Tensor; 4],
        run: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor,
    ) -> [Tensor; 4] {
        let leaf = |t: &Tensor| t.detach().copy().set_requires_grad(true);
        let (x, weight, bias) = (leaf(x), leaf(weight), leaf(bias));
        let y = run(&x, &weight, &bias);
        (y.to_kind(Kind::Double) * dy).sum(Kind::Double).backward();
        [y.detach(), x.grad(), weight.grad(), bias.grad()].map(|t| t.to_kind(Kind::Double))
    }

    #[test]
    fn it_is_upsampling_and_a_convolution() {
        for (shape, out) in [([2, 5, 5, 7], 6), ([1, 16, 1, 1], 16), ([3, 4, 8, 6], 3)] {
            tch::manual_seed(out);
            let x = Tensor::randn(shape, CPU);
            let weight = Tensor::randn([out, shape[1], 3, 3], CPU);
            let bias = Tensor::randn([out], CPU);
            let dy = Tensor::randn([shape[0], out, 2 * shape[2], 2 * shape[3]], CPU);
            for (kind, most) in [(Kind::Float, 1e-5), (Kind::BFloat16, 2e-2)] {
                let x = x.to_kind(kind);
                let ours = with_derivatives([&x, &weight, &bias, &dy], |x, weight, bias| {
                    upsample_conv(x, weight, Some(bias), 2)
                });
                let double = |t: &Tensor| t.to_kind(Kind::Double);
                let exact = with_derivatives([&double(&x), &double(&weight), &double(&bias), &dy], plain);
                for (part, (ours, exact)) in
                    ["y", "dx", "dweight", "dbias"].iter().zip(ours.iter().zip(&exact))
                {
                    let apart = (ours - exact).abs().max().double_value(&[]);
                    let scale = exact.abs().max().double_value(&[]);
                    assert!(apart < most * scale, "{shape:?} {kind:?} {part}: {apart} of {scale}");
                }
            }
        }
    }

    #[test]
    fn other_tensors_are_refused() {
        let ones = |shape: &[i64], kind| Tensor::ones(shape, (kind, Device::Cpu));
        let (x, bias) = (ones(&[1, 2, 4, 3], Kind::Float).set_requires_grad(true), ones(&[3], Kind::Float));
        for weight in [
            ones(&[3, 2, 3, 3], Kind::BFloat16),
            ones(&[3, 2, 5, 5], Kind::Float),
            ones(&[4, 2, 3, 3], Kind::Float),
        ] {
            let refused = catching(|| upsample_conv(&x, &weight, Some(&bias), 2)).unwrap_err().to_string();
            assert!(refused.contains("pixtok::upsample_conv"), "{refused}");
        }
    }

    #[test]
    fn it_is_libtorchs_own_unless_a_doubling_is_trained() {
        tch::manual_seed(3);
        let (x, weight) = (Tensor::randn([2, 5, 5, 7], CPU), Tensor::randn([6, 5, 3, 3], CPU));
        let bias = Tensor::randn([6], CPU);
        let enlarged = |factor: f64| x.upsample_nearest2d_vec(None::<&[i64]>, [factor; 2]);
        assert_eq!(upsample_conv(&x, &weight, Some(&bias), 2), plain(&x, &weight, &bias));
        let x_grad = x.detach().copy().set_requires_grad(true);
        let thrice = enlarged(3.0).conv2d(&weight, Some(&bias), 1, 1, 1, 1);
        assert_eq!(upsample_conv(&x_grad, &weight, Some(&bias), 3).detach(), thrice);
        let without_bias = enlarged(2.0).conv2d(&weight, None::<&Tensor>, 1, 1, 1, 1);
        assert_eq!(upsample_conv(&x_grad, &weight, None, 2).detach(), without_bias);
    }

    /// Autocast computes libtorch's convolution in bfloat16, but does not affect our operation.
    #[test]
    fn the_one_operation_stays_in_the_inputs_type() {
        let (x, weight) = (Tensor::randn([2, 5, 5, 7], CPU), Tensor::randn([6, 5, 3, 3], CPU));
        let bias = Tensor::randn([6], CPU);
        let under_autocast =
            |x: &Tensor| with_precision(Precision::Bf16, || upsample_conv(x, &weight, Some(&bias), 2)).kind();
        assert_eq!(under_autocast(&x), Kind::BFloat16);
        assert_eq!(under_autocast(&x.set_requires_grad(true)), Kind::Float);
    }
}
