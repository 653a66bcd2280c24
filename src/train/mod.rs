//! Training: the objective says what is minimised, the trainer is the only loop.

mod adversarial;
mod bad_log;
mod best;
mod collapse;
mod duel;
mod error;
mod files;
mod finite;
mod group;
mod machine;
mod objective;
mod parts;
mod persist;
mod reconstruction;
mod rescue;
mod save;
mod signals;
mod start;
mod state;
mod trainer;
mod validate;
mod window;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

pub use adversarial::AdversarialReconstruction;
pub use best::{IMAGES_CHANGED, OtherImages, Validation};
pub use collapse::Collapse;
pub use error::TrainError;
pub use files::changed_files;
pub use machine::{DeviceKind, Machine};
pub use objective::{At, GroupId, Objective, ParameterGroup, StepOutput};
pub use parts::{Outcome, Parts};
pub use persist::Weights;
pub use reconstruction::Reconstruction;
pub use signals::Signals;
pub use state::{Circumstances, LossWeights, State, StateError};
pub use trainer::Trainer;

use crate::variables::Component;
use pixtok_torch::PrecisionChoice;

/// Settings of the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Images of one optimizer step.
    pub batch_size: usize,
    /// The number of parts in which a batch is processed, one after another, to save memory; it
    /// must divide `batch_size`. The step stays the same apart from rounding, random draws and
    /// terms that are not linear in the batch; `--dry-run` lists those terms.
    pub micro_batches: usize,
    /// Of encoder and decoder; the quantizer, the loss and the weights are float32 always. `auto` means bf16 on devices
    /// that are faster in it (CUDA devices of compute capability 8.0 or later, CPUs with amx_bf16, AMD's with avx512_bf16) and
    /// fp32 on all others. The run's `config.toml` records the choice.
    pub precision: PrecisionChoice,
    /// Round what a step multiplies in float32 to TF32, on CUDA: faster at `precision = "fp32"`. The quantizer's forward pass and
    /// evaluations alone stay full float32 then.
    pub tf32: bool,
    /// Parts of the tokenizer that stay as they are, with `--init-from`. With `["encoder", "quantizer"]` its tokens do too, and the
    /// decoder alone is tuned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Component>,
    /// Hash of the weights whose tokens these are, where both stay as they are: a fact that the run notes, not a choice. What a config
    /// says of it when a run begins is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeps_tokens_of: Option<String>,
    /// The run or model folder whose weights `--init-from` took, as an absolute path. This too is
    /// recorded by the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// Decay of the weight average that is evaluated and saved beside the raw weights; 0 is none.
    pub ema_decay: f64,
    /// Deterministic kernels on CUDA, slower; the CPU is deterministic anyway.
    pub deterministic: bool,
    /// Steps between log rows.
    pub log_every: u64,
    /// Steps between evaluations; the last step is always evaluated.
    pub eval_every: u64,
    /// Steps between checkpoints; the last step is always saved.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept, besides the best.
    pub keep_checkpoints: usize,
    /// The evaluation's figure that decides which checkpoint is best: that of the raw weights, even
    /// if averages are kept.
    pub best_metric: BestMetric,
    /// When to warn of a collapsing codebook.
    pub collapse: Collapse,
}

/// A figure to choose a checkpoint by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BestMetric {
    /// Highest.
    #[default]
    PsnrDb,
    /// Highest.
    Ssim,
    /// Lowest.
    L1,
}

impl BestMetric {
    /// As in the figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        self != Self::L1
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            steps: 600,
            batch_size: 32,
            micro_batches: 1,
            precision: PrecisionChoice::default(),
            tf32: false,
            freeze: vec![],
            keeps_tokens_of: None,
            init_from: None,
            ema_decay: 0.0,
            deterministic: false,
            log_every: 10,
            eval_every: 200,
            checkpoint_every: 200,
            keep_checkpoints: 3,
            best_metric: BestMetric::default(),
            collapse: Collapse::default(),
        }
    }
}

impl Config {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self) -> Result<(), TrainError> {
        let fail = |message: String| Err(TrainError::Config(message));
        let counts = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("micro_batches", self.micro_batches as u64),
            ("log_every", self.log_every),
            ("eval_every", self.eval_every),
            ("checkpoint_every", self.checkpoint_every),
            ("keep_checkpoints", self.keep_checkpoints as u64),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return fail(format!("train.{key} is 0; it must be 1 or more"));
        }
        if !self.batch_size.is_multiple_of(self.micro_batches) {
            return fail(format!(
                "train.micro_batches is {}, which does not divide train.batch_size {}",
                self.micro_batches, self.batch_size
            ));
        }
        if !(0.0..1.0).contains(&self.ema_decay) {
            return fail(format!(
                "train.ema_decay is {}; it must be from 0 (none) to under 1",
                self.ema_decay
            ));
        }
        if Component::TOKENIZER.iter().all(|part| self.freeze.contains(part)) {
            return fail(
                "train.freeze names every part, so nothing is left to train; take one out".to_owned(),
            );
        }
        self.collapse.check()
    }

    /// Whether what makes tokens stays as it is.
    #[must_use]
    pub fn keeps_tokens(&self) -> bool {
        [Component::Encoder, Component::Quantizer].iter().all(|part| self.freeze.contains(part))
    }
}
