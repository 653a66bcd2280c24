//! Settings of VQ.

use serde::{Deserialize, Serialize};

use super::Vq;
use crate::quantizer::codebook::{check_entropy, check_sizes};
use crate::quantizer::estimator::GradientEstimator;
use crate::quantizer::memory::MemoryBudget;
use crate::quantizer::settings::entropy_term;
use crate::quantizer::{
    Quantizer, QuantizerConfig, QuantizerError, Settings, Words, require, require_temperature,
    require_weight, setting,
};
use crate::variables::Scope;

/// How the codebook learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CodebookUpdate {
    /// Each code is the moving average of the vectors that chose it; the codebook is not a
    /// parameter.
    Ema {
        /// The share of the old value that each step keeps.
        #[serde(default = "default_decay")]
        decay: f64,
    },
    /// The optimizer moves the codes, by the loss `codebook`.
    Gradient {
        /// The decay of the moving average of each code's use, which decides about restarts.
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

/// The codes before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// K-means of the first batches' latents.
    #[default]
    Kmeans,
    /// Uniform within ±1/K.
    Uniform,
}

/// The distance by which the nearest code is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// ‖z − e‖.
    #[default]
    Euclidean,
    /// The angle: latents and codes are normalised to length 1 first (ViT-VQGAN, arXiv 2110.04627;
    /// LlamaGen).
    Cosine,
}

/// The default weight of ‖z − sg[e]‖².
const COMMITMENT_WEIGHT: f64 = 0.25;

/// A share of even use, which is the vectors of a step divided by the codes; a code that gets less
/// can be restarted without harm.
const FAIR_SHARE: f64 = 0.2;
/// The share that is advised for a codebook that collapses.
const ADVISED_SHARE: f64 = 0.125;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_off(share: &f64) -> bool {
    *share == 0.0
}

/// Settings of VQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// K, the number of codes.
    pub codebook_size: i64,
    /// D, the dimension of a code.
    pub codebook_dim: i64,
    /// The distance by which the nearest code is found.
    pub distance: Distance,
    /// The gradient that the encoder (and, with `diveq`, the codebook) gets.
    pub gradient_estimator: GradientEstimator,
    /// Weight of ‖z − sg[e]‖², which moves the encoder towards its code; absent: 0.25, or no such
    /// loss with `diveq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commitment_weight: Option<f64>,
    /// How the codebook learns.
    pub codebook_update: CodebookUpdate,
    /// The codes before the first step.
    pub start: Start,
    /// A code whose moving average of uses per step is below this share of even use is restarted at
    /// a random vector; 0 turns restarts off. Even use is the number of vectors of a step divided
    /// by the number of codes, so the share holds for every codebook size and batch.
    #[serde(skip_serializing_if = "is_off")]
    pub restart_below: f64,
    /// The same as `restart_below`, but as a number of uses per step instead of a share. The
    /// threshold times the number of codes must stay well below the vectors of a step, or nearly
    /// every code is restarted in every step.
    pub restart_threshold: f64,
    /// Weight of the entropy loss (MaskGIT, arXiv 2202.04200, uses 0.1); 0 turns it off.
    pub entropy_weight: f64,
    /// τ in p ∝ exp(−‖z − e‖²/τ), whose entropies are taken.
    pub entropy_temperature: f64,
    /// The memory limit for the distances of the search and the tables of the entropy loss.
    pub memory_budget: MemoryBudget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codebook_size: 1024,
            codebook_dim: 8,
            distance: Distance::default(),
            gradient_estimator: GradientEstimator::default(),
            commitment_weight: None,
            codebook_update: CodebookUpdate::default(),
            start: Start::default(),
            restart_below: 0.0,
            restart_threshold: 0.0,
            entropy_weight: 0.0,
            entropy_temperature: 0.01,
            memory_budget: MemoryBudget::default(),
        }
    }
}

impl Config {
    /// Whether the codebook is a parameter.
    pub(super) fn by_gradient(&self) -> bool {
        matches!(self.codebook_update, CodebookUpdate::Gradient { .. })
    }

    /// The settings with defaults of absent keys written out.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        self.commitment_weight = self.commitment();
        self
    }

    /// The weight of the commitment loss; `None` if the estimator needs no auxiliary losses.
    pub(super) fn commitment(&self) -> Option<f64> {
        let has_losses = self.gradient_estimator != GradientEstimator::Diveq;
        has_losses.then(|| self.commitment_weight.unwrap_or(COMMITMENT_WEIGHT))
    }

    /// Whether codes are restarted.
    pub(super) fn restarts(&self) -> bool {
        self.restart_below > 0.0 || self.restart_threshold > 0.0
    }

    /// A suitable restart threshold for steps of `vectors`: a fifth of the vectors per code.
    fn fair_threshold(&self, vectors: i64) -> f64 {
        let fair = FAIR_SHARE * vectors as f64 / self.codebook_size as f64;
        // Rounded to two digits, for readability.
        let scale = 10f64.powf(1.0 - fair.log10().floor());
        (fair * scale).round() / scale
    }

    /// A message if a step of `vectors` has too few vectors to keep every code from a restart.
    fn restarts_most(&self, vectors: i64) -> Option<Words> {
        let (threshold, codes) = (self.restart_threshold, self.codebook_size);
        let needed = threshold * codes as f64;
        (needed > vectors as f64).then(|| {
            setting("restart_threshold").text(format!(
                " {threshold} times {codes} codes is {needed}, over the {vectors} latent vectors of a step, so nearly \
                 every code is replaced at every step"
            ))
        })
    }

    /// Advice on the restarts for a codebook that collapses with `vectors` in a step, if it can
    /// help.
    pub(super) fn restart_remedy(&self, vectors: i64) -> Option<Words> {
        let (threshold, fair) = (self.restart_threshold, self.fair_threshold(vectors));
        let change = |verb: &str, key: &'static str, to: String| Words::from(verb).setting(key).text(to);
        if let Some(problem) = self.restarts_most(vectors) {
            let lower = change("lower ", "restart_threshold", format!(" to {fair} or less ("));
            Some(lower.then(problem).text(")"))
        } else if !self.restarts() {
            Some(change("set ", "restart_below", format!(" to {ADVISED_SHARE}")))
        } else if self.restart_below > 0.0 {
            (self.restart_below < FAIR_SHARE)
                .then(|| change("raise ", "restart_below", format!(", to {FAIR_SHARE} at most")))
        } else {
            (threshold < fair).then(|| change("raise ", "restart_threshold", format!(", to {fair} at most")))
        }
    }

    fn check_diveq(&self) -> Result<(), QuantizerError> {
        if self.gradient_estimator != GradientEstimator::Diveq {
            return Ok(());
        }
        let diveq = setting("gradient_estimator").text(" is \"diveq\", ");
        if !self.by_gradient() {
            let words = diveq.text("which trains the codebook itself, so a moving average cannot; set ");
            return Err(QuantizerError(words.setting("codebook_update").text(" = { kind = \"gradient\" }")));
        }
        if self.commitment_weight.is_some() {
            let words = diveq.text("which has no auxiliary loss; remove ");
            return Err(QuantizerError(words.setting("commitment_weight")));
        }
        Ok(())
    }
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        check_sizes(self.codebook_size, self.codebook_dim)?;
        if let Some(weight) = self.commitment_weight {
            require_weight("commitment_weight", weight)?;
        }
        self.check_diveq()?;
        let decay = self.codebook_update.decay();
        let key = match self.codebook_update {
            CodebookUpdate::Ema { .. } => "codebook_update.decay",
            CodebookUpdate::Gradient { .. } => "codebook_update.usage_decay",
        };
        require((0.0..1.0).contains(&decay), key, decay, "it must be from 0 to under 1")?;
        let threshold = self.restart_threshold;
        require(
            threshold >= 0.0 && threshold.is_finite(),
            "restart_threshold",
            threshold,
            "it must be 0 (never restart) or more",
        )?;
        let share = self.restart_below;
        require(
            (0.0..1.0).contains(&share),
            "restart_below",
            share,
            "it must be from 0 (never restart) to under 1",
        )?;
        if share > 0.0 && threshold > 0.0 {
            let words =
                setting("restart_below").text(format!(" is {share} and ")).setting("restart_threshold");
            return Err(QuantizerError(words.text(format!(" is {threshold}; give one of the two"))));
        }
        require_temperature("entropy_temperature", self.entropy_temperature)?;
        check_entropy(self.entropy_weight, self.codebook_size, self.codebook_dim, self.memory_budget)
    }

    fn draws_noise(&self) -> bool {
        self.restarts()
    }

    fn batch_terms(&self) -> Vec<String> {
        entropy_term(self.entropy_weight)
    }

    fn advice(&self, vectors: i64) -> Vec<Words> {
        let fair = self.fair_threshold(vectors);
        let remedy = |problem: Words| {
            problem.text("; set ").setting("restart_threshold").text(format!(" to {fair} or less"))
        };
        self.restarts_most(vectors).map(remedy).into_iter().collect()
    }

    fn codes(&self) -> (i64, i64) {
        (1, self.codebook_size)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        Ok(QuantizerConfig::Vq(Self { codebook_size: codes, ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.codebook_dim
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Vq::new(path, self, channels)?))
    }
}
