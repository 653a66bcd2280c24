//! Lloyd's algorithm, which starts a codebook from latents.

use tch::{Kind, Tensor};

use super::memory::MemoryBudget;
use super::search::{Nearness, assigned, nearest};
use pixtok_base::seed::Seed;

/// Means, and the number of vectors of each.
#[derive(Debug)]
pub struct Clusters {
    /// `[K, D]`.
    pub means: Tensor,
    /// `[K]`; 0 for a mean that no vector chose, which keeps its place.
    pub counts: Tensor,
}

/// Draws `rows` of `vectors`: without repetition while there are enough, then repeated.
///
/// # Shapes
/// `vectors [N, D]` -> `[rows, D]`.
pub fn sample_rows(vectors: &Tensor, rows: i64, seed: Seed) -> Tensor {
    let n = vectors.size()[0];
    pixtok_torch::reseed(seed);
    let order = Tensor::randperm(n.max(rows), (Kind::Int64, vectors.device())).narrow(0, 0, rows);
    vectors.index_select(0, &order.remainder(n))
}

/// K-means from random vectors. If there are fewer vectors than means, vectors repeat, moved apart
/// by a hundredth of their spread. `placed` moves means to valid positions for codes (for instance
/// onto the unit sphere). Returns `None` if `going_on`, which is asked before each iteration, says
/// no.
///
/// # Shapes
/// `vectors [N, D]` -> means `[K, D]`, counts `[K]`.
#[must_use]
pub fn kmeans(
    vectors: &Tensor,
    k: i64,
    iterations: usize,
    seed: Seed,
    budget: MemoryBudget,
    placed: impl Fn(Tensor) -> Tensor,
    going_on: &mut dyn FnMut() -> bool,
) -> Option<Clusters> {
    let mut means = sample_rows(vectors, k, seed.derive("means", &[]));
    if vectors.size()[0] < k {
        let spread = (vectors - vectors.mean_dim(0, true, Kind::Float)).square().mean(Kind::Float).sqrt();
        let noise = means.zeros_like();
        pixtok_torch::fill_gaussian(&noise, seed.derive("jitter", &[]), 0.0, 0.01);
        means += noise * spread;
    }
    lloyd(vectors, placed(means), iterations, budget, placed, going_on)
}

/// Runs `iterations` of assignment and mean from given means. Returns `None` if `going_on`, which
/// is asked before each iteration, says no.
///
/// # Shapes
/// `vectors [N, D]`, `means [K, D]`.
#[must_use]
pub fn lloyd(
    vectors: &Tensor,
    mut means: Tensor,
    iterations: usize,
    budget: MemoryBudget,
    placed: impl Fn(Tensor) -> Tensor,
    going_on: &mut dyn FnMut() -> bool,
) -> Option<Clusters> {
    let k = means.size()[0];
    let mut counts = Tensor::zeros([k], (Kind::Float, vectors.device()));
    for _ in 0..iterations {
        if !going_on() {
            return None;
        }
        let sums;
        let block = |first, n| means.narrow(0, first, n);
        let chosen = nearest(vectors, k, block, Nearness::Euclidean, budget);
        (counts, sums) = assigned(vectors, &chosen, k);
        let filled = placed(sums / counts.clamp_min(1.0).unsqueeze(1));
        means = filled.where_self(&counts.gt(0.0).unsqueeze(1), &means);
    }
    Some(Clusters { means, counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn finds_well_separated_clusters() {
        let centres = Tensor::from_slice(&[0f32, 0.0, 50.0, 0.0, 0.0, 50.0]).view([3, 2]);
        pixtok_torch::reseed(Seed(1));
        let noise = Tensor::randn([300, 2], (Kind::Float, Device::Cpu));
        let vectors = centres.repeat([100, 1]) + noise;
        let start = &centres + 5.0;
        let clusters =
            lloyd(&vectors, start, 10, MemoryBudget::default(), |means| means, &mut || true).unwrap();
        assert_eq!(clusters.counts, Tensor::full([3], 100.0, (Kind::Float, Device::Cpu)));
        assert!((&clusters.means - &centres).abs().max().double_value(&[]) < 0.5);
    }

    #[test]
    fn fewer_vectors_than_means_gives_distinct_means() {
        let vectors = Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0, 5.0, 5.0]).view([3, 2]);
        let clusters =
            kmeans(&vectors, 7, 0, Seed(2), MemoryBudget::default(), |means| means, &mut || true).unwrap();
        let (unique, _, _) = clusters.means.unique_dim(0, true, false, false);
        assert_eq!(unique.size(), [7, 2]);
    }

    #[test]
    fn stops_between_iterations_when_told_to() {
        let vectors = Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0, 5.0, 5.0]).view([3, 2]);
        let mut asked = 0;
        let mut three = || {
            asked += 1;
            asked <= 3
        };
        let clusters = kmeans(&vectors, 2, 10, Seed(2), MemoryBudget::default(), |means| means, &mut three);
        assert!(clusters.is_none());
        assert_eq!(asked, 4, "asked before each iteration, and not after the no");
    }

    #[test]
    fn agrees_with_vector_quantize_pytorch_from_given_means() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/vq.safetensors");
        let numbers: std::collections::HashMap<_, _> =
            Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let vectors = numbers["z1"].permute([0, 2, 3, 1]).reshape([-1, 8]);
        let initial = numbers["kmeans/initial"].copy();
        let clusters =
            lloyd(&vectors, initial, 10, MemoryBudget::default(), |means| means, &mut || true).unwrap();
        assert_eq!(clusters.counts, numbers["kmeans/counts"].to_kind(Kind::Float));
        let theirs = &numbers["kmeans/means"];
        let worst = (&clusters.means - theirs).abs().max().double_value(&[]);
        assert!(worst <= 1e-6 * theirs.abs().max().double_value(&[]), "differs by {worst:e}");
    }
}
