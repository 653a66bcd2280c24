//! What the quantizers by sign (LFQ, BSQ) share: a code has one bit in each dimension, and there is no codebook.

use tch::{Device, Kind, Tensor, nn};

use super::digits::{MixedRadix, Order};
use super::entropy::{Entropies, assignment_entropy};
use super::memory::MemoryBudget;
use super::projection::Projection;
use super::vectors::{mean_square, vectors_from_grid};
use super::{
    CodebookShape, LossTerm, Mode, Monitor, Quantized, QuantizerError, codebook, require, require_weight,
    straight_through::straight_through,
};
use crate::torch::in_full_precision;

/// The losses of a quantizer by sign, and what their settings must be.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Weight of ‖u − sg[code]‖².
    pub commitment_weight: f64,
    /// Weight of the entropy loss; 0 is none.
    pub entropy_weight: f64,
    /// Factor of the entropy loss before its weight.
    pub entropy_factor: f64,
    /// Log-odds of a bit for each unit of u.
    pub log_odds: f64,
    /// Most bits over which the entropy of the mean is exact.
    pub group_bits: i64,
    /// For the tables of the entropy loss.
    pub budget: MemoryBudget,
}

impl Terms {
    /// Refuses a number of bits that no index holds, and losses that are out of range or do not fit the budget.
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
        codebook::check_entropy(self.entropy_weight, 1 << bits.min(group_bits), self.budget)
    }
}

/// Codes of ±`scale` in each dimension.
#[derive(Debug)]
pub struct Signs {
    projection: Projection,
    radix: MixedRadix,
    scale: f64,
    terms: Terms,
}

impl Signs {
    /// Registers a projection under `path` when `channels` differs from `bits`.
    pub fn new(
        path: &nn::Path,
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

    /// `u_from_z` turns the projected latent into what the codes are compared with.
    pub fn quantize(&self, z: &Tensor, mode: Mode, u_from_z: impl Fn(&Tensor) -> Tensor) -> Quantized {
        in_full_precision(|| {
            let u = u_from_z(&self.projection.project_in(&z.to_kind(Kind::Float)));
            // 0 goes with the negative numbers: torch's own sign of 0 is no code.
            let digits = u.gt(0.0).to_kind(Kind::Int64);
            let codes = self.codes(&digits);
            let (losses, monitors) = match mode {
                Mode::Eval => (vec![], vec![]),
                Mode::Train { .. } => self.losses(&u, &codes),
            };
            Quantized {
                latent: self.projection.project_out(&straight_through(&codes, &u)),
                indices: self.radix.indices_from_digits(&digits),
                losses,
                statistics: vec![],
                monitors,
            }
        })
    }

    /// `[B, h, w]` -> `[B, C, h, w]`.
    pub fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| {
            self.projection.project_out(&self.codes(&self.radix.digits_from_indices(indices)))
        })
    }

    /// Digits 0 and 1 as ∓`scale`.
    fn codes(&self, digits: &Tensor) -> Tensor {
        (digits.to_kind(Kind::Float) * 2.0 - 1.0) * self.scale
    }

    fn losses(&self, u: &Tensor, codes: &Tensor) -> (Vec<LossTerm>, Vec<Monitor>) {
        let terms = &self.terms;
        let commitment =
            LossTerm { name: "commitment", value: mean_square(u, codes), weight: terms.commitment_weight };
        if terms.entropy_weight == 0.0 {
            return (vec![commitment], vec![]);
        }
        let entropies = bits_entropy(&(u * terms.log_odds), terms.group_bits, terms.budget);
        let monitors = entropies.monitors();
        let entropy = LossTerm {
            name: "entropy",
            value: entropies.loss * terms.entropy_factor,
            weight: terms.entropy_weight,
        };
        (vec![commitment, entropy], monitors)
    }

    /// K = 2^bits.
    pub fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.radix.size(), dim: self.radix.levels().len() as i64 }
    }

    /// One bit per dimension.
    pub fn radix(&self) -> &MixedRadix {
        &self.radix
    }
}

/// For the warning of a collapse.
pub const REMEDY: &str = "raise quantizer.entropy_weight, or choose fewer quantizer.bits";

/// E[H(p)] − H(E[p]), summed over groups of at most `group_bits` neighbouring dimensions. E[H(p)] is the same as over
/// all bits together; H(E[p]) is exact within a group, and the sum over groups an upper bound of the whole (as in
/// Open-MAGVIT2 and bsq-vit).
///
/// # Shapes
/// `log_odds` of each bit, `[B, d, h, w]`.
fn bits_entropy(log_odds: &Tensor, group_bits: i64, budget: MemoryBudget) -> Entropies {
    let groups = vectors_from_grid(log_odds).split(group_bits, 1);
    let of_groups = groups.iter().map(|group| {
        assignment_entropy(group, &all_bits(group.size()[1], group.device()), None, budget)
    });
    let zero = || Tensor::zeros([], (Kind::Float, log_odds.device()));
    of_groups.fold(Entropies { loss: zero(), of_each: zero(), of_mean: zero() }, |sum, group| Entropies {
        loss: sum.loss + group.loss,
        of_each: sum.of_each + group.of_each,
        of_mean: sum.of_mean + group.of_mean,
    })
}

/// Every combination of `bits` bits, `[2^bits, bits]`: the probability of a combination is the softmax, over all of
/// them, of the sum of the log-odds of the bits that are set.
fn all_bits(bits: i64, device: Device) -> Tensor {
    let radix = MixedRadix::new(&vec![2; bits as usize], Order::FirstFastest, device);
    let all = Tensor::arange(radix.size(), (Kind::Int64, device)).view([1, 1, -1]);
    radix.digits_from_indices(&all).to_kind(Kind::Float).view([bits, -1]).tr().contiguous()
}
