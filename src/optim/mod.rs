//! Turns gradients into new weights: AdamW and Muon with named moments that can be saved, clipping,
//! schedules and weight averages. The processes of a training may divide their state among them.

mod adamw;
mod average;
pub mod muon;
mod optimizer;
mod schedule;
mod shares;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use pixtok_base::{Class, Classified};

pub use adamw::Adamw;
pub use average::WeightAverage;
pub use muon::Muon;
pub use optimizer::Optimizer;
pub use schedule::Schedule;
pub use shares::{SharedState, Sharing};

use crate::variables::{Role, Variable};

/// Settings of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    /// Decay rates of the first and second moments.
    pub betas: (f64, f64),
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The parameters that decay.
    pub decayed: Decayed,
    /// The largest l2 norm of all gradients together; 0 turns clipping off.
    pub clip_norm: f64,
    /// How the learning rates change over the steps.
    pub schedule: Schedule,
    /// Settings of Muon for the convolutions between feature maps; absent: AdamW for them too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon: Option<muon::Config>,
}

/// Which parameters the weight decay acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Decayed {
    /// Only weights of convolutions and linear layers, not biases, norms or codebooks.
    #[default]
    Weights,
    /// Every parameter.
    All,
}

impl Decayed {
    /// Whether a parameter decays.
    #[must_use]
    pub fn takes(self, parameter: &Variable) -> bool {
        self == Self::All || matches!(parameter.role, Role::Matrix | Role::Conv)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.95),
            eps: 1e-8,
            weight_decay: 1e-4,
            decayed: Decayed::default(),
            clip_norm: 1.0,
            schedule: Schedule::default(),
            muon: None,
        }
    }
}

/// The optimizer's settings are out of range, or a step failed.
#[derive(Debug, thiserror::Error)]
pub enum OptimError {
    /// Names the setting, its value and what is allowed.
    #[error("{0}")]
    Config(String),
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] pixtok_torch::TorchError),
}

impl Classified for OptimError {
    fn class(&self) -> Class {
        match self {
            Self::Config(_) => Class::Misuse,
            Self::Torch(error) => error.class(),
        }
    }
}

impl Config {
    /// The learning rate at `step` in a run of `steps`, for a group of parameters that learns from
    /// step `start` on. Before `start` it is the rate of the group's first step.
    #[must_use]
    pub fn rate(&self, step: u64, start: u64, steps: u64) -> f64 {
        self.lr * self.schedule.factor(step.saturating_sub(start), steps.saturating_sub(start))
    }

    /// A warning if the warm-up keeps the rate of a run of `steps` far below [`Config::lr`]. It
    /// names the settings as keys of `table`.
    #[must_use]
    pub fn warmup_advice(&self, table: &str, steps: u64) -> Option<String> {
        self.schedule.warmup_advice(table, self.lr, steps)
    }

    /// Checks the settings for a run of `steps`.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self, steps: u64) -> Result<(), OptimError> {
        let require = |holds: bool, key: &str, value: f64, allowed: &str| {
            if holds {
                Ok(())
            } else {
                Err(OptimError::Config(format!("optimizer.{key} is {value}; it must be {allowed}")))
            }
        };
        let (beta1, beta2) = self.betas;
        require(self.lr > 0.0 && self.lr.is_finite(), "lr", self.lr, "over 0")?;
        require((0.0..1.0).contains(&beta1), "betas", beta1, "from 0 to under 1")?;
        require((0.0..1.0).contains(&beta2), "betas", beta2, "from 0 to under 1")?;
        require(self.eps > 0.0 && self.eps.is_finite(), "eps", self.eps, "over 0")?;
        let decay = self.weight_decay;
        require(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "0 or more")?;
        require(self.clip_norm >= 0.0, "clip_norm", self.clip_norm, "0 (no clipping) or more")?;
        if let Some(muon) = &self.muon {
            require(muon.lr > 0.0 && muon.lr.is_finite(), "muon.lr", muon.lr, "over 0")?;
            let momentum = muon.momentum;
            require((0.0..1.0).contains(&momentum), "muon.momentum", momentum, "from 0 to under 1")?;
        }
        self.schedule.check(steps)
    }
}

/// A parameter's gradient; zeros if the loss does not depend on it.
fn gradient(param: &Tensor) -> Tensor {
    let grad = param.grad();
    if grad.defined() { grad } else { param.zeros_like().set_requires_grad(false) }
}
