//! Doubling an image and convolving it as one operation, on the CPU.

use tch::Tensor;

use super::shim::{made, px_upsample_conv};

/// conv2d(upsample_nearest(`x`, 2), `weight`, `bias`, padding 1) with its derivative, in `x`'s type, without the doubled image
/// and with less than half of its products. Sums are rounded otherwise than in two operations.
///
/// # Shapes
/// `x`: `[B, I, h, w]` float32 or bfloat16; `weight`: `[O, I, 3, 3]` float32; `bias`: `[O]` float32 -> `[B, O, 2h, 2w]`,
/// channels_last.
///
/// # Panics
/// When shapes, types or devices are others, as tch's own methods do; [`super::catching`] makes it an error.
pub fn upsample_conv(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    // SAFETY: three live tensors, whose shapes, types and devices the shim checks before it touches their memory; when it
    // succeeds it has written a new tensor.
    unsafe { made(|y| px_upsample_conv(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), y)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catching;
    use tch::{Device, Kind};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        x.upsample_nearest2d_vec(None::<&[i64]>, [2.0; 2]).conv2d(weight, Some(bias), 1, 1, 1, 1)
    }

    /// y and the derivatives of sum(y · dy) by x, weight and bias, in float64.
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
                let ours = with_derivatives([&x, &weight, &bias, &dy], upsample_conv);
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
        let bias = ones(&[3], Kind::Float);
        for (x, weight) in [
            (ones(&[1, 2, 4, 4], Kind::Double), ones(&[3, 2, 3, 3], Kind::Float)),
            (ones(&[1, 2, 4, 4], Kind::Float), ones(&[3, 2, 5, 5], Kind::Float)),
            (ones(&[1, 2, 4, 4], Kind::Float), ones(&[4, 2, 3, 3], Kind::Float)),
        ] {
            let refused = catching(|| upsample_conv(&x, &weight, &bias)).unwrap_err().to_string();
            assert!(refused.contains("px_upsample_conv"), "{refused}");
        }
    }
}
