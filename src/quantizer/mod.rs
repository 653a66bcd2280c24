//! Latent to indices and back. One file (or folder) per quantizer; adding one touches that file and the three
//! adjacent places of this one: the `mod` line, the [`QuantizerConfig`] variant, the match arm of its `settings`.
//!
//! Nothing outside asks which quantizer it has: a quantizer names its own loss terms, registers its own variables
//! under the path that it is given, and computes in full float32 whatever the autocast type.

mod binary;
pub mod bsq;
mod codebook;
pub mod digits;
mod entropy;
mod estimator;
pub mod fsq;
pub mod grouped;
pub mod ibq;
mod kmeans;
pub mod lfq;
mod memory;
mod parts;
mod projection;
pub mod residual;
mod search;
mod settings;
pub mod simvq;
mod statistic;
mod straight_through;
mod vectors;
pub mod vq;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use digits::MixedRadix;
pub use estimator::GradientEstimator;
pub use memory::MemoryBudget;
pub use settings::Settings;
use settings::{bits_of, require, require_temperature, require_weight};
pub use statistic::{Statistic, merge};
pub use straight_through::straight_through;

use pixtok_base::seed::Seed;
use pixtok_base::{Class, Classified};

/// Most codes that an index can name.
pub const MAX_CODES: i64 = 1 << 31;

/// Whether statistics are taken and noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Deterministic; no losses, no statistics.
    Eval,
    /// Losses, and statistics for [`Quantizer::update`]; noise, if any, from `seed`.
    Train {
        /// Of this micro-batch.
        seed: Seed,
    },
}

/// What [`Quantizer::quantize`] makes.
#[derive(Debug)]
pub struct Quantized {
    /// `[B, N, C]`, equal to `lookup(indices)` bit for bit (but for FSQ's noise in training); its gradient is an
    /// estimate.
    pub latent: Tensor,
    /// `[B, N]` int64 in `0..K`; `[B, N, codebooks]` for several codebooks.
    pub indices: Tensor,
    /// Auxiliary losses, to be added to the objective's own; empty in [`Mode::Eval`].
    pub losses: Vec<LossTerm>,
    /// For [`Quantizer::update`]; empty in [`Mode::Eval`]; detached.
    pub statistics: Vec<Statistic>,
    /// For the logs only.
    pub monitors: Vec<Monitor>,
}

/// One named term of a loss; it contributes `weight * value`.
#[derive(Debug)]
pub struct LossTerm {
    /// As logged, under `loss/`.
    pub name: &'static str,
    /// Scalar, unweighted, with its gradient.
    pub value: Tensor,
    /// Factor in the total.
    pub weight: f64,
}

/// A named scalar for the logs, detached and left on its device until log time.
#[derive(Debug)]
pub struct Monitor {
    /// As logged, for instance `codebook/restarts`.
    pub name: String,
    /// Scalar.
    pub value: Tensor,
}

/// Sizes of a quantizer's codebooks, all of one shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodebookShape {
    /// Number of codebooks; the indices have an extra axis when it is over 1.
    pub codebooks: i64,
    /// K, codes in each codebook.
    pub size: i64,
    /// D, numbers in one code.
    pub dim: i64,
}

impl CodebookShape {
    /// log2 K per codebook, summed over the codebooks of one position.
    #[must_use]
    pub fn bits_per_token(&self) -> f64 {
        self.codebooks as f64 * (self.size as f64).log2()
    }
}

/// How [`Quantizer::start`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// Done.
    Whole,
    /// Told to stop; its partial changes are of no use.
    Stopped,
}

/// What [`Quantizer::update`] changed.
#[derive(Debug, Default)]
pub struct UpdateReport {
    /// Rows of a trainable tensor that were overwritten: the loop clears their optimizer moments and copies them
    /// into the weight average.
    pub replaced_rows: Vec<ReplacedRows>,
    /// For the logs only.
    pub monitors: Vec<Monitor>,
}

/// Rows of one variable that no longer continue their history.
#[derive(Debug)]
pub struct ReplacedRows {
    /// Full name of the variable, as in the checkpoint.
    pub variable: String,
    /// `[rows]` bool, on the variable's device.
    pub mask: Tensor,
}

/// An error of a quantizer's configuration or start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QuantizerError(pub String);

impl Classified for QuantizerError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

/// The seam that every quantizer implements.
///
/// `Send` but not `Sync`: one thread owns a model.
pub trait Quantizer: Debug + Send {
    /// Whether [`Quantizer::start`] wants latents before step 0, and how many vectors.
    fn start_vectors(&self) -> Option<i64> {
        None
    }

    /// Once, before step 0: k-means and the like, on the latents of enough batches from a pass
    /// without gradient. Asks `going_on` between iterations and ends early if that says no; some of
    /// its variables may then have changed.
    ///
    /// # Shapes
    /// `z`: `[B, N, C]`.
    ///
    /// # Errors
    /// When the latents cannot start a codebook (not finite).
    fn start(
        &mut self,
        _z: &Tensor,
        _seed: Seed,
        _going_on: &mut dyn FnMut() -> bool,
    ) -> Result<StartOutcome, QuantizerError> {
        Ok(StartOutcome::Whole)
    }

    /// Rounds a latent to codes. Pure: never changes `self`.
    ///
    /// # Shapes
    /// `z`: `[B, N, C]` -> latent `[B, N, C]`, indices `[B, N]` or `[B, N, codebooks]`.
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized;

    /// Inverse of the indices; where `quantize` gets its forward value, so the two are equal bit for bit for the
    /// same shape, device and thread count.
    ///
    /// # Shapes
    /// `indices`: `[B, N]` or `[B, N, codebooks]` int64 -> `[B, N, C]`.
    fn lookup(&self, indices: &Tensor) -> Tensor;

    /// Codes of one codebook, counted from 0, before a projection out of the quantizer and before those of several
    /// codebooks come together: what [`Quantizer::lookup`] looks up. With the codebook's gradient.
    ///
    /// # Shapes
    /// `indices`: `[B, N]` int64 -> `[B, N, D]` float32.
    fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor;

    /// Codebook sizes.
    fn codebook(&self) -> CodebookShape;

    /// Once per optimizer step, with the statistics of all micro-batches merged: averages, restarts.
    fn update(&mut self, _statistics: &[Statistic], _seed: Seed) -> UpdateReport {
        UpdateReport::default()
    }

    /// How the indices of one codebook are made of digits, where they are.
    fn digits(&self) -> Option<&MixedRadix> {
        None
    }

    /// The remedy in the warning about a collapsed codebook, for a training with `vectors` latent
    /// positions a step.
    fn collapse_remedy(&self, vectors: i64) -> String;
}

/// Which quantizer, with its settings; `kind` names it in the config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum QuantizerConfig {
    /// Finite scalar quantization.
    Fsq(fsq::Config),
    /// Vector quantization.
    Vq(vq::Config),
    /// Vector quantization through one learned linear map of a frozen codebook.
    Simvq(simvq::Config),
    /// Lookup-free quantization: signs.
    Lfq(lfq::Config),
    /// Binary spherical quantization: signs on the unit sphere.
    Bsq(bsq::Config),
    /// Index backpropagation quantization.
    Ibq(ibq::Config),
    /// Several stages, each of what the stages before left over.
    Residual(residual::Config),
    /// The channels in groups, each quantized by itself.
    Grouped(grouped::Config),
}

impl QuantizerConfig {
    /// The settings with what stands for absent keys written out, so that a saved config says all that was used.
    #[must_use]
    pub fn resolved(self) -> Self {
        self.resolved_as(false)
    }

    fn resolved_as(self, stage: bool) -> Self {
        match self {
            Self::Fsq(config) => Self::Fsq(config.resolved(stage)),
            Self::Vq(config) => Self::Vq(config.resolved()),
            Self::Residual(config) => {
                Self::Residual(residual::Config { each: Box::new(config.each.resolved_as(true)), ..config })
            }
            Self::Grouped(config) => {
                Self::Grouped(grouped::Config { each: Box::new(config.each.resolved_as(false)), ..config })
            }
            other => other,
        }
    }

    /// Its name in configs.
    #[must_use]
    pub fn kind(&self) -> String {
        let tagged = serde_json::to_value(self).unwrap_or_default();
        tagged["kind"].as_str().unwrap_or_default().to_owned()
    }

    /// The settings of whichever quantizer it is.
    #[must_use]
    pub fn settings(&self) -> &dyn Settings {
        match self {
            Self::Fsq(config) => config,
            Self::Vq(config) => config,
            Self::Simvq(config) => config,
            Self::Lfq(config) => config,
            Self::Bsq(config) => config,
            Self::Ibq(config) => config,
            Self::Residual(config) => config,
            Self::Grouped(config) => config,
        }
    }
}
