//! Lookup-free quantization (MAGVIT-2, arXiv 2310.05737): each of d latent dimensions becomes its
//! sign. So K = 2^d, and there is no codebook. An entropy loss keeps the codes in use.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::binary::{Signs, Terms, remedy};
use super::digits::{MixedRadix, Order};
use super::memory::MemoryBudget;
use super::settings::entropy_term;
use super::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, Words, bits_of,
    require_temperature,
};
use crate::variables::Scope;

/// Settings of LFQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// d, the number of dimensions with one bit each; K = 2^d.
    pub bits: i64,
    /// Weight of ‖z − sg[e]‖², which moves the encoder towards its code.
    pub commitment_weight: f64,
    /// Weight of the entropy loss; 0 turns it off.
    pub entropy_weight: f64,
    /// τ in p ∝ exp(−‖z − c‖²/τ), whose entropies are taken.
    pub entropy_temperature: f64,
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
            commitment_weight: 0.25,
            entropy_weight: 0.1,
            entropy_temperature: 0.01,
            entropy_group_bits: 9,
            memory_budget: MemoryBudget::default(),
        }
    }
}

impl Config {
    /// The losses for codes of ±`scale`.
    fn terms(&self, scale: f64) -> Terms {
        Terms {
            commitment_weight: self.commitment_weight,
            entropy_weight: self.entropy_weight,
            entropy_factor: 1.0,
            // ‖z − c‖² differs by 4·scale·z_i between the two signs of a bit.
            log_odds: 4.0 * scale / self.entropy_temperature,
            group_bits: self.entropy_group_bits,
            budget: self.memory_budget,
        }
    }
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        require_temperature("entropy_temperature", self.entropy_temperature)?;
        self.terms(1.0).check(self.bits)
    }

    fn batch_terms(&self) -> Vec<String> {
        entropy_term(self.entropy_weight)
    }

    fn codes(&self) -> (i64, i64) {
        (1, 1 << self.bits)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        Ok(QuantizerConfig::Lfq(Self { bits: bits_of(codes)?, ..self.clone() }))
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
        Ok(Box::new(Lfq::new(path, self, channels, stage)?))
    }
}

/// The LFQ quantizer; the first dimension is the least significant bit.
#[derive(Debug)]
pub struct Lfq(Signs);

impl Lfq {
    /// Registers a projection under `path` if `channels` differs from the number of bits. The codes
    /// of residual stage i are ±2^-i (as in vector-quantize-pytorch).
    ///
    /// # Errors
    /// See [`Settings::check`]. See [`Settings::check`].
    pub fn new(path: &Scope, config: &Config, channels: i64, stage: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let scale = (-stage as f64).exp2();
        let terms = config.terms(scale);
        Ok(Self(Signs::new(path, channels, config.bits, Order::FirstFastest, scale, terms)?))
    }
}

impl Quantizer for Lfq {
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        self.0.quantize(z, mode, Tensor::shallow_clone)
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        self.0.lookup(indices)
    }

    fn codes(&self, _codebook: i64, indices: &Tensor) -> Tensor {
        self.0.codes(indices)
    }

    fn codebook(&self) -> CodebookShape {
        self.0.codebook()
    }

    fn digits(&self) -> Option<&MixedRadix> {
        Some(self.0.radix())
    }

    fn collapse_remedy(&self, _vectors: i64) -> Words {
        remedy()
    }
}
