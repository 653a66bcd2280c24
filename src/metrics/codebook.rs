//! Statistics of how often the codes of a codebook are used.

use std::collections::BTreeMap;

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::world::{World, WorldError};

/// With more codes than this, only the codes that occur are counted, in a map: a dense table would
/// take 128 MiB or more.
const DENSE_CODES: i64 = 1 << 24;

/// The number of batches that may wait on their device before they are counted in the map.
const MOST_WAITING: usize = 256;

/// A histogram of the codes over all tokens of a set.
///
/// With several codebooks, each is counted separately: code k of codebook c has the number c·K + k.
#[derive(Debug)]
pub struct CodebookUse {
    codebooks: i64,
    size: i64,
    counts: Counts,
    /// The number of tokens per codebook.
    tokens: i64,
}

#[derive(Debug)]
enum Counts {
    /// `[codebooks * K]` int64, on the device of the first indices.
    Dense(Option<Tensor>),
    /// The counts so far, and batches that are still on their device.
    Sparse(BTreeMap<i64, i64>, Vec<Tensor>),
}

/// The statistics of a histogram. With several codebooks: means over them, unless stated
/// differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodebookFigures {
    /// The share of the codes that occur at least once, from 0 to 1.
    pub usage: f64,
    /// 2^`entropy_bits`: the number of evenly used codes with the same entropy.
    pub perplexity: f64,
    /// The entropy −Σ p log2 p, where p is the share of each code.
    pub entropy_bits: f64,
    /// The number of codes that never occur, over all codebooks.
    pub dead_codes: i64,
    /// log2 K, summed over the codebooks.
    pub bits_per_token: f64,
    /// The expected usage if as many tokens were drawn evenly over the codes: 1 − (1 − 1/K)^tokens.
    /// It is far below 1 if there are far fewer tokens than codes.
    pub usage_expected_uniform: f64,
    /// The number of tokens. Several codebooks at one position count as one token.
    pub tokens: i64,
    /// The share of the most frequent code; the largest over the codebooks.
    pub largest_share: f64,
    /// The `usage` of each codebook, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usage_by_codebook: Vec<f64>,
    /// The `perplexity` of each codebook, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub perplexity_by_codebook: Vec<f64>,
}

impl CodebookFigures {
    /// The statistics that are logged during training, by name: means over the codebooks, and the
    /// value of each codebook if there are several.
    #[must_use]
    pub fn named(&self) -> Vec<(String, f64)> {
        let means = [
            ("usage", self.usage),
            ("perplexity", self.perplexity),
            ("dead_codes", self.dead_codes as f64),
            ("largest_share", self.largest_share),
        ];
        let of_each = |name: &str, values: &[f64]| -> Vec<(String, f64)> {
            values.iter().enumerate().map(|(i, &value)| (format!("{name}/{i}"), value)).collect()
        };
        let mut named: Vec<_> = means.map(|(name, value)| (name.to_owned(), value)).into();
        named.extend(of_each("usage", &self.usage_by_codebook));
        named.extend(of_each("perplexity", &self.perplexity_by_codebook));
        named
    }
}

impl CodebookUse {
    /// An empty histogram for `codebooks` codebooks of `size` codes each.
    #[must_use]
    pub fn new(codebooks: i64, size: i64) -> Self {
        let dense = codebooks.checked_mul(size).is_some_and(|codes| codes <= DENSE_CODES);
        let counts = if dense { Counts::Dense(None) } else { Counts::Sparse(BTreeMap::new(), vec![]) };
        Self { codebooks, size, counts, tokens: 0 }
    }

    /// Counts a batch. Does not wait for the device; with more than 2^24 codes it does so once in
    /// many batches.
    ///
    /// # Shapes
    /// `indices`: of any shape, int64 in `0..K`, with a last axis of one entry per codebook when there are several.
    ///
    /// # Panics
    /// If the last axis does not have one entry per codebook, or an index is out of range.
    pub fn add(&mut self, indices: &Tensor) {
        let per_codebook = indices.numel() as i64 / self.codebooks;
        let numbers = if self.codebooks == 1 {
            indices.reshape([-1])
        } else {
            assert_eq!(
                indices.size().last(),
                Some(&self.codebooks),
                "last axis of the indices: one per codebook"
            );
            let first = Tensor::arange(self.codebooks, (Kind::Int64, indices.device())) * self.size;
            (indices + first).reshape([-1])
        };
        match &mut self.counts {
            Counts::Dense(counts) => {
                let counts = counts.get_or_insert_with(|| {
                    Tensor::zeros([self.codebooks * self.size], (Kind::Int64, indices.device()))
                });
                // bincount would wait for the device, because the length of its output depends on
                // the values.
                let _ = counts.index_add_(0, &numbers, &numbers.ones_like());
            }
            Counts::Sparse(counts, waiting) => {
                waiting.push(numbers);
                if waiting.len() >= MOST_WAITING {
                    count_into(counts, waiting);
                    waiting.clear();
                }
            }
        }
        self.tokens += per_codebook;
    }

    /// The histogram of the tokens of all processes. Waits for the device if there are several, or
    /// more than 2^24 codes.
    ///
    /// # Errors
    /// When the processes can't add up their counts.
    pub fn of_all(self, world: &World) -> Result<Self, WorldError> {
        let Self { codebooks, size, counts, tokens } = self;
        let counts = match counts {
            Counts::Dense(counts) => {
                // A process without tokens takes part in the sum too. It knows of no other device
                // than the CPU, and all have to use the same.
                let none = || Tensor::zeros([codebooks * size], (Kind::Int64, Device::Cpu));
                let counts = counts.unwrap_or_else(none);
                let counts = if world.size() > 1 { counts.to_device(Device::Cpu) } else { counts };
                Counts::Dense(Some(world.sum(&counts)?))
            }
            Counts::Sparse(mut counts, waiting) => {
                count_into(&mut counts, &waiting);
                let pairs: Vec<i64> = counts.iter().flat_map(|(&number, &count)| [number, count]).collect();
                let gathered = world.gather(&Tensor::from_slice(&pairs).view([-1, 2]))?;
                Counts::Sparse(sums_of(&host(&gathered.view([-1]))), vec![])
            }
        };
        Ok(Self { codebooks, size, counts, tokens: world.sum_of(tokens)? })
    }

    /// The codes that occur, each with its count, in the order of the codes. Waits for the device.
    #[must_use]
    pub fn counts(&self) -> Vec<(i64, i64)> {
        match &self.counts {
            Counts::Dense(None) => Vec::new(),
            Counts::Dense(Some(counts)) => (0..).zip(host(counts)).filter(|&(_, count)| count > 0).collect(),
            Counts::Sparse(counts, waiting) => {
                let mut counts = counts.clone();
                count_into(&mut counts, waiting);
                counts.into_iter().collect()
            }
        }
    }

    /// The statistics of all tokens so far. Without tokens, usage and entropy are 0 and every code
    /// is dead. Waits for the device.
    #[must_use]
    pub fn figures(&self) -> CodebookFigures {
        let each = self.by_codebook();
        let mean = |of: &dyn Fn(&One) -> f64| each.iter().map(of).sum::<f64>() / self.codebooks as f64;
        let entropy_bits = mean(&|one| one.entropy_bits);
        let hit: i64 = each.iter().map(|one| one.hit).sum();
        let several = if self.codebooks > 1 { each.as_slice() } else { &[] };
        CodebookFigures {
            usage: hit as f64 / (self.codebooks * self.size) as f64,
            perplexity: entropy_bits.exp2(),
            entropy_bits,
            dead_codes: self.codebooks * self.size - hit,
            bits_per_token: self.codebooks as f64 * (self.size as f64).log2(),
            usage_expected_uniform: usage_expected_uniform(self.size as f64, self.tokens),
            tokens: self.tokens,
            largest_share: each.iter().map(|one| one.largest_share).fold(0.0, f64::max),
            usage_by_codebook: several.iter().map(|one| one.hit as f64 / self.size as f64).collect(),
            perplexity_by_codebook: several.iter().map(|one| one.entropy_bits.exp2()).collect(),
        }
    }

    fn by_codebook(&self) -> Vec<One> {
        let mut each = vec![One::default(); self.codebooks as usize];
        for (number, count) in self.counts() {
            let one = &mut each[(number / self.size) as usize];
            let share = count as f64 / self.tokens as f64;
            one.hit += 1;
            one.entropy_bits -= share * share.log2();
            one.largest_share = one.largest_share.max(share);
        }
        each
    }
}

/// The statistics of one codebook.
#[derive(Debug, Clone, Default)]
struct One {
    hit: i64,
    entropy_bits: f64,
    largest_share: f64,
}

/// 1 − (1 − 1/K)^n, without the cancellation of the direct formula at large K.
pub(super) fn usage_expected_uniform(size: f64, tokens: i64) -> f64 {
    if tokens == 0 {
        return 0.0;
    }
    -(tokens as f64 * (-1.0 / size).ln_1p()).exp_m1()
}

fn count_into(counts: &mut BTreeMap<i64, i64>, batches: &[Tensor]) {
    for number in batches.iter().flat_map(host) {
        *counts.entry(number).or_default() += 1;
    }
}

/// Adds up the counts of each code, from pairs of code and count, one after the other.
fn sums_of(pairs: &[i64]) -> BTreeMap<i64, i64> {
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for pair in pairs.chunks_exact(2) {
        *counts.entry(pair[0]).or_default() += pair[1];
    }
    counts
}

/// Copies a one-dimensional int64 tensor to the host.
pub(super) fn host(values: &Tensor) -> Vec<i64> {
    let values = values.to_device(Device::Cpu).contiguous();
    let mut out = vec![0; values.numel()];
    values.copy_data(&mut out, values.numel());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(codebooks: i64, size: i64, indices: &[i64], shape: &[i64]) -> CodebookUse {
        let mut used = CodebookUse::new(codebooks, size);
        used.add(&Tensor::from_slice(indices).view(shape));
        used
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn figures_of_a_small_histogram() {
        // Shares 1/2, 1/4 and 1/4 of 5 codes: 1.5 bits.
        let figures = used(1, 5, &[0, 3, 0, 1, 0, 3, 0, 1], &[1, 2, 4]).figures();
        assert!(close(figures.usage, 0.6));
        assert!(close(figures.entropy_bits, 1.5));
        assert!(close(figures.perplexity, 2f64.powf(1.5)));
        assert!(close(figures.bits_per_token, 5f64.log2()));
        assert!(close(figures.usage_expected_uniform, 1.0 - 0.8f64.powi(8)));
        assert!(close(figures.largest_share, 0.5));
        assert_eq!((figures.dead_codes, figures.tokens), (2, 8));
    }

    #[test]
    fn extremes() {
        let all: Vec<i64> = (0..1000).collect();
        let even = used(1, 1000, &all, &[2, 20, 25]).figures();
        assert!(close(even.usage, 1.0) && (even.perplexity - 1000.0).abs() < 1e-9 && even.dead_codes == 0);
        let one = used(1, 1000, &[7; 24], &[2, 3, 4]).figures();
        assert!(one.perplexity == 1.0 && one.entropy_bits.to_bits() == 0 && one.largest_share == 1.0);
        let none = CodebookUse::new(1, 10).figures();
        assert_eq!((none.usage, none.perplexity, none.dead_codes, none.tokens), (0.0, 1.0, 10, 0));
        assert_eq!(none.usage_expected_uniform, 0.0);
    }

    #[test]
    fn few_tokens_over_many_codes_are_not_a_collapse() {
        assert!((usage_expected_uniform(64_000.0, 1000) - 0.015_503).abs() < 1e-5);
        assert!((usage_expected_uniform(2f64.powi(31), 1) * (1u64 << 31) as f64 - 1.0).abs() < 1e-9);
        assert_eq!(usage_expected_uniform(1.0, 3), 1.0);
    }

    #[test]
    fn batches_add_up_and_the_sparse_form_agrees_with_the_dense() {
        let (first, second) = (Tensor::from_slice(&[5i64, 5, 0]), Tensor::from_slice(&[9i64, 5]));
        let mut dense = CodebookUse::new(1, 10);
        let mut sparse =
            CodebookUse { counts: Counts::Sparse(BTreeMap::new(), vec![]), ..CodebookUse::new(1, 10) };
        for batch in [&first, &second] {
            dense.add(&batch.view([1, 1, -1]));
            sparse.add(&batch.view([1, 1, -1]));
        }
        assert_eq!(dense.counts(), [(0, 1), (5, 3), (9, 1)]);
        assert_eq!(sparse.counts(), dense.counts());
        assert_eq!(sparse.figures(), dense.figures());
        let [all, none] =
            [sparse, CodebookUse::new(1, 10)].map(|used| used.of_all(&World::single()).unwrap());
        assert_eq!((all.counts(), all.figures()), (dense.counts(), dense.figures()));
        assert_eq!(none.figures(), CodebookUse::new(1, 10).figures());
        assert_eq!(dense.of_all(&World::single()).unwrap().figures(), all.figures());
        // The pairs of two processes.
        assert_eq!(
            sums_of(&[0, 1, 5, 3, 9, 1, 2, 4, 5, 2]),
            BTreeMap::from([(0, 1), (2, 4), (5, 5), (9, 1)])
        );
    }

    #[test]
    fn a_codebook_too_large_for_a_table_is_counted_by_occurrence() {
        let last = (1i64 << 31) - 1;
        let huge = used(1, 1 << 31, &[last, 3, last], &[1, 1, 3]);
        assert!(matches!(huge.counts, Counts::Sparse(..)));
        assert_eq!(huge.counts(), [(3, 1), (last, 2)]);
        assert_eq!(huge.figures().bits_per_token, 31.0);
    }

    #[test]
    fn several_codebooks_are_counted_apart() {
        // First codebook: 0, 0, 0, 0; second: 0, 1, 2, 3.
        let figures = used(2, 4, &[0, 0, 0, 1, 0, 2, 0, 3], &[1, 2, 2, 2]).figures();
        assert_eq!((figures.tokens, figures.dead_codes), (4, 3));
        assert!(close(figures.usage, 5.0 / 8.0) && close(figures.entropy_bits, 1.0));
        assert!(close(figures.bits_per_token, 4.0) && close(figures.largest_share, 1.0));
        assert!(close(figures.usage_expected_uniform, 1.0 - 0.75f64.powi(4)));
        assert_eq!(figures.usage_by_codebook, [0.25, 1.0]);
        assert_eq!(figures.perplexity_by_codebook, [1.0, 4.0]);
    }
}
