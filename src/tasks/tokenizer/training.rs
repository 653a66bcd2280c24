//! The config's `[train]`, as the training of a tokenizer has it: the loop's settings, and those of
//! the tokenizer's own.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Collapse;
use crate::train::{self, GradientFormat, TrainError};
use crate::variables::Component;
use pixtok_report::{Better, definition};
use pixtok_torch::PrecisionChoice;

/// The config's `[train]`. The loop's settings are reached as if they were its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct TrainConfig {
    /// Settings of the loop, which every task has.
    pub of_loop: train::Config,
    /// Components that are not trained, with `--init-from`. The tokens stay the same with
    /// `["encoder", "quantizer"]`: only the decoder is trained.
    pub freeze: Vec<Component>,
    /// If encoder and quantizer are frozen: the hash of the weights that define the tokens. The
    /// program records it; a value in the config of a new run is replaced.
    pub keeps_tokens_of: Option<String>,
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

impl TrainConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self) -> Result<(), TrainError> {
        self.of_loop.check()?;
        if Component::TOKENIZER.iter().all(|part| self.freeze.contains(part)) {
            return Err(TrainError::Config(
                "train.freeze names every part, so nothing is left to train; take one out".to_owned(),
            ));
        }
        self.collapse.check()
    }

    /// Whether encoder and quantizer are both frozen, so that the tokens stay the same.
    #[must_use]
    pub fn keeps_tokens(&self) -> bool {
        [Component::Encoder, Component::Quantizer].iter().all(|part| self.freeze.contains(part))
    }
}

impl Deref for TrainConfig {
    type Target = train::Config;

    fn deref(&self) -> &train::Config {
        &self.of_loop
    }
}

impl DerefMut for TrainConfig {
    fn deref_mut(&mut self) -> &mut train::Config {
        &mut self.of_loop
    }
}

/// The table as a config has it: one list of keys, in the order in which they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    steps: u64,
    batch_size: usize,
    micro_batches: usize,
    precision: PrecisionChoice,
    tf32: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    freeze: Vec<Component>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeps_tokens_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_from: Option<String>,
    ema_decay: f64,
    shard_optimizer: bool,
    #[serde(skip_serializing_if = "GradientFormat::is_default")]
    gradients: GradientFormat,
    timeout_secs: u64,
    deterministic: bool,
    log_every: u64,
    eval_every: u64,
    checkpoint_every: u64,
    keep_checkpoints: usize,
    best_metric: BestMetric,
    collapse: Collapse,
}

impl Default for Written {
    fn default() -> Self {
        TrainConfig::default().into()
    }
}

impl From<TrainConfig> for Written {
    fn from(config: TrainConfig) -> Self {
        let TrainConfig { of_loop, freeze, keeps_tokens_of, best_metric, collapse } = config;
        Self {
            steps: of_loop.steps,
            batch_size: of_loop.batch_size,
            micro_batches: of_loop.micro_batches,
            precision: of_loop.precision,
            tf32: of_loop.tf32,
            freeze,
            keeps_tokens_of,
            init_from: of_loop.init_from,
            ema_decay: of_loop.ema_decay,
            shard_optimizer: of_loop.shard_optimizer,
            gradients: of_loop.gradients,
            timeout_secs: of_loop.timeout_secs,
            deterministic: of_loop.deterministic,
            log_every: of_loop.log_every,
            eval_every: of_loop.eval_every,
            checkpoint_every: of_loop.checkpoint_every,
            keep_checkpoints: of_loop.keep_checkpoints,
            best_metric,
            collapse,
        }
    }
}

impl From<Written> for TrainConfig {
    fn from(written: Written) -> Self {
        Self {
            of_loop: train::Config {
                steps: written.steps,
                batch_size: written.batch_size,
                micro_batches: written.micro_batches,
                precision: written.precision,
                tf32: written.tf32,
                init_from: written.init_from,
                ema_decay: written.ema_decay,
                shard_optimizer: written.shard_optimizer,
                gradients: written.gradients,
                timeout_secs: written.timeout_secs,
                deterministic: written.deterministic,
                log_every: written.log_every,
                eval_every: written.eval_every,
                checkpoint_every: written.checkpoint_every,
                keep_checkpoints: written.keep_checkpoints,
            },
            freeze: written.freeze,
            keeps_tokens_of: written.keeps_tokens_of,
            best_metric: written.best_metric,
            collapse: written.collapse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_written_in_its_place() {
        let text = "steps = 7\nbatch_size = 6\nmicro_batches = 3\nprecision = \"bf16\"\ntf32 = true\n\
                    freeze = [\"encoder\", \"quantizer\"]\nkeeps_tokens_of = \"a\"\ninit_from = \"b\"\nema_decay = 0.5\n\
                    shard_optimizer = true\ngradients = \"bf16\"\ntimeout_secs = 30\ndeterministic = true\nlog_every = 2\neval_every = 4\ncheckpoint_every = 5\nkeep_checkpoints = 9\n\
                    best_metric = \"ssim\"\n\n[collapse]\nusage_below = 0.1\nperplexity_below = 0.2\nevaluations = 8\nlog_rows = 11\n";
        let read: TrainConfig = toml::from_str(text).unwrap();
        assert!(
            read.keeps_tokens()
                && read.steps == 7
                && read.shard_optimizer
                && read.init_from.as_deref() == Some("b")
        );
        assert_eq!(toml::to_string(&read).unwrap(), text);
        assert_eq!(toml::from_str::<TrainConfig>("").unwrap(), TrainConfig::default());
        // A task without keys of its own has the others alone.
        let error = toml::from_str::<train::Config>("freeze = [\"encoder\"]").unwrap_err().to_string();
        assert!(error.contains("unknown field `freeze`"), "{error}");
    }

    #[test]
    fn errors_are_better_lower_and_the_other_metrics_higher() {
        let higher = [BestMetric::PsnrDb, BestMetric::Ssim, BestMetric::L1].map(BestMetric::higher_is_better);
        assert_eq!(higher, [true, true, false]);
    }
}
