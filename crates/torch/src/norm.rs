//! Group normalisation followed by SiLU.

use pixtok_pixels::Instructions;
use tch::{Device, Tensor};

use super::cpu::{index_of, instructions};
use super::shim::{made, px_norm_silu};

/// silu(group_norm(`x`)). Calls the operator `pixtok::norm_silu`.
///
/// If `x` carries a gradient and is float32 or bfloat16 on the CPU, this is one operation, which
/// computes in float32 and returns a channels_last tensor. The result is rounded to `x`'s type
/// once. The derivative is also rounded between the two steps, as it is between libtorch's two
/// operations. Each image is computed separately, so the result depends neither on the batch nor on
/// the number of threads. In all other cases it is libtorch's two operations, so that evaluation,
/// encoding and export compute the network that others run, to the last bit.
///
/// # Shapes
/// `x`: `[B, C, H, W]`; `weight`, `bias`: `[C]` float32 -> like `x`.
///
/// # Panics
/// If shapes, types or devices do not match, as tch's own methods do; [`super::catching`] converts
/// it to an error.
pub fn norm_silu(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: i64, eps: f64) -> Tensor {
    norm_silu_with(instructions(), x, [weight, bias], groups, eps)
}

/// [`norm_silu`] with a given version of its own kernel.
fn norm_silu_with(
    instructions: Instructions,
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    groups: i64,
    eps: f64,
) -> Tensor {
    let set = index_of(instructions);
    // SAFETY: three live tensors, which the operator checks before it accesses their memory. On
    // success it has written a new tensor.
    unsafe { made(|y| px_norm_silu(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), groups, eps, set, y)) }
}

/// Whether [`norm_silu`] is one operation in a training step on `device`. Then only its input is
/// kept for the backward pass.
#[must_use]
pub fn fuses_norm_silu(device: Device) -> bool {
    device == Device::Cpu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catching;
    use tch::Kind;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// y and the derivatives of sum(y · dy) with respect to x, weight and bias.
    fn with_derivatives(
        kind: Kind,
        [x, weight, bias, dy]: [&Tensor; 4],
        norm: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor,
    ) -> [Tensor; 4] {
        let leaf = |t: &Tensor| t.detach().copy().set_requires_grad(true);
        let (x, weight, bias) = (leaf(&x.to_kind(kind)), leaf(weight), leaf(bias));
        let y = norm(&x, &weight, &bias);
        assert_eq!(y.kind(), kind);
        (y.to_kind(Kind::Float) * dy).sum(Kind::Float).backward();
        [y.detach(), x.grad(), weight.grad(), bias.grad()].map(|t| t.to_kind(Kind::Double))
    }

    fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: i64) -> Tensor {
        x.group_norm(groups, Some(weight), Some(bias), 1e-5, false).silu()
    }

    #[test]
    fn it_is_group_norm_and_silu() {
        // Planes of 35, 16 and 1 numbers: with a remainder, without one, and less than a vector;
        // and a mean far from zero.
        for (shape, groups, mean) in [
            ([3, 8, 5, 7], 2, 0.0),
            ([2, 6, 4, 4], 6, 3.0),
            ([5, 4, 1, 1], 1, -2.0),
            ([1, 32, 9, 13], 8, 50.0),
        ] {
            tch::manual_seed(shape[1]);
            let x = Tensor::randn(shape, CPU) * 2.0 + mean;
            let [weight, bias] = [0, 1].map(|_| Tensor::randn([shape[1]], CPU));
            let dy = Tensor::randn(shape, CPU);
            for (set, kind) in
                Instructions::all().into_iter().flat_map(|set| [(set, Kind::Float), (set, Kind::BFloat16)])
            {
                // bfloat16 is compared with the float64 result for the same rounded numbers.
                let rounded = x.to_kind(kind).to_kind(Kind::Float);
                let ours = with_derivatives(kind, [&x, &weight, &bias, &dy], |x, weight, bias| {
                    norm_silu_with(set, x, [weight, bias], groups, 1e-5)
                });
                let exact = with_derivatives(
                    Kind::Double,
                    [&rounded, &weight.to_kind(Kind::Double), &bias.to_kind(Kind::Double), &dy],
                    |x, weight, bias| plain(x, weight, bias, groups),
                );
                for (name, ours, exact) in ["y", "dx", "dweight", "dbias"]
                    .into_iter()
                    .zip(&ours)
                    .zip(&exact)
                    .map(|((name, ours), exact)| (name, ours, exact))
                {
                    let scale = exact.abs().max().double_value(&[]);
                    let apart = (ours - exact).abs().max().double_value(&[]) / scale;
                    let most = if kind == Kind::Float { 1e-5 } else { 8e-3 };
                    assert!(apart < most, "{set:?} {shape:?} {kind:?} {name}: {apart}");
                }
            }
        }
    }

    #[test]
    fn threads_and_batch_do_not_show() {
        tch::manual_seed(1);
        // Large enough for several threads.
        let x = Tensor::randn([6, 8, 50, 70], CPU);
        let [weight, bias] = [0, 1].map(|_| Tensor::randn([8], CPU));
        let dy = Tensor::randn(x.size(), CPU);
        let of = |x: &Tensor, dy: &Tensor| {
            with_derivatives(Kind::Float, [x, &weight, &bias, dy], |x, weight, bias| {
                norm_silu(x, weight, bias, 4, 1e-5)
            })
        };
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let [y, dx, dweight, _] = of(&x, &dy);
        tch::set_num_threads(3);
        let [other_y, other_dx, other_dweight, _] = of(&x, &dy);
        tch::set_num_threads(threads);
        assert_eq!((&y, &dx, &dweight), (&other_y, &other_dx, &other_dweight));
        let [part_y, part_dx, ..] = of(&x.narrow(0, 2, 1), &dy.narrow(0, 2, 1));
        assert_eq!((y.narrow(0, 2, 1), dx.narrow(0, 2, 1)), (part_y, part_dx));
    }

    #[test]
    fn no_number_stays_none() {
        let x = Tensor::from_slice(&[1f32, f32::NAN, 2.0, 3.0, 4.0, 5.0])
            .view([1, 2, 3, 1])
            .to_kind(Kind::BFloat16)
            .set_requires_grad(true);
        let (weight, bias) = (Tensor::ones([2], CPU), Tensor::zeros([2], CPU));
        let y = norm_silu(&x, &weight, &bias, 2, 1e-5);
        let finite = Vec::<bool>::try_from(y.isfinite().reshape([-1])).unwrap();
        assert_eq!(finite, [false, false, false, true, true, true]);
    }

    #[test]
    fn other_tensors_are_refused() {
        let ones = |shape: &[i64], kind| Tensor::ones(shape, (kind, Device::Cpu));
        let (four, float) = (ones(&[4], Kind::Float), ones(&[2, 4, 3, 1], Kind::Float));
        for (x, weight, groups) in [
            (ones(&[2, 4, 3], Kind::Float), &four, 2),
            (ones(&[2, 6, 3, 1], Kind::Float), &four, 2),
            (float.shallow_clone(), &four, 3),
            (float.shallow_clone(), &ones(&[4], Kind::BFloat16), 2),
        ] {
            let x = x.set_requires_grad(true);
            let refused = catching(|| norm_silu(&x, weight, &four, groups, 1e-5)).unwrap_err().to_string();
            assert!(refused.contains("pixtok::norm_silu"), "{refused}");
        }
    }

    /// If the dispatcher has no kernel of ours, the result is libtorch's, to the last bit.
    #[test]
    fn without_a_gradient_or_in_another_type_it_is_libtorchs_own() {
        tch::manual_seed(2);
        let x = Tensor::randn([2, 8, 5, 7], CPU);
        let [weight, bias] = [0, 1].map(|_| Tensor::randn([8], CPU));
        assert_eq!(norm_silu(&x, &weight, &bias, 2, 1e-5), plain(&x, &weight, &bias, 2));
        // A gradient of only the weights does not select our kernel.
        let leaf = weight.detach().copy().set_requires_grad(true);
        let y = norm_silu(&x, &leaf, &bias, 2, 1e-5);
        assert_eq!(y.detach(), plain(&x, &weight, &bias, 2));
        y.sum(Kind::Float).backward();
        assert!(leaf.grad().abs().max().double_value(&[]) > 0.0);
        let [x, weight, bias] = [&x, &weight, &bias].map(|t| t.to_kind(Kind::Double).set_requires_grad(true));
        assert_eq!(norm_silu(&x, &weight, &bias, 2, 1e-5), plain(&x, &weight, &bias, 2));
    }
}
