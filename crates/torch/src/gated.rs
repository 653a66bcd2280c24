//! A SiLU as the gate of other numbers, the middle of a SwiGLU.

use pixtok_pixels::Instructions;
use tch::{Device, Tensor};

use super::cpu::{index_of, instructions};
use super::shim::{made, px_gated_silu};

/// silu(`gate`) · `up`. Calls the operator `pixtok::gated_silu`.
///
/// If `gate` carries a gradient and is float32 or bfloat16 on the CPU, this is one operation, which
/// computes in float32, rounds its result once, and keeps nothing but its two inputs for the
/// backward pass. In all other cases it is libtorch's two operations, so that evaluation, encoding
/// and export compute the network that others run, to the last bit.
///
/// # Shapes
/// Both have the same shape and type, and so has the result.
///
/// # Panics
/// If shapes, types or devices do not match, as tch's own methods do; [`super::catching`] converts
/// it to an error.
pub fn gated_silu(gate: &Tensor, up: &Tensor) -> Tensor {
    gated_silu_with(instructions(), gate, up)
}

/// [`gated_silu`] with a given version of its own kernel.
fn gated_silu_with(instructions: Instructions, gate: &Tensor, up: &Tensor) -> Tensor {
    let set = index_of(instructions);
    // SAFETY: two live tensors, which the operator checks before it accesses their memory. On
    // success it has written a new tensor.
    unsafe { made(|y| px_gated_silu(gate.as_ptr(), up.as_ptr(), set, y)) }
}

/// Whether [`gated_silu`] is one operation in a training step on `device`. Then silu(gate) is not
/// kept for the backward pass.
#[must_use]
pub fn fuses_gated_silu(device: Device) -> bool {
    device == Device::Cpu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catching;
    use tch::Kind;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// y and the derivatives of sum(y · dy) with respect to gate and up.
    fn with_derivatives(
        kind: Kind,
        [gate, up, dy]: [&Tensor; 3],
        gated: impl Fn(&Tensor, &Tensor) -> Tensor,
    ) -> [Tensor; 3] {
        let leaf = |t: &Tensor| t.detach().to_kind(kind).copy().set_requires_grad(true);
        let (gate, up) = (leaf(gate), leaf(up));
        let y = gated(&gate, &up);
        assert_eq!(y.kind(), kind);
        let exact = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        (y.to_kind(exact) * dy.to_kind(exact)).sum(exact).backward();
        [y.detach(), gate.grad(), up.grad()].map(|t| t.to_kind(Kind::Double))
    }

    fn plain(gate: &Tensor, up: &Tensor) -> Tensor {
        gate.silu() * up
    }

    #[test]
    fn it_is_a_silu_and_a_product() {
        // With a remainder, and large enough for several threads.
        for shape in [[5, 7], [70, 1024]] {
            tch::manual_seed(shape[0]);
            let [gate, up, dy] = [20.0, 1.0, 1.0].map(|times| Tensor::randn(shape, CPU) * times);
            for (set, kind) in
                Instructions::all().into_iter().flat_map(|set| [(set, Kind::Float), (set, Kind::BFloat16)])
            {
                // bfloat16 is compared with the float64 result for the same rounded numbers.
                let [gate, up, dy] = [&gate, &up, &dy].map(|t| t.to_kind(kind).to_kind(Kind::Float));
                let ours =
                    with_derivatives(kind, [&gate, &up, &dy], |gate, up| gated_silu_with(set, gate, up));
                let exact = with_derivatives(Kind::Double, [&gate, &up, &dy], plain);
                for ((name, ours), exact) in ["y", "dgate", "dup"].into_iter().zip(&ours).zip(&exact) {
                    let scale = exact.abs().max().double_value(&[]);
                    let apart = (ours - exact).abs().max().double_value(&[]) / scale;
                    let most = if kind == Kind::Float { 1e-5 } else { 5e-3 };
                    assert!(apart < most, "{set:?} {shape:?} {kind:?} {name}: {apart}");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_show() {
        tch::manual_seed(1);
        // No part begins on a whole vector.
        let [gate, up, dy] = [0, 1, 2].map(|_| Tensor::randn([333, 301], CPU));
        let of = || with_derivatives(Kind::Float, [&gate, &up, &dy], gated_silu);
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let one = of();
        tch::set_num_threads(3);
        let three = of();
        tch::set_num_threads(threads);
        assert_eq!(one, three);
    }

    #[test]
    fn no_number_stays_none() {
        let gate = Tensor::from_slice(&[f32::NAN, 1.0, 100.0, -100.0]).set_requires_grad(true);
        let y = gated_silu(&gate, &Tensor::from_slice(&[1f32, f32::NAN, 1.0, 1.0]));
        assert_eq!(Vec::<bool>::try_from(y.isfinite()).unwrap(), [false, false, true, true]);
    }

    #[test]
    fn other_tensors_are_refused() {
        let gate = Tensor::ones([2, 4], CPU).set_requires_grad(true);
        for up in [Tensor::ones([2, 3], CPU), Tensor::ones([2, 4], (Kind::BFloat16, Device::Cpu))] {
            let refused = catching(|| gated_silu(&gate, &up)).unwrap_err().to_string();
            assert!(refused.contains("pixtok::gated_silu"), "{refused}");
        }
    }

    /// If the dispatcher has no kernel of ours, the result is libtorch's, to the last bit.
    #[test]
    fn without_a_gradient_or_in_another_type_it_is_libtorchs_own() {
        tch::manual_seed(2);
        let [gate, up] = [0, 1].map(|_| Tensor::randn([5, 40], CPU));
        assert_eq!(gated_silu(&gate, &up), plain(&gate, &up));
        let leaf = up.copy().set_requires_grad(true);
        assert_eq!(gated_silu(&gate, &leaf).detach(), plain(&gate, &up));
        let [gate, up] = [&gate, &up].map(|t| t.to_kind(Kind::Double).set_requires_grad(true));
        assert_eq!(gated_silu(&gate, &up), plain(&gate, &up));
    }
}
