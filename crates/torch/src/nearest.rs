//! The least score of each vector, for nearest-code search.

use pixtok_pixels::Instructions;
use tch::Tensor;

use super::cpu::{index_of, instructions};
use super::shim::{made, px_nearest};

/// For each vector, the least value of bias_k + vector · weights_k over k, and the first k that has
/// it. Calls the operator `pixtok::nearest`, which computes in float32 whatever the autocast, and
/// has no derivative.
///
/// On the CPU, codes of at most 32 numbers are compared in registers, without a table of scores.
/// Each row is then computed separately, so the result depends neither on the number of rows nor on
/// the number of threads. In all other cases the scores are matrix products, in tables of at most
/// `table_bytes` bytes but of at least one vector. A trace uses a single table, which works for any
/// number of vectors.
///
/// # Shapes
/// `vectors [N, D]`, `weights [D, K]`, `bias [K]`, all float32 -> least `[N]` float32, indices
/// `[N]` int64.
///
/// # Panics
/// If shapes, types or devices do not match, as tch's own methods do; [`super::catching`] converts
/// it to an error.
pub fn nearest(vectors: &Tensor, weights: &Tensor, bias: &Tensor, table_bytes: i64) -> (Tensor, Tensor) {
    nearest_with(instructions(), vectors, [weights, bias], table_bytes)
}

/// [`nearest`] with a given version of its own kernel.
fn nearest_with(
    instructions: Instructions,
    vectors: &Tensor,
    [weights, bias]: [&Tensor; 2],
    table_bytes: i64,
) -> (Tensor, Tensor) {
    let [vectors, weights, bias] = [vectors, weights, bias].map(Tensor::as_ptr);
    let (set, mut chosen) = (index_of(instructions), std::ptr::null_mut());
    // SAFETY: three live tensors, which the operator checks before it accesses their memory. On
    // success it has written two new tensors.
    let least =
        unsafe { made(|least| px_nearest(vectors, weights, bias, table_bytes, set, least, &raw mut chosen)) };
    // SAFETY: success means that `chosen` points to a tensor that we own.
    (least, unsafe { Tensor::from_ptr(chosen) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Precision, catching, no_grad, with_precision};
    use tch::{CModule, Device, Kind};

    /// Table bytes that allow one vector at a time.
    const NO_BYTES: i64 = 0;

    /// Small integers: sums are exact in any order, and there are many ties, within a lane and
    /// across lanes.
    fn draw(shape: &[i64]) -> Tensor {
        Tensor::randint(3, shape, (Kind::Float, Device::Cpu)) - 1.0
    }

    fn first_of_the_least(scores: &Tensor) -> (Tensor, Tensor) {
        let least = scores.amin([1], false);
        let of_row = |row| {
            let scores = Vec::<f32>::try_from(scores.get(row)).unwrap();
            scores.iter().position(|&score| f64::from(score) == least.double_value(&[row])).unwrap() as i64
        };
        let firsts: Vec<i64> = (0..scores.size()[0]).map(of_row).collect();
        (least.shallow_clone(), Tensor::from_slice(&firsts))
    }

    #[test]
    fn the_first_of_the_least_is_found_whatever_the_sizes() {
        for (n, k, d) in [(1, 1, 1), (3, 5, 2), (4, 16, 8), (9, 33, 7), (6, 100, 30), (5, 50, 33)] {
            tch::manual_seed(n + k + d);
            let (vectors, weights, bias) = (draw(&[n, d]), draw(&[d, k]), draw(&[k]));
            let expected = first_of_the_least(&(vectors.matmul(&weights) + &bias));
            for set in Instructions::all() {
                let found = nearest_with(set, &vectors, [&weights, &bias], NO_BYTES);
                assert_eq!(found, expected, "{set:?} {n} {k} {d}");
            }
        }
    }

    /// Compares the search in registers, matrix products in several tables, and a trace that is
    /// used for another number of vectors.
    #[test]
    fn every_way_finds_the_same() {
        tch::manual_seed(6);
        for dim in [6, 40] {
            let (weights, bias) = (draw(&[dim, 5000]), draw(&[5000]));
            // 26 vectors per table, and a smaller last table.
            let of = |vectors: &Tensor| nearest(vectors, &weights, &bias, 512 << 10);
            let traced = |pick: fn((Tensor, Tensor)) -> Tensor| {
                let mut run = |inputs: &[Tensor]| vec![pick(of(&inputs[0]))];
                CModule::create_by_tracing("Nearest", "forward", &[draw(&[3, dim])], &mut run).unwrap()
            };
            let vectors = draw(&[301, dim]);
            let expected = first_of_the_least(&(vectors.matmul(&weights) + &bias));
            assert_eq!(of(&vectors), expected, "{dim}");
            assert_eq!(traced(|found| found.0).forward_ts(&[&vectors]).unwrap(), expected.0, "{dim}");
            let found = traced(|found| found.1).forward_ts(&[&vectors]).unwrap();
            let gathered = (vectors.matmul(&weights) + &bias).gather(1, &found.unsqueeze(1), false);
            assert_eq!(gathered.squeeze_dim(1), expected.0, "{dim}");
        }
    }

    #[test]
    fn autocast_and_gradients_have_no_part_in_it() {
        tch::manual_seed(7);
        for dim in [6, 40] {
            let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (vectors, weights, bias) = (normal(&[30, dim]), normal(&[dim, 70]), normal(&[70]));
            let own = no_grad(|| nearest(&vectors, &weights, &bias, NO_BYTES));
            let vectors = vectors.set_requires_grad(true);
            for precision in [Precision::Fp32, Precision::Bf16] {
                let found = with_precision(precision, || nearest(&vectors, &weights, &bias, NO_BYTES));
                assert!(!found.0.requires_grad());
                assert_eq!(found, own, "{precision}");
            }
        }
    }

    #[test]
    fn other_tensors_are_refused() {
        let ones = |shape: &[i64], kind| Tensor::ones(shape, (kind, Device::Cpu));
        let bias = ones(&[4], Kind::Float);
        for (vectors, weights) in [
            (ones(&[3, 2], Kind::Double), ones(&[2, 4], Kind::Float)),
            (ones(&[3, 2], Kind::Float), ones(&[5, 4], Kind::Float)),
            (ones(&[3, 0], Kind::Float), ones(&[0, 4], Kind::Float)),
            (ones(&[3, 40], Kind::Float), ones(&[33, 4], Kind::Float)),
        ] {
            let refused = catching(|| nearest(&vectors, &weights, &bias, NO_BYTES)).unwrap_err().to_string();
            assert!(refused.contains("pixtok::nearest"), "{refused}");
        }
        let nothing = nearest(&ones(&[0, 2], Kind::Float), &ones(&[2, 4], Kind::Float), &bias, NO_BYTES);
        assert_eq!(nothing.1.size(), [0]);
    }
}
