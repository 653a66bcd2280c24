//! Training: the objective says what is minimised, the trainer is the only loop.

mod bad_log;
mod collapse;
mod error;
mod finite;
mod objective;
mod parts;
mod persist;
mod save;
mod signals;
mod start;
mod state;
mod trainer;
mod validate;
mod window;

use serde::{Deserialize, Serialize};

pub use collapse::Collapse;
pub use error::TrainError;
pub use objective::{Objective, OptimizerId, PixelReconstruction, StepOutput};
pub use parts::{Outcome, Parts};
pub use persist::{Weights, load_model};
pub use signals::Signals;
pub use state::{State, StateError};
pub use trainer::Trainer;

use crate::torch::Precision;

/// Settings of the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Images of one optimizer step.
    pub batch_size: usize,
    /// Parts that a batch is worked off in, one after the other, to save memory; divides `batch_size`.
    pub micro_batches: usize,
    /// Of encoder and decoder; the quantizer, the loss and the weights are float32 always.
    pub precision: Precision,
    /// Round what a step multiplies in float32 to TF32, on CUDA: faster at `precision = "fp32"`. The quantizer's forward pass and
    /// evaluations alone stay full float32 then.
    pub tf32: bool,
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
    /// By which figure of the evaluation a checkpoint is best.
    pub best_metric: BestMetric,
    /// When to warn of a collapsing codebook.
    pub collapse: Collapse,
}

/// A figure to choose a checkpoint by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
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
        match self {
            Self::PsnrDb => "psnr_db",
            Self::Ssim => "ssim",
            Self::L1 => "l1",
        }
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
            precision: Precision::default(),
            tf32: false,
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
        self.collapse.check()
    }
}
