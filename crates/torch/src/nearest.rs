//! The least score of each vector, without a table of scores.

use pixtok_pixels::Instructions;
use tch::{Kind, Tensor};

use super::cpu::{index_of, instructions};
use super::shim::{check, px_nearest};

/// Codes come in multiples of this.
const LANES: i64 = 16;

/// For each vector the least of bias_k + vector · weights_k over k, and the first k that has it. On the CPU; every row
/// is worked out by itself, so the result depends on neither the number of rows nor that of threads.
///
/// # Shapes
/// `vectors [N, D]`, `weights [D, K]`, `bias [K]`, all float32 -> least `[N]` float32, indices `[N]` int64.
///
/// # Panics
/// When shapes, types or devices are others, as tch's own methods do; [`super::catching`] makes it an error.
pub fn least_scores(vectors: &Tensor, weights: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
    least_scores_with(instructions(), vectors, weights, bias)
}

/// [`least_scores`] in the given version.
fn least_scores_with(
    instructions: Instructions,
    vectors: &Tensor,
    weights: &Tensor,
    bias: &Tensor,
) -> (Tensor, Tensor) {
    let missing = (LANES - weights.size()[1] % LANES) % LANES;
    let weights = weights.constant_pad_nd([0, missing]);
    let never = Tensor::full([missing], f64::INFINITY, (Kind::Float, bias.device()));
    let bias = Tensor::cat(&[bias, &never], 0);
    let n = vectors.size()[0];
    let least = Tensor::empty([n], (Kind::Float, vectors.device()));
    let chosen = Tensor::empty([n], (Kind::Int64, vectors.device()));
    let vectors = vectors.contiguous();
    // SAFETY: five live tensors; the shim checks their shapes, types and devices before it touches their memory.
    let checked = check(unsafe {
        px_nearest(
            vectors.as_ptr(),
            weights.as_ptr(),
            bias.as_ptr(),
            index_of(instructions),
            least.as_ptr().cast_mut(),
            chosen.as_ptr().cast_mut(),
        )
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    (least, chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catching;
    use tch::Device;

    #[test]
    fn the_first_of_the_least_is_found_whatever_the_sizes() {
        for (n, k, d) in [(1, 1, 1), (3, 5, 2), (4, 16, 8), (9, 33, 7), (6, 100, 30)] {
            tch::manual_seed(n + k + d);
            // Few different numbers, so that there are ties, in one lane and across lanes.
            let draw = |shape: &[i64]| Tensor::randint(3, shape, (Kind::Float, Device::Cpu)) - 1.0;
            let (vectors, weights, bias) = (draw(&[n, d]), draw(&[d, k]), draw(&[k]));
            let scores = vectors.matmul(&weights) + &bias;
            for set in Instructions::all() {
                let (least, chosen) = least_scores_with(set, &vectors, &weights, &bias);
                assert_eq!(least, scores.amin([1], false), "{set:?} {n} {k} {d}");
                for row in 0..n {
                    let of_row = Vec::<f32>::try_from(scores.get(row)).unwrap();
                    let first =
                        of_row.iter().position(|&score| f64::from(score) == least.double_value(&[row]));
                    assert_eq!(chosen.int64_value(&[row]), first.unwrap() as i64, "{set:?} {n} {k} {d}");
                }
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
        ] {
            let refused = catching(|| least_scores(&vectors, &weights, &bias)).unwrap_err().to_string();
            assert!(refused.contains("px_nearest"), "{refused}");
        }
        let nothing = least_scores(&ones(&[0, 2], Kind::Float), &ones(&[2, 4], Kind::Float), &bias);
        assert_eq!(nothing.1.size(), [0]);
    }
}
