//! Nearest code, and sums over the vectors that chose each code.

use tch::{Kind, Tensor};

/// Bytes of the distance matrix that exist at one time.
const DISTANCE_BYTES: i64 = 64 << 20;

/// For each vector the index of the nearest code in Euclidean distance; the first one of equals.
///
/// Distances come from a matrix product, ‖z‖² − 2z·e + ‖e‖² without its first term, which is the same for all codes.
/// Never holds more than a fixed part of the `[N, K]` matrix, or one row where a row is larger.
///
/// # Shapes
/// `vectors [N, D]`, `codes [K, D]` -> `[N]` int64 in `0..K`.
pub fn nearest(vectors: &Tensor, codes: &Tensor) -> Tensor {
    let rows = (DISTANCE_BYTES / (4 * codes.size()[0])).max(1);
    let squares = codes.square().sum_dim_intlist(1, false, Kind::Float).unsqueeze(0);
    let minus_two_codes = codes.t_copy() * -2.0;
    let chunks: Vec<Tensor> = vectors
        .split(rows, 0)
        .iter()
        .map(|chunk| squares.addmm(chunk, &minus_two_codes).argmin(1, false))
        .collect();
    Tensor::cat(&chunks, 0)
}

/// How many vectors chose each code, and their sum.
///
/// # Shapes
/// `vectors [N, D]`, `indices [N]` -> counts `[K]` (exact up to 2^24), sums `[K, D]`.
pub fn assigned(vectors: &Tensor, indices: &Tensor, codes: i64) -> (Tensor, Tensor) {
    let ones = Tensor::ones([vectors.size()[0], 1], (Kind::Float, vectors.device()));
    // The gradient of a table lookup is this very sum: no one-hot matrix, the same bits every time, no host read.
    let totals =
        Tensor::embedding_dense_backward(&Tensor::cat(&[vectors, &ones], 1), indices, codes, -1, false);
    let dim = vectors.size()[1];
    (totals.select(1, dim).contiguous(), totals.narrow(1, 0, dim).contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use tch::Device;

    #[test]
    fn agrees_with_distances_in_float64_over_several_chunks() {
        Seed(3).reseed_torch();
        let vectors = Tensor::randn([5000, 5], (Kind::Float, Device::Cpu));
        let codes = Tensor::randn([4096, 5], (Kind::Float, Device::Cpu));
        const { assert!(DISTANCE_BYTES / (4 * 4096) < 5000, "the search must take more than one chunk") };
        let found = nearest(&vectors, &codes);
        let distances =
            Tensor::cdist(&vectors.to_kind(Kind::Double), &codes.to_kind(Kind::Double), 2.0, None);
        let best = distances.argmin(1, false);
        let differ = found.ne_tensor(&best).nonzero().squeeze_dim(1);
        // Where float32 decides otherwise, the two codes are equally near.
        for row in Vec::<i64>::try_from(&differ).unwrap() {
            let of = |column: i64| distances.double_value(&[row, column]);
            let (a, b) = (of(found.int64_value(&[row])), of(best.int64_value(&[row])));
            assert!((a - b) / b < 1e-5, "row {row}: {a} against {b}");
        }
        assert!(differ.size()[0] < 5);
    }

    #[test]
    fn counts_and_sums() {
        let vectors = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([3, 2]);
        let (counts, sums) = assigned(&vectors, &Tensor::from_slice(&[2i64, 0, 2]), 4);
        assert_eq!(counts, Tensor::from_slice(&[1f32, 0.0, 2.0, 0.0]));
        assert_eq!(sums, Tensor::from_slice(&[3f32, 4.0, 0.0, 0.0, 6.0, 8.0, 0.0, 0.0]).view([4, 2]));
    }
}
