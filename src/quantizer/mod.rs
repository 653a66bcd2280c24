//! Quantizes latents to indices and looks up indices. Each quantizer has a file or folder. Adding
//! one touches that file and three adjacent places of this one: the `mod` line, the
//! [`QuantizerConfig`] variant, and the match arm of its `settings`.
//!
//! The code outside does not depend on the quantizer: a quantizer names its own loss terms,
//! registers its own variables under the path that it is given, and computes in full float32
//! whatever the autocast type.

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
mod straight_through;
mod tail_drop;
mod vectors;
pub mod vq;
mod words;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use strum::VariantNames;
use tch::Tensor;

use digits::MixedRadix;
pub use estimator::GradientEstimator;
pub use memory::MemoryBudget;
pub use settings::Settings;
use settings::{bits_of, require, require_temperature, require_weight};
pub use straight_through::straight_through;
pub use tail_drop::TailDrop;
pub use words::{Words, setting};

use crate::statistics::{Monitor, Statistic, UpdateReport};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_base::{Class, Classified};
use pixtok_torch::Noise;

/// The largest number of codes that an index can distinguish.
pub const MAX_CODES: i64 = 1 << 31;

/// Whether statistics are gathered and noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Deterministic, without losses or statistics.
    Eval,
    /// With losses, and statistics for [`Quantizer::update`].
    Train {
        /// The noise of the images, from which every random number is drawn. So none depends on how
        /// a batch is divided.
        noise: Noise,
        /// The processes that train together. What is not a mean over the images is computed over
        /// those of all processes.
        world: &'a World,
    },
}

impl Mode<'static> {
    /// Training on a whole batch in one process, with every random number from `seed`.
    #[must_use]
    pub const fn train(seed: Seed) -> Self {
        Self::Train { noise: Noise::new(seed), world: World::alone() }
    }
}

/// The result of [`Quantizer::quantize`].
#[derive(Debug)]
pub struct Quantized {
    /// `[B, N, C]`, equal to `lookup(indices)` bit for bit (except for FSQ's noise in training).
    /// Its gradient is an estimate.
    pub latent: Tensor,
    /// `[B, N]` int64 in `0..K`; `[B, N, codebooks]` for several codebooks.
    pub indices: Tensor,
    /// Auxiliary losses, to be added to the objective's own; empty in [`Mode::Eval`].
    pub losses: Vec<LossTerm>,
    /// Detached statistics for [`Quantizer::update`]; empty in [`Mode::Eval`].
    pub statistics: Vec<Statistic>,
    /// Monitors, only for the logs.
    pub monitors: Vec<Monitor>,
    /// For [`Quantizer::tail_dropped`], with gradients: the codes of each stage, which it adds up;
    /// empty without tail drop.
    pub stages: Vec<Tensor>,
}

/// One named term of a loss; it contributes `weight * value`.
#[derive(Debug)]
pub struct LossTerm {
    /// The name in the logs, under `loss/`.
    pub name: &'static str,
    /// The unweighted scalar, with its gradient.
    pub value: Tensor,
    /// The factor in the total.
    pub weight: f64,
}

/// The sizes of a quantizer's codebooks, which are all equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodebookShape {
    /// The number of codebooks. The indices have an additional axis if it is over 1.
    pub codebooks: i64,
    /// K, the number of codes in each codebook.
    pub size: i64,
    /// D, the dimension of a code.
    pub dim: i64,
}

impl CodebookShape {
    /// log2 K, summed over the codebooks of one position.
    #[must_use]
    pub fn bits_per_token(&self) -> f64 {
        self.codebooks as f64 * (self.size as f64).log2()
    }
}

/// How [`Quantizer::start`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// The start is complete.
    Whole,
    /// It was told to stop; its partial changes are useless.
    Stopped,
}

/// An error of a quantizer's settings or start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QuantizerError(pub Words);

impl QuantizerError {
    /// The same error of a quantizer inside another one.
    fn inside(self) -> Self {
        Self(self.0.inside())
    }
}

impl Classified for QuantizerError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

/// The interface of every quantizer.
///
/// It is `Send` but not `Sync`: one thread owns a model.
pub trait Quantizer: Debug + Send {
    /// The number of vectors that [`Quantizer::start`] wants before step 0; `None` if it needs
    /// none.
    fn start_vectors(&self) -> Option<i64> {
        None
    }

    /// Called once, before step 0: initialises codes, for instance by k-means, from the latents of
    /// enough batches, computed without gradients. Asks `going_on` between iterations and ends
    /// early if it says no; some of its variables may then have changed.
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

    /// Looks up the latent of indices. `quantize` takes its forward value from here, so both are
    /// equal bit for bit for the same shape, device and thread count.
    ///
    /// # Shapes
    /// `indices`: `[B, N]` or `[B, N, codebooks]` int64 -> `[B, N, C]`; `[B, N, n]` with the first n
    /// codebooks where [`Quantizer::has_stages`].
    fn lookup(&self, indices: &Tensor) -> Tensor;

    /// Whether each codebook refines those before it, so that the codes of the first ones are a
    /// coarser latent.
    fn has_stages(&self) -> bool {
        false
    }

    /// What a decoder is trained on instead of [`Quantized::latent`], if there is tail drop: of
    /// each image the latent of its first stages, or of all, drawn from `noise`.
    ///
    /// # Shapes
    /// `[B, N, C]`, with the gradient of the stages that an image keeps.
    fn tail_dropped(&self, _quantized: &Quantized, _noise: Noise) -> Option<Tensor> {
        None
    }

    /// Codes of one codebook, counted from 0, as [`Quantizer::lookup`] uses them: before the
    /// projection out of the quantizer, and before the codes of several codebooks are combined.
    /// With the codebook's gradient.
    ///
    /// # Shapes
    /// `indices`: `[B, N]` int64 -> `[B, N, D]` float32.
    fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor;

    /// The sizes of the codebooks.
    fn codebook(&self) -> CodebookShape;

    /// Called once per optimizer step with the merged statistics of all micro-batches and
    /// processes: updates averages, restarts codes. Every process does the same.
    fn update(&mut self, _statistics: &[Statistic], _seed: Seed) -> UpdateReport {
        UpdateReport::default()
    }

    /// The digits of one codebook's indices, if they consist of digits.
    fn digits(&self) -> Option<&MixedRadix> {
        None
    }

    /// Advice for the warning about a collapsed codebook, for a training with `vectors` latent
    /// positions in a step.
    fn collapse_remedy(&self, vectors: i64) -> Words;
}

/// The settings of a quantizer; `kind` names it in the config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, VariantNames)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
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
    /// Several stages; each quantizes what the previous stages left over.
    Residual(residual::Config),
    /// Groups of channels, each quantized separately.
    Grouped(grouped::Config),
}

impl QuantizerConfig {
    /// The settings with defaults of absent keys written out, so that a saved config states
    /// everything that was used.
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

    /// The name in configs.
    #[must_use]
    pub fn kind(&self) -> String {
        let tagged = serde_json::to_value(self).unwrap_or_default();
        tagged["kind"].as_str().unwrap_or_default().to_owned()
    }

    /// The settings of the quantizer, whatever its kind.
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
