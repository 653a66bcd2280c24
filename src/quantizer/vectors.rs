//! Conversion between a latent and the list of its vectors.

use tch::{Kind, Tensor};

/// A vector shorter than this has no direction (as in vector-quantize-pytorch).
pub const MIN_NORM: f64 = 1e-6;

/// `[B, N, D]` -> `[B·N, D]`.
pub fn vectors_from_latent(z: &Tensor) -> Tensor {
    z.contiguous().view([-1, z.size()[2]])
}

/// `[B·N, D]` -> `[B, N, D]`, with the B and N of `positions`, `[B, N]`. They come from a tensor,
/// since a trace would keep numbers for all image sizes. In memory the positions of one dimension
/// lie together, like the pixels of a channel in an image: this decides in which order sums over D
/// are added, and so their last bits.
pub fn latent_from_vectors(vectors: &Tensor, positions: &Tensor) -> Tensor {
    let places = positions.unsqueeze(-1).expand([-1, -1, vectors.size()[1]], false);
    vectors.view_as(&places).transpose(1, 2).contiguous().transpose(1, 2)
}

/// The lengths of the vectors along the last axis, which is kept. The gradient at 0 is 0.
pub fn norms(x: &Tensor) -> Tensor {
    x.norm_scalaropt_dim(2.0, [-1], true)
}

/// The vectors along the last axis at length 1; never −0.0, to which a quotient can be rounded.
pub fn normalised(x: &Tensor) -> Tensor {
    x / norms(x).clamp_min(MIN_NORM) + 0.0
}

/// The mean of (a − b)² over all elements.
///
/// # Shapes
/// Both `[B, N, D]`.
pub fn mean_square(a: &Tensor, b: &Tensor) -> Tensor {
    // The gradient of a mean has the memory layout of its argument. As in [`latent_from_vectors`],
    // the positions of one dimension must lie together, because the gradient of the encoder's last
    // bias is a sum over them.
    (a - b).square().transpose(1, 2).mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn directions_have_length_one_and_nothing_has_none() {
        let x = Tensor::from_slice(&[3f32, 4.0, 0.0, 0.0, 1e6, -1e-42]).view([3, 2]).set_requires_grad(true);
        let unit = normalised(&x);
        let expected = Tensor::from_slice(&[0.6f32, 0.8, 0.0, 0.0, 1.0, 0.0]).view([3, 2]);
        assert_eq!(unit.contiguous().view_dtype(Kind::Int), expected.view_dtype(Kind::Int), "no -0.0");
        unit.sum(Kind::Float).backward();
        assert_eq!(x.grad().isfinite().all().int64_value(&[]), 1);
    }

    #[test]
    fn a_latent_and_its_vectors_are_inverse() {
        let z = Tensor::randn([2, 35, 3], (Kind::Float, Device::Cpu));
        assert_eq!(latent_from_vectors(&vectors_from_latent(&z), &z.select(2, 0)), z);
    }
}
