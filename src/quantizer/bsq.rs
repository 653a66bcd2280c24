//! Binary spherical quantization (Zhao et al. 2024, arXiv 2406.07548): the latent is projected onto
//! the unit sphere, and each of its d dimensions becomes ±1/√d by its sign. So K = 2^d, and there
//! is no codebook.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::binary::{Signs, Terms, remedy};
use super::digits::{MixedRadix, Order};
use super::memory::MemoryBudget;
use super::settings::entropy_term;
use super::vectors::normalised;
use super::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, Words, bits_of,
    require_temperature,
};
use crate::variables::Scope;

/// Settings of BSQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// d, the number of dimensions with one bit each; K = 2^d.
    pub bits: i64,
    /// Weight of ‖u − sg[û]‖², a mean over elements (bsq-vit sums over dimensions; its default
    /// weight is 0 too).
    pub commitment_weight: f64,
    /// Weight of the entropy loss; 0 turns it off.
    pub entropy_weight: f64,
    /// τ in p ∝ exp(τ·uᵀc), whose entropies are taken; the loss is divided by τ/2 (bsq-vit's
    /// `inv_temperature`).
    pub inverse_temperature: f64,
    /// The entropy of the mean is exact within groups of this many bits, and summed over the
    /// groups.
    pub entropy_group_bits: i64,
    /// The memory limit for the tables of the entropy loss.
    pub memory_budget: MemoryBudget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bits: 10,
            commitment_weight: 0.0,
            entropy_weight: 0.1,
            inverse_temperature: 2.0,
            entropy_group_bits: 9,
            memory_budget: MemoryBudget::default(),
        }
    }
}

impl Config {
    /// The losses on a sphere of `radius`.
    fn terms(&self, radius: f64) -> Terms {
        Terms {
            commitment_weight: self.commitment_weight,
            entropy_weight: self.entropy_weight,
            entropy_factor: 2.0 / self.inverse_temperature,
            // On the unit sphere, τ·uᵀc differs by 2τ·u_i/√d between the two signs of a bit.
            log_odds: 2.0 * self.inverse_temperature / ((self.bits as f64).sqrt() * radius),
            group_bits: self.entropy_group_bits,
            budget: self.memory_budget,
        }
    }
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        require_temperature("inverse_temperature", self.inverse_temperature)?;
        self.terms(1.0).check(self.bits)
    }

    fn batch_terms(&self) -> Vec<String> {
        entropy_term(self.entropy_weight)
    }

    fn codes(&self) -> (i64, i64) {
        (1, 1 << self.bits)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        Ok(QuantizerConfig::Bsq(Self { bits: bits_of(codes)?, ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.bits
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        self.build_stage(path, channels, 0)
    }

    fn stage_ratio(&self) -> f64 {
        2.0
    }

    fn build_stage(
        &self,
        path: &Scope,
        channels: i64,
        stage: i64,
    ) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Bsq::new(path, self, channels, stage)?))
    }
}

/// The BSQ quantizer; the first dimension is the most significant bit.
#[derive(Debug)]
pub struct Bsq {
    signs: Signs,
    radius: f64,
}

impl Bsq {
    /// Registers a projection under `path` if `channels` differs from the number of bits. The
    /// sphere of residual stage i has radius 2^-i (as in vector-quantize-pytorch).
    ///
    /// # Errors
    /// See [`Settings::check`]. See [`Settings::check`].
    pub fn new(path: &Scope, config: &Config, channels: i64, stage: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let radius = (-stage as f64).exp2();
        let scale = radius / (config.bits as f64).sqrt();
        let terms = config.terms(radius);
        let signs = Signs::new(path, channels, config.bits, Order::LastFastest, scale, terms)?;
        Ok(Self { signs, radius })
    }
}

impl Quantizer for Bsq {
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        self.signs.quantize(z, mode, |z| normalised(z) * self.radius)
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        self.signs.lookup(indices)
    }

    fn codes(&self, _codebook: i64, indices: &Tensor) -> Tensor {
        self.signs.codes(indices)
    }

    fn codebook(&self) -> CodebookShape {
        self.signs.codebook()
    }

    fn digits(&self) -> Option<&MixedRadix> {
        Some(self.signs.radix())
    }

    fn collapse_remedy(&self, _vectors: i64) -> Words {
        remedy()
    }
}
