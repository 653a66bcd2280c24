//! RMS normalisation over the last axis.

use pixtok_pixels::Instructions;
use tch::Tensor;

use super::cpu::{index_of, instructions};
use super::shim::{made, px_rms_norm};

/// `x` / √(mean of `x`² over the last axis + `eps`) · `weight`. Calls the operator
/// `pixtok::rms_norm`.
///
/// If `x` carries a gradient and is float32 on the CPU, this is one operation, which keeps its
/// input and a number of each row for the backward pass. The result depends neither on the batch
/// nor on the number of threads. In all other cases it is libtorch's own operation, so that
/// evaluation, encoding and export compute the network that others run, to the last bit.
///
/// # Shapes
/// `x`: `[..., width]`; `weight`: `[width]` float32 -> like `x`.
///
/// # Panics
/// If shapes, types or devices do not match, as tch's own methods do; [`super::catching`] converts
/// it to an error.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    rms_norm_with(instructions(), x, weight, eps)
}

/// [`rms_norm`] with a given version of its own kernel.
fn rms_norm_with(instructions: Instructions, x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let set = index_of(instructions);
    // SAFETY: two live tensors, which the operator checks before it accesses their memory. On
    // success it has written a new tensor.
    unsafe { made(|y| px_rms_norm(x.as_ptr(), weight.as_ptr(), eps, set, y)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catching;
    use tch::{Device, Kind};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// y and the derivatives of sum(y · dy) with respect to x and weight.
    fn with_derivatives(
        [x, weight, dy]: [&Tensor; 3],
        norm: impl Fn(&Tensor, &Tensor) -> Tensor,
    ) -> [Tensor; 3] {
        let leaf = |t: &Tensor| t.detach().copy().set_requires_grad(true);
        let (x, weight) = (leaf(x), leaf(weight));
        let y = norm(&x, &weight);
        assert_eq!(y.kind(), x.kind());
        (&y * dy).sum(x.kind()).backward();
        [y.detach(), x.grad(), weight.grad()].map(|t| t.to_kind(Kind::Double))
    }

    fn plain(x: &Tensor, weight: &Tensor) -> Tensor {
        x.rms_norm(weight.size(), Some(weight), 1e-5)
    }

    #[test]
    fn it_is_rms_norm() {
        // Rows of whole vectors, with a remainder and shorter than a vector; more rows than one
        // thread adds up at a time; a single row.
        for (shape, mean) in
            [(vec![2, 5, 384], 0.0), (vec![3, 70, 40], 3.0), (vec![150, 7], -2.0), (vec![9], 0.0)]
        {
            tch::manual_seed(shape[0]);
            let x = Tensor::randn(&shape, CPU) * 2.0 + mean;
            let weight = Tensor::randn([*shape.last().unwrap()], CPU);
            let dy = Tensor::randn(&shape, CPU);
            let double = [&x, &weight, &dy].map(|t| t.to_kind(Kind::Double));
            let exact = with_derivatives(double.each_ref(), plain);
            for set in Instructions::all() {
                let ours =
                    with_derivatives([&x, &weight, &dy], |x, weight| rms_norm_with(set, x, weight, 1e-5));
                for ((name, ours), exact) in ["y", "dx", "dweight"].into_iter().zip(&ours).zip(&exact) {
                    let scale = exact.abs().max().double_value(&[]);
                    let apart = (ours - exact).abs().max().double_value(&[]) / scale;
                    assert!(apart < 1e-5, "{set:?} {shape:?} {name}: {apart}");
                }
            }
        }
    }

    #[test]
    fn other_layouts_have_the_same_result() {
        tch::manual_seed(1);
        let (x, weight) = (Tensor::randn([2, 3, 35, 16], CPU), Tensor::randn([16], CPU));
        let dy = Tensor::randn([2, 3, 35, 16], CPU);
        let straight = with_derivatives([&x, &weight, &dy], |x, weight| rms_norm(x, weight, 1e-6));
        let turned = with_derivatives([&x.transpose(1, 2).contiguous(), &weight, &dy], |x, weight| {
            rms_norm(&x.transpose(1, 2), weight, 1e-6)
        });
        assert_eq!((&straight[0], &straight[2]), (&turned[0], &turned[2]));
        assert_eq!(straight[1], turned[1].transpose(1, 2));
    }

    #[test]
    fn threads_and_batch_do_not_show() {
        tch::manual_seed(1);
        // Large enough for several threads.
        let (x, weight) = (Tensor::randn([6, 256, 384], CPU), Tensor::randn([384], CPU));
        let dy = Tensor::randn(x.size(), CPU);
        let of = |x: &Tensor, dy: &Tensor| {
            with_derivatives([x, &weight, dy], |x, weight| rms_norm(x, weight, 1e-6))
        };
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let one = of(&x, &dy);
        tch::set_num_threads(3);
        let three = of(&x, &dy);
        tch::set_num_threads(threads);
        assert_eq!(one, three);
        let [y, dx, _] = of(&x.narrow(0, 2, 1), &dy.narrow(0, 2, 1));
        assert_eq!((one[0].narrow(0, 2, 1), one[1].narrow(0, 2, 1)), (y, dx));
    }

    #[test]
    fn no_number_stays_none() {
        let x = Tensor::from_slice(&[1f32, f32::NAN, 2.0, 3.0]).view([2, 2]).set_requires_grad(true);
        let y = rms_norm(&x, &Tensor::ones([2], CPU), 1e-6);
        assert_eq!(Vec::<bool>::try_from(y.isfinite().reshape([-1])).unwrap(), [false, false, true, true]);
    }

    #[test]
    fn other_tensors_are_refused() {
        let x = Tensor::ones([2, 4], CPU).set_requires_grad(true);
        for weight in [Tensor::ones([3], CPU), Tensor::ones([4], (Kind::BFloat16, Device::Cpu))] {
            let refused = catching(|| rms_norm(&x, &weight, 1e-6)).unwrap_err().to_string();
            assert!(refused.contains("pixtok::rms_norm"), "{refused}");
        }
    }

    /// If the dispatcher has no kernel of ours, the result is libtorch's, to the last bit.
    #[test]
    fn without_a_gradient_or_in_another_type_it_is_libtorchs_own() {
        tch::manual_seed(2);
        let (x, weight) = (Tensor::randn([2, 5, 40], CPU), Tensor::randn([40], CPU));
        assert_eq!(rms_norm(&x, &weight, 1e-5), plain(&x, &weight));
        // A gradient of only the weight does not select our kernel.
        let leaf = weight.detach().copy().set_requires_grad(true);
        let y = rms_norm(&x, &leaf, 1e-5);
        assert_eq!(y.detach(), plain(&x, &weight));
        y.sum(Kind::Float).backward();
        assert!(leaf.grad().abs().max().double_value(&[]) > 0.0);
        let [x, weight] = [&x, &weight].map(|t| t.to_kind(Kind::Double).set_requires_grad(true));
        assert_eq!(rms_norm(&x, &weight, 1e-5), plain(&x, &weight));
    }
}
