//! Settings of VQ.

use serde::{Deserialize, Serialize};

use tch::nn;

use super::Vq;
use crate::quantizer::{MAX_CODES, Quantizer, QuantizerError, Settings};

/// How the codebook learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CodebookUpdate {
    /// Each code is the moving average of the vectors that chose it; the codebook is no parameter.
    Ema {
        /// Share of the old value kept at each step.
        #[serde(default = "default_decay")]
        decay: f64,
    },
    /// The optimizer moves the codes, by the loss `codebook`.
    Gradient {
        /// Of the moving average of each code's use, which restart looks at.
        #[serde(default = "default_decay")]
        usage_decay: f64,
    },
}

fn default_decay() -> f64 {
    0.99
}

impl Default for CodebookUpdate {
    fn default() -> Self {
        Self::Ema { decay: default_decay() }
    }
}

impl CodebookUpdate {
    pub(super) fn decay(&self) -> f64 {
        match *self {
            Self::Ema { decay } | Self::Gradient { usage_decay: decay } => decay,
        }
    }
}

/// Where the codes are before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The k-means of the first batches' latents.
    #[default]
    Kmeans,
    /// Uniform within ±1/K.
    Uniform,
}

/// Settings of VQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// K.
    #[serde(default = "default_size")]
    pub codebook_size: i64,
    /// D.
    #[serde(default = "default_dim")]
    pub codebook_dim: i64,
    /// Weight of ‖z − sg[e]‖², which moves the encoder towards its code.
    #[serde(default = "default_commitment")]
    pub commitment_weight: f64,
    /// How the codebook learns.
    #[serde(default)]
    pub codebook_update: CodebookUpdate,
    /// Where the codes start.
    #[serde(default)]
    pub start: Start,
    /// A code used fewer times a step than this, on moving average, is restarted at a random vector; 0 is never.
    #[serde(default)]
    pub restart_threshold: f64,
}

fn default_size() -> i64 {
    1024
}

fn default_dim() -> i64 {
    8
}

fn default_commitment() -> f64 {
    0.25
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        let require = |holds: bool, key: &str, value: String, allowed: &str| {
            if holds { Ok(()) } else { Err(QuantizerError(format!("quantizer.{key} is {value}; {allowed}"))) }
        };
        let (size, dim) = (self.codebook_size, self.codebook_dim);
        require(
            (2..=MAX_CODES).contains(&size),
            "codebook_size",
            size.to_string(),
            "it must be from 2 to 2^31",
        )?;
        require((1..=65536).contains(&dim), "codebook_dim", dim.to_string(), "it must be from 1 to 65536")?;
        let weight = self.commitment_weight;
        require(
            weight >= 0.0 && weight.is_finite(),
            "commitment_weight",
            weight.to_string(),
            "it must be 0 or more",
        )?;
        let decay = self.codebook_update.decay();
        let key = match self.codebook_update {
            CodebookUpdate::Ema { .. } => "codebook_update.decay",
            CodebookUpdate::Gradient { .. } => "codebook_update.usage_decay",
        };
        require((0.0..1.0).contains(&decay), key, decay.to_string(), "it must be from 0 to under 1")?;
        let threshold = self.restart_threshold;
        require(
            threshold >= 0.0 && threshold.is_finite(),
            "restart_threshold",
            threshold.to_string(),
            "it must be 0 (never restart) or more",
        )
    }

    fn natural_width(&self) -> i64 {
        self.codebook_dim
    }

    fn build(&self, path: &nn::Path, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Vq::new(path, self, channels)?))
    }
}
