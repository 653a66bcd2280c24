//! Statistics of the combinations of codes of several codebooks.

use std::collections::HashMap;

use serde::Serialize;
use tch::Tensor;

use super::codebook::{host, usage_expected_uniform};
use crate::world::{World, WorldError};

/// A histogram of the tuples of codes at each position. n codebooks of K codes have K^n tuples;
/// only those that occur take memory.
#[derive(Debug)]
pub struct JointUse {
    codebooks: i64,
    size: i64,
    /// The key is the first 16 bytes of the tuple's BLAKE3 hash, so that an entry is small for any
    /// number of codebooks.
    counts: HashMap<[u8; 16], i64>,
    tokens: i64,
}

/// The statistics of the histogram.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JointFigures {
    /// The number of distinct tuples that occur.
    pub codes_joint: usize,
    /// Their share of all K^n tuples.
    pub usage_joint: f64,
    /// The expected share if as many tokens were drawn evenly over all tuples.
    pub usage_joint_expected_uniform: f64,
    /// The entropy −Σ p log2 p, where p is the share of each tuple.
    pub entropy_bits_joint: f64,
    /// 2^`entropy_bits_joint`.
    pub perplexity_joint: f64,
}

impl JointUse {
    /// An empty histogram.
    #[must_use]
    pub fn new(codebooks: i64, size: i64) -> Self {
        Self { codebooks, size, counts: HashMap::new(), tokens: 0 }
    }

    /// Counts a batch. Waits for the device.
    ///
    /// # Shapes
    /// `indices`: `[…, codebooks]` int64.
    pub fn add(&mut self, indices: &Tensor) {
        for tuple in host(&indices.reshape([-1])).chunks_exact(self.codebooks as usize) {
            let bytes: Vec<u8> = tuple.iter().flat_map(|code| code.to_le_bytes()).collect();
            let mut key = [0; 16];
            key.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
            *self.counts.entry(key).or_default() += 1;
            self.tokens += 1;
        }
    }

    /// The histogram of the tokens of all processes.
    ///
    /// # Errors
    /// When the processes can't exchange their counts.
    pub fn of_all(self, world: &World) -> Result<Self, WorldError> {
        let Self { codebooks, size, counts, tokens } = self;
        // A row for each tuple: the two halves of its key, and its count.
        let rows: Vec<i64> = counts
            .iter()
            .flat_map(|(key, &count)| {
                let key = u128::from_le_bytes(*key);
                [key as i64, (key >> 64) as i64, count]
            })
            .collect();
        let gathered = host(&world.gather(&Tensor::from_slice(&rows).view([-1, 3]))?.view([-1]));
        let mut counts: HashMap<[u8; 16], i64> = HashMap::new();
        for row in gathered.chunks_exact(3) {
            let key = u128::from(row[0] as u64) | u128::from(row[1] as u64) << 64;
            *counts.entry(key.to_le_bytes()).or_default() += row[2];
        }
        Ok(Self { codebooks, size, counts, tokens: world.sum_of(tokens)? })
    }

    /// The statistics of all tokens so far.
    #[must_use]
    pub fn figures(&self) -> JointFigures {
        let tuples = (self.size as f64).powf(self.codebooks as f64);
        // Summed in the order of the counts. The order of the map differs between runs, and would
        // change the last bits of the sum.
        let mut counts: Vec<i64> = self.counts.values().copied().collect();
        counts.sort_unstable();
        let share = |count: i64| count as f64 / self.tokens as f64;
        let entropy_bits = counts.iter().fold(0.0, |sum, &count| sum - share(count) * share(count).log2());
        JointFigures {
            codes_joint: counts.len(),
            usage_joint: counts.len() as f64 / tuples,
            usage_joint_expected_uniform: usage_expected_uniform(tuples, self.tokens),
            entropy_bits_joint: entropy_bits,
            perplexity_joint: entropy_bits.exp2(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_counted_as_one_code() {
        // Both codebooks use both codes, but only two of the four tuples occur.
        let mut joint = JointUse::new(2, 2);
        joint.add(&Tensor::from_slice(&[0i64, 0, 1, 1]).view([1, 1, 2, 2]));
        joint.add(&Tensor::from_slice(&[0i64, 0, 1, 1]).view([1, 1, 2, 2]));
        let figures = joint.figures();
        let joint = joint.of_all(&World::single()).unwrap();
        assert_eq!(joint.figures(), figures);
        assert_eq!((figures.codes_joint, figures.usage_joint), (2, 0.5));
        assert_eq!((figures.entropy_bits_joint, figures.perplexity_joint), (1.0, 2.0));
        assert!((figures.usage_joint_expected_uniform - (1.0 - 0.75f64.powi(4))).abs() < 1e-12);
    }

    #[test]
    fn more_tuples_than_any_integer_counts() {
        let mut joint = JointUse::new(12, 1 << 31);
        joint.add(&Tensor::ones([1, 2, 2, 12], (tch::Kind::Int64, tch::Device::Cpu)));
        let figures = joint.figures();
        assert_eq!((figures.codes_joint, figures.perplexity_joint), (1, 1.0));
        assert!(figures.usage_joint > 0.0 && figures.usage_joint < 1e-100);
    }
}
