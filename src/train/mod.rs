//! Training. A task says what is minimised; [`Trainer`] is the only loop.

mod agreement;
mod error;
mod exactness;
mod finite;
mod group;
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

pub use error::{About, StateError, TaskError, TrainError};
pub use exactness::Exactness;
pub use machine::{DeviceKind, Machine};
pub use persist::{Progress, Weights};
pub use signals::Signals;
pub use task::{
    At, Batches, Begun, Bookmark, Fetched, GroupId, ParameterGroup, Passes, Ranked, StepOutput, Surroundings,
    Task, Validated,
};
pub use trainer::{Outcome, Parts, Trainer};

use pixtok_torch::PrecisionChoice;

/// Settings of the training loop: of the config's `[train]` the keys that every task has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of optimizer steps of the whole run.
    pub steps: u64,
    /// Number of images in one optimizer step, in all processes together.
    pub batch_size: usize,
    /// The number of parts in which a batch is processed, one after another, to save memory; it
    /// must divide `batch_size`. The step stays the same apart from rounding and terms that are not
    /// linear in the batch; `--dry-run` lists those terms.
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
    /// The run or model folder whose weights `--init-from` took, as an absolute path. The program
    /// records it; a value in the config of a new run is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// Decay of the moving average of the weights, which is evaluated and saved beside the raw
    /// weights. 0 turns it off.
    pub ema_decay: f64,
    /// Divide the optimizers' moments and the weight average over the processes (stage 1 of ZeRO,
    /// Rajbhandari et al. 2020). It saves memory in each process and costs an exchange of the
    /// weights in each step. AdamW's numbers stay the same bit for bit; Muon's matrix products may
    /// round differently. Checkpoints have the same format, and a resumed run may change it. It has
    /// no effect in a single process.
    pub shard_optimizer: bool,
    /// Use deterministic kernels on CUDA, which are slower. The CPU is always deterministic.
    pub deterministic: bool,
    /// The format in which several processes exchange gradients: `fp32`, or `bf16`, which halves the
    /// bytes and rounds.
    #[serde(skip_serializing_if = "GradientFormat::is_default")]
    pub gradients: GradientFormat,
    /// With several processes, the training ends if one of them is silent, or keeps an exchange
    /// waiting, for so many seconds.
    pub timeout_secs: u64,
    /// Steps between log rows.
    pub log_every: u64,
    /// Steps between evaluations; the last step is always evaluated.
    pub eval_every: u64,
    /// Steps between checkpoints; the last step is always saved.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept, besides the best.
    pub keep_checkpoints: usize,
}

/// The same as PyTorch's for NCCL.
const DEFAULT_TIMEOUT: u64 = 600;

/// The number format in which processes exchange gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum GradientFormat {
    /// As they are.
    #[default]
    Fp32,
    /// Rounded.
    Bf16,
}

impl GradientFormat {
    /// Whether it is the default, which configs leave out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
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
            init_from: None,
            ema_decay: 0.0,
            shard_optimizer: false,
            deterministic: false,
            gradients: GradientFormat::Fp32,
            timeout_secs: DEFAULT_TIMEOUT,
            log_every: 10,
            eval_every: 200,
            checkpoint_every: 200,
            keep_checkpoints: 3,
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
            ("timeout_secs", self.timeout_secs),
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
        Ok(())
    }
}
