//! The shared code of quantizers by sign (LFQ, BSQ): a code has one bit in each dimension, and
//! there is no codebook.

use tch::{Device, Kind, Tensor};

use super::digits::{MixedRadix, Order};
use super::entropy::{Entropies, LEAST_LOG};
use super::memory::{MemoryBudget, mebibytes};
use super::projection::Projection;
use super::vectors::{mean_square, vectors_from_latent};
use super::{
    CodebookShape, LossTerm, Mode, Quantized, QuantizerError, Words, require, require_weight,
    straight_through::straight_through,
};
use crate::layers::as_kind;
use crate::statistics::Monitor;
use crate::variables::Scope;
use crate::world::World;
use pixtok_torch::{in_full_precision, no_grad};

/// The losses of a quantizer by sign, and the conditions on their settings.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Weight of ‖u − sg[code]‖².
    pub commitment_weight: f64,
    /// Weight of the entropy loss; 0 turns it off.
    pub entropy_weight: f64,
    /// Factor of the entropy loss before its weight.
    pub entropy_factor: f64,
    /// Log-odds of a bit for each unit of u.
    pub log_odds: f64,
    /// The largest number of bits in a group, over which the entropy of the mean is exact.
    pub group_bits: i64,
    /// The memory budget for the tables of the entropy loss.
    pub budget: MemoryBudget,
}

impl Terms {
    /// Checks the number of bits, which an index must hold, and the settings of the losses, whose
    /// tables must fit the budget.
    pub fn check(&self, bits: i64) -> Result<(), QuantizerError> {
        require((1..=31).contains(&bits), "bits", bits, "it must be from 1 to 31 (2^31 codes)")?;
        require_weight("commitment_weight", self.commitment_weight)?;
        let group_bits = self.group_bits;
        require(
            (1..=20).contains(&group_bits),
            "entropy_group_bits",
            group_bits,
            "it must be from 1 to 20 (the loss is over 2^entropy_group_bits codes at a time)",
        )?;
        require_weight("entropy_weight", self.entropy_weight)?;
        // E[p], its logarithm, products and the slope.
        let needed = 16 << bits.min(group_bits);
        require(
            self.entropy_weight == 0.0 || needed <= self.budget.bytes(),
            "entropy_group_bits",
            group_bits,
            Words::from(format!(
                "the entropy over 2^{group_bits} combinations needs {} MiB and ",
                mebibytes(needed)
            ))
            .setting("memory_budget")
            .text(format!(" is {}; lower the one or raise the other", self.budget)),
        )
    }
}

/// Quantizes each dimension to ±`scale`.
#[derive(Debug)]
pub struct Signs {
    projection: Projection,
    radix: MixedRadix,
    scale: f64,
    terms: Terms,
}

impl Signs {
    /// Registers a projection under `path` if `channels` differs from `bits`.
    pub fn new(
        path: &Scope,
        channels: i64,
        bits: i64,
        order: Order,
        scale: f64,
        terms: Terms,
    ) -> Result<Self, QuantizerError> {
        terms.check(bits)?;
        Ok(Self {
            projection: Projection::new(path, channels, bits),
            radix: MixedRadix::new(&vec![2; bits as usize], order, path.device()),
            scale,
            terms,
        })
    }

    /// Quantizes a latent. `u_from_z` turns the projected latent into the numbers whose signs are
    /// taken.
    pub fn quantize(&self, z: &Tensor, mode: Mode, u_from_z: impl Fn(&Tensor) -> Tensor) -> Quantized {
        in_full_precision(|| {
            let u = u_from_z(&self.projection.project_in(&as_kind(z, Kind::Float)));
            // 0 counts as negative: torch's own sign of 0 is not a code.
            let digits = as_kind(&u.gt(0.0), Kind::Int64);
            let codes = self.codes_from_digits(&digits);
            let (losses, monitors) = match mode {
                Mode::Eval => (vec![], vec![]),
                Mode::Train { world, .. } => self.losses(&u, &codes, world),
            };
            Quantized {
                latent: self.projection.project_out(&straight_through(&codes, &u)),
                indices: self.radix.indices_from_digits(&digits),
                losses,
                statistics: vec![],
                monitors,
                stages: vec![],
            }
        })
    }

    /// `[B, N]` -> `[B, N, C]`.
    pub fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| self.projection.project_out(&self.codes(indices)))
    }

    /// `[B, N]` -> `[B, N, D]`, without the projection.
    pub fn codes(&self, indices: &Tensor) -> Tensor {
        self.codes_from_digits(&self.radix.digits_from_indices(indices))
    }

    /// Converts digits 0 and 1 to ∓`scale`.
    fn codes_from_digits(&self, digits: &Tensor) -> Tensor {
        (as_kind(digits, Kind::Float) * 2.0 - 1.0) * self.scale
    }

    fn losses(&self, u: &Tensor, codes: &Tensor, world: &World) -> (Vec<LossTerm>, Vec<Monitor>) {
        let terms = &self.terms;
        let commitment =
            LossTerm { name: "commitment", value: mean_square(u, codes), weight: terms.commitment_weight };
        if terms.entropy_weight == 0.0 {
            return (vec![commitment], vec![]);
        }
        let entropies = bits_entropy(&(u * terms.log_odds), terms.group_bits, terms.budget, world);
        let monitors = entropies.monitors();
        let entropy = LossTerm {
            name: "entropy",
            value: entropies.loss * terms.entropy_factor,
            weight: terms.entropy_weight,
        };
        (vec![commitment, entropy], monitors)
    }

    /// K = 2^bits codes.
    pub fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.radix.size(), dim: self.radix.levels().len() as i64 }
    }

    /// One bit per dimension.
    pub fn radix(&self) -> &MixedRadix {
        &self.radix
    }
}

/// Advice for a collapsing codebook.
pub fn remedy() -> Words {
    Words::from("raise ").setting("entropy_weight").text(", or choose fewer ").setting("bits")
}

/// E[H(p)] − H(E[p]) for independent bits. E[H(p)] is the sum of the bits' own entropies. H(E[p])
/// is exact within groups of at most `group_bits` neighbouring dimensions and summed over the
/// groups, which is an upper bound (as in Open-MAGVIT2 and bsq-vit). E[p] is the mean over the
/// vectors of all processes, as in [`super::entropy`].
///
/// # Shapes
/// `log_odds` of each bit, `[B, N, d]`.
fn bits_entropy(log_odds: &Tensor, group_bits: i64, budget: MemoryBudget, world: &World) -> Entropies {
    let log_odds = vectors_from_latent(log_odds);
    // −σ(l)·log σ(l) of a bit that is set, and of one that is not.
    let half = |l: &Tensor| l.sigmoid() * l.log_sigmoid();
    let of_bits = -(half(&log_odds) + half(&-&log_odds));
    let of_each = of_bits.sum_dim_intlist(1, false, Kind::Float).mean(Kind::Float);
    let groups = log_odds.split(group_bits, 1);
    let of_mean: Tensor = groups.iter().map(|group| entropy_of_mean(group, budget, world)).sum();
    Entropies { loss: &of_each - &of_mean, of_each: of_each.detach(), of_mean: of_mean.detach() }
}

/// H(E[p]) over all combinations of the bits of one group, with its gradient.
///
/// A combination consists of one of the first half of the bits and one of the second half. Both are
/// independent given the vector, so E[p] over all combinations is a matrix product of two narrow
/// tables, and a table of vectors × combinations never exists. As in [`super::entropy`], a first
/// pass adds up E[p], which gives the gradient of a second pass chunk by chunk.
///
/// # Shapes
/// `log_odds [N, bits]`.
fn entropy_of_mean(log_odds: &Tensor, budget: MemoryBudget, world: &World) -> Tensor {
    let (n, bits, device) = (log_odds.size()[0], log_odds.size()[1], log_odds.device());
    let halves = [(0, bits - bits / 2), (bits - bits / 2, bits / 2)];
    let combinations = halves.map(|(_, bits)| all_bits(bits, device).tr());
    // [N, 2^a] and [N, 2^b], whose products stay above the least probability -> sum over vectors,
    // [2^a, 2^b].
    let joint = |chunk: &Tensor| {
        let [first, second] = [0, 1].map(|i| {
            let (from, bits) = halves[i];
            let logits = chunk.narrow(1, from, bits).matmul(&combinations[i]);
            logits.log_softmax(-1, Kind::Float).clamp_min(LEAST_LOG / 2.0).exp()
        });
        first.tr().matmul(&second)
    };
    let row_bytes = 16 * combinations.iter().map(|table| table.size()[1]).sum::<i64>();
    let chunks = log_odds.detach().split((budget.block_bytes(device) / row_bytes).max(1), 0);
    let mean = no_grad(|| world.all_mean(&(chunks.iter().map(joint).sum::<Tensor>() / n as f64)));
    let log_mean = mean.log();
    let value = -(&mean * &log_mean).sum(Kind::Float);
    if !log_odds.requires_grad() {
        return value;
    }
    // ∂H/∂E[p] = −log E[p] − 1; the constant has no effect, because E[p] keeps its sum. With
    // several processes, n is the number of vectors of this one: gradients are averaged later.
    let slope = log_mean / -(n as f64);
    let gradients: Vec<Tensor> = chunks
        .iter()
        .map(|chunk| {
            let leaf = chunk.copy().set_requires_grad(true);
            let linear = (joint(&leaf) * &slope).sum(Kind::Float);
            Tensor::run_backward(&[linear], &[leaf], false, false).remove(0)
        })
        .collect();
    straight_through(&value, &(log_odds * Tensor::cat(&gradients, 0)).sum(Kind::Float))
}

/// Every combination of `bits` bits, `[2^bits, bits]`. The probability of a combination is the
/// softmax, over all combinations, of the sum of the log-odds of its set bits.
fn all_bits(bits: i64, device: Device) -> Tensor {
    let numbers = Tensor::arange(1i64 << bits, (Kind::Int64, device)).unsqueeze(1);
    let shifts = Tensor::arange(bits, (Kind::Int64, device)).unsqueeze(0);
    numbers.bitwise_right_shift(&shifts).bitwise_and(1).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::entropy::assignment_entropy;
    use pixtok_base::seed::Seed;

    #[test]
    fn halves_and_chunks_give_what_the_table_of_all_combinations_gives() {
        let alone = World::alone();
        for bits in [1, 2, 7, 10] {
            pixtok_torch::reseed(Seed(bits as u64));
            // With 10 bits and 1 MiB, a chunk has 1,024 vectors.
            let log_odds = Tensor::randn([5, 600, bits], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let table = all_bits(bits, Device::Cpu);
            let whole = assignment_entropy(
                &vectors_from_latent(&log_odds),
                &table,
                None,
                MemoryBudget::default(),
                alone,
            );
            let split = bits_entropy(&log_odds, bits, "1MiB".parse().unwrap(), alone);
            let gradient =
                |loss: &Tensor| Tensor::run_backward(&[loss], &[&log_odds], false, false).remove(0);
            for (what, ours, theirs) in [
                ("loss", split.loss.detach(), whole.loss.detach()),
                ("E[H]", split.of_each.shallow_clone(), whole.of_each.shallow_clone()),
                ("H[E]", split.of_mean.shallow_clone(), whole.of_mean.shallow_clone()),
                ("gradient", gradient(&split.loss), gradient(&whole.loss)),
            ] {
                let off = ((&ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[]);
                assert!(off < 1e-5, "{bits} bits: {what} differs by {off:e}");
            }
        }
    }
}
