//! Between the grid of a latent and the list of its vectors.

use tch::{Kind, Tensor};

/// Under this length a vector has no direction (as in vector-quantize-pytorch).
pub const MIN_NORM: f64 = 1e-6;

/// `[B, D, h, w]` -> `[B·h·w, D]`.
pub fn vectors_from_grid(z: &Tensor) -> Tensor {
    z.permute([0, 2, 3, 1]).contiguous().view([-1, z.size()[1]])
}

/// `[B·h·w, D]` -> `[B, D, h, w]`, with B, h and w of `grid`, `[B, h, w]`; of a tensor rather than of numbers, which a
/// trace would keep for images of any size.
pub fn grid_from_vectors(vectors: &Tensor, grid: &Tensor) -> Tensor {
    let places = grid.unsqueeze(3).expand([-1, -1, -1, vectors.size()[1]], false);
    vectors.view_as(&places).permute([0, 3, 1, 2]).contiguous()
}

/// Length of the vectors along axis 1 (of a grid, or of a list of vectors), which is kept. Its gradient at 0 is 0.
pub fn norms(x: &Tensor) -> Tensor {
    x.norm_scalaropt_dim(2.0, [1], true)
}

/// The vectors along axis 1 at length 1; never −0.0, which a quotient can be rounded to.
pub fn normalised(x: &Tensor) -> Tensor {
    x / norms(x).clamp_min(MIN_NORM) + 0.0
}

/// Mean over all elements of (a − b)².
pub fn mean_square(a: &Tensor, b: &Tensor) -> Tensor {
    (a - b).square().mean(Kind::Float)
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
    fn a_grid_and_its_vectors_are_inverse() {
        let z = Tensor::randn([2, 3, 5, 7], (Kind::Float, Device::Cpu));
        assert_eq!(grid_from_vectors(&vectors_from_grid(&z), &z.select(1, 0)), z);
    }
}
