//! Between the grid of a latent and the list of its vectors.

use tch::{Kind, Tensor};

/// Under this length a vector has no direction (as in vector-quantize-pytorch).
pub const MIN_NORM: f64 = 1e-6;

/// `[B, D, h, w]` -> `[B·h·w, D]`.
pub fn vectors_from_grid(z: &Tensor) -> Tensor {
    z.permute([0, 2, 3, 1]).contiguous().view([-1, z.size()[1]])
}

/// `[B·h·w, D]` -> `[B, D, h, w]`, for indices of shape `[B, h, w]`.
pub fn grid_from_vectors(vectors: &Tensor, shape: &[i64]) -> Tensor {
    vectors.view([shape[0], shape[1], shape[2], -1]).permute([0, 3, 1, 2]).contiguous()
}

/// Length of the vectors along axis 1, which is kept.
pub fn norms(x: &Tensor) -> Tensor {
    x.norm_scalaropt_dim(2.0, [1], true)
}

/// The vectors along axis 1 at length 1.
pub fn normalised(x: &Tensor) -> Tensor {
    x / norms(x).clamp_min(MIN_NORM)
}

/// Mean over all elements of (a − b)².
pub fn mean_square(a: &Tensor, b: &Tensor) -> Tensor {
    (a - b).square().mean(Kind::Float)
}
