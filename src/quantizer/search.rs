//! The search for the nearest code, and sums over the vectors that chose each code.

use tch::{Kind, Tensor};

use super::memory::MemoryBudget;
use pixtok_torch::no_grad;

/// The largest number of codes that are compared at one time; 256 KiB of distances for one vector.
const MAX_CODES_AT_ONCE: i64 = 1 << 16;

/// The number of copies of a block of codes that exist at one time.
const CODE_COPIES: i64 = 8;

/// The measure of nearness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    /// The smallest ‖z − e‖.
    Euclidean,
    /// The largest z·e.
    Product,
}

/// For each vector, the index of the nearest of `size` codes; the first one of several equally near
/// codes.
///
/// `codes(first, n)` gives `n` codes from number `first` on, `[n, D]`, so that computed codes need
/// not all exist at once. Euclidean distances come from a matrix product: ‖z‖² − 2z·e + ‖e‖²
/// without its first term, which is the same for all codes. Blocks of the `[N, K]` matrix exist one
/// at a time, within the budget.
///
/// # Shapes
/// `vectors [N, D]` -> `[N]` int64 in `0..size`.
pub fn nearest(
    vectors: &Tensor,
    size: i64,
    codes: impl Fn(i64, i64) -> Tensor,
    nearness: Nearness,
    budget: MemoryBudget,
) -> Tensor {
    no_grad(|| {
        // The codes themselves, their squares and transposed copies take memory too.
        let dim = vectors.size()[1].max(1);
        let at_once = size.min(MAX_CODES_AT_ONCE).min(budget.bytes() / (CODE_COPIES * 4 * dim)).max(1);
        let mut best: Option<(Tensor, Tensor)> = None;
        for first in (0..size).step_by(at_once as usize) {
            let block = codes(first, at_once.min(size - first));
            let (distances, indices) = nearest_in_block(vectors, &block, nearness, budget);
            let indices = indices + first;
            best = Some(match best {
                None => (distances, indices),
                Some((least, chosen)) => {
                    let nearer = distances.lt_tensor(&least);
                    (distances.where_self(&nearer, &least), indices.where_self(&nearer, &chosen))
                }
            });
        }
        best.map_or_else(|| Tensor::zeros([0], (Kind::Int64, vectors.device())), |(_, indices)| indices)
    })
}

/// The least distance (without the term that all codes share) and the index of its code in the
/// block.
fn nearest_in_block(
    vectors: &Tensor,
    codes: &Tensor,
    nearness: Nearness,
    budget: MemoryBudget,
) -> (Tensor, Tensor) {
    let (bias, factor) = match nearness {
        Nearness::Euclidean => (codes.square().sum_dim_intlist(1, false, Kind::Float), -2.0),
        Nearness::Product => (codes.select(1, 0).zeros_like(), -1.0),
    };
    let weights = codes.t_copy() * factor;
    pixtok_torch::nearest(vectors, &weights, &bias, budget.block_bytes(codes.device()))
}

/// The number of vectors that chose each code, and their sum.
///
/// # Shapes
/// `vectors [N, D]`, `indices [N]` -> counts `[K]` (exact up to 2^24), sums `[K, D]`.
pub fn assigned(vectors: &Tensor, indices: &Tensor, codes: i64) -> (Tensor, Tensor) {
    let ones = Tensor::ones([vectors.size()[0], 1], (Kind::Float, vectors.device()));
    // This sum is the gradient of a table lookup: no one-hot matrix, the same bits every time, no
    // host read.
    let totals =
        Tensor::embedding_dense_backward(&Tensor::cat(&[vectors, &ones], 1), indices, codes, -1, false);
    let dim = vectors.size()[1];
    (totals.select(1, dim).contiguous(), totals.narrow(1, 0, dim).contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;
    use tch::Device;

    fn found(vectors: &Tensor, codes: &Tensor, nearness: Nearness) -> Tensor {
        let block = |first, n| codes.narrow(0, first, n);
        nearest(vectors, codes.size()[0], block, nearness, MemoryBudget::default())
    }

    /// Where float32 and float64 decide differently, the two codes are equally near.
    fn assert_nearest(found: &Tensor, distances: &Tensor) {
        let best = distances.argmin(1, false);
        let differ = found.ne_tensor(&best).nonzero().squeeze_dim(1);
        for row in Vec::<i64>::try_from(&differ).unwrap() {
            let of = |column: i64| distances.double_value(&[row, column]);
            let (a, b) = (of(found.int64_value(&[row])), of(best.int64_value(&[row])));
            assert!((a - b).abs() / b.abs() < 1e-6, "row {row}: {a} against {b}");
        }
        assert!(differ.size()[0] < 5);
    }

    #[test]
    fn agrees_with_float64_over_several_blocks() {
        pixtok_torch::reseed(Seed(3));
        let size = MAX_CODES_AT_ONCE + 777;
        // A dimension that is computed in registers, and one that uses products.
        for dim in [5, 33] {
            let vectors = Tensor::randn([100, dim], (Kind::Float, Device::Cpu));
            let codes = Tensor::randn([size, dim], (Kind::Float, Device::Cpu));
            let wide = |t: &Tensor| t.to_kind(Kind::Double);
            let distances = Tensor::cdist(&wide(&vectors), &wide(&codes), 2.0, 2);
            assert_nearest(&found(&vectors, &codes, Nearness::Euclidean), &distances);
            let products = wide(&vectors).matmul(&wide(&codes).tr());
            assert_nearest(&found(&vectors, &codes, Nearness::Product), &-products);
        }
    }

    #[test]
    fn a_small_budget_takes_the_codes_in_small_blocks() {
        let calls = std::cell::Cell::new(0);
        let codes = Tensor::randn([3000, 100], (Kind::Float, Device::Cpu));
        let block = |first, n| {
            assert!(n * 100 * 4 <= (1 << 20) / CODE_COPIES, "{n} codes at once");
            calls.set(calls.get() + 1);
            codes.narrow(0, first, n)
        };
        let found = nearest(&codes, 3000, block, Nearness::Euclidean, "1MiB".parse().unwrap());
        assert_eq!(found, Tensor::arange(3000, (Kind::Int64, Device::Cpu)));
        assert!(calls.get() > 9);
    }

    #[test]
    fn of_equals_the_first_is_taken_across_blocks_too() {
        let codes = Tensor::zeros([MAX_CODES_AT_ONCE + 5, 2], (Kind::Float, Device::Cpu));
        let vectors = Tensor::ones([3, 2], (Kind::Float, Device::Cpu));
        assert_eq!(found(&vectors, &codes, Nearness::Euclidean), Tensor::from_slice(&[0i64, 0, 0]));
    }

    #[test]
    fn no_vectors_have_no_nearest_code() {
        let empty = Tensor::zeros([0, 2], (Kind::Float, Device::Cpu));
        let codes = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu));
        assert_eq!(found(&empty, &codes, Nearness::Euclidean).size(), [0]);
    }

    #[test]
    fn counts_and_sums() {
        let vectors = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([3, 2]);
        let (counts, sums) = assigned(&vectors, &Tensor::from_slice(&[2i64, 0, 2]), 4);
        assert_eq!(counts, Tensor::from_slice(&[1f32, 0.0, 2.0, 0.0]));
        assert_eq!(sums, Tensor::from_slice(&[3f32, 4.0, 0.0, 0.0, 6.0, 8.0, 0.0, 0.0]).view([4, 2]));
    }
}
