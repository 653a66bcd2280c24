//! Training. A task says what is minimised; [`Trainer`] is the only loop.

mod error;
mod finite;
mod machine;
mod persist;
mod rescue;
mod signals;
mod task;
#[cfg(test)]
mod tests;
mod trainer;
mod window;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

pub use error::{About, StateError, TaskError, TrainError};
pub use machine::{DeviceKind, Machine};
pub use persist::{Progress, Weights};
pub use signals::Signals;
pub use task::{
    At, Batches, Begun, Bookmark, Fetched, GroupId, ParameterGroup, Passes, Ranked, StepOutput, Surroundings,
    Task, Validated,
};
pub use trainer::{Outcome, Parts, Trainer};

use crate::variables::Component;
use pixtok_report::{Better, definition};
use pixtok_torch::PrecisionChoice;

/// Settings of the training loop: the config's `[train]`. Every task shares them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of optimizer steps of the whole run.
    pub steps: u64,
    /// Number of images in one optimizer step.
    pub batch_size: usize,
    /// The number of parts in which a batch is processed, one after another, to save memory; it
    /// must divide `batch_size`. The step stays the same apart from rounding, random draws and
    /// terms that are not linear in the batch; `--dry-run` lists those terms.
    pub micro_batches: usize,
    /// Precision of encoder and decoder. The quantizer, the loss and the weights are always
    /// float32. `auto` means bf16 on devices that are faster in it (CUDA devices of compute
    /// capability 8.0 or later, CPUs with amx_bf16, AMD CPUs with avx512_bf16) and fp32 on all
    /// others. The run's `config.toml` records the choice.
    pub precision: PrecisionChoice,
    /// On CUDA, round the factors of float32 matrix products and convolutions to TF32, which is
    /// faster at `precision = "fp32"`. The quantizer's forward pass and evaluations keep full
    /// float32.
    pub tf32: bool,
    /// Components of the tokenizer that are not trained, with `--init-from`. The tokens stay the
    /// same with `["encoder", "quantizer"]`: only the decoder is trained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Component>,
    /// If encoder and quantizer are frozen: the hash of the weights that define the tokens. The
    /// program records it; a value in the config of a new run is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeps_tokens_of: Option<String>,
    /// The run or model folder whose weights `--init-from` took, as an absolute path. The program
    /// records this too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// Decay of the moving average of the weights, which is evaluated and saved beside the raw
    /// weights. 0 turns it off.
    pub ema_decay: f64,
    /// Use deterministic kernels on CUDA, which are slower. The CPU is always deterministic.
    pub deterministic: bool,
    /// Steps between log rows.
    pub log_every: u64,
    /// Steps between evaluations; the last step is always evaluated.
    pub eval_every: u64,
    /// Steps between checkpoints; the last step is always saved.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept, besides the best.
    pub keep_checkpoints: usize,
    /// The figure of the evaluation that decides which checkpoint is best. It is measured with the
    /// raw weights, even if averages are kept.
    pub best_metric: BestMetric,
    /// When to warn of a collapsing codebook.
    pub collapse: Collapse,
}

/// A figure by which checkpoints are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BestMetric {
    /// Peak signal-to-noise ratio in dB; higher is better.
    #[default]
    PsnrDb,
    /// Structural similarity; higher is better.
    Ssim,
    /// Mean absolute error; lower is better.
    L1,
}

impl BestMetric {
    /// The name in the logged figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a higher value is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        definition(self.name()).is_none_or(|known| known.better == Better::Higher)
    }
}

/// When to warn of a collapsing codebook: when usage or perplexity stays below a limit for several
/// evaluations, or log rows of training, in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collapse {
    /// Limit on usage, as a share of the usage that as many evenly drawn tokens would show.
    pub usage_below: f64,
    /// Limit on perplexity, as a share of the codebook size (or of the number of tokens, if that is
    /// less).
    pub perplexity_below: f64,
    /// Number of evaluations in a row; 0 turns this warning off.
    pub evaluations: u64,
    /// Number of log rows in a row, each over the training tokens since the previous row; 0 turns
    /// this warning off.
    pub log_rows: u64,
}

impl Default for Collapse {
    fn default() -> Self {
        Self { usage_below: 0.25, perplexity_below: 0.05, evaluations: 3, log_rows: 30 }
    }
}

impl Collapse {
    fn check(&self) -> Result<(), TrainError> {
        for (key, share) in [("usage_below", self.usage_below), ("perplexity_below", self.perplexity_below)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(TrainError::Config(format!(
                    "train.collapse.{key} is {share}; it must be from 0 to 1"
                )));
            }
        }
        Ok(())
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
    /// Checks the settings.
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

    /// Whether encoder and quantizer are both frozen, so that the tokens stay the same.
    #[must_use]
    pub fn keeps_tokens(&self) -> bool {
        [Component::Encoder, Component::Quantizer].iter().all(|part| self.freeze.contains(part))
    }
}
