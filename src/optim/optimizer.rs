//! The optimizer of one group of parameters: Muon for the parameters that it is meant for, AdamW
//! for all others.

use std::collections::BTreeMap;

use tch::Tensor;

use super::muon::is_hidden;
use super::{Adamw, Config, Muon, OptimError, gradient};
use crate::variables::Variable;
use pixtok_torch::{clip_grad_norm, drop_grads};

/// Takes optimizer steps. Its named state can be saved.
#[derive(Debug)]
pub struct Optimizer {
    config: Config,
    adamw: Adamw,
    /// It has no weights unless the config asks for Muon.
    muon: Muon,
}

impl Optimizer {
    /// An optimizer of `parameters` that has not taken a step.
    #[must_use]
    pub fn new(config: &Config, parameters: Vec<Variable>) -> Self {
        let muon = config.muon.clone();
        let (hidden, others): (Vec<Variable>, Vec<Variable>) =
            parameters.into_iter().partition(|param| muon.is_some() && is_hidden(param));
        Self {
            adamw: Adamw::new(config, others),
            muon: Muon::new(&muon.unwrap_or_default(), config.weight_decay, hidden),
            config: config.clone(),
        }
    }

    /// Clips the gradients together and returns their norm before clipping (a scalar on the
    /// device).
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn clip(&self) -> Result<Tensor, OptimError> {
        let grads: Vec<Tensor> = self.parameters().map(gradient).collect();
        Ok(clip_grad_norm(&grads, self.config.clip_norm)?)
    }

    /// Takes one step with `factor` (the schedule's) times the learning rates, which the device
    /// skips if `found_inf` is not 0.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn step(&mut self, factor: f64, found_inf: Option<&Tensor>) -> Result<(), OptimError> {
        self.muon.step(factor, found_inf);
        self.adamw.step(self.config.lr * factor, found_inf)
    }

    /// Removes all gradients.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn drop_grads(&mut self) -> Result<(), OptimError> {
        let params: Vec<Tensor> = self.parameters().map(Tensor::shallow_clone).collect();
        Ok(drop_grads(&params)?)
    }

    /// Clears the moments of the rows of parameter `name` where `mask` (`[rows]` bool) holds. Only
    /// rows of codebooks are replaced, and AdamW optimizes them.
    pub fn clear_rows(&mut self, name: &str, mask: &Tensor) {
        self.adamw.clear_rows(name, mask);
    }

    /// Every moment, named after its parameter and its kind. The tensors share their storage with
    /// the optimizer's, so that a load writes into them.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        self.adamw.state().into_iter().chain(self.muon.state()).collect()
    }

    /// The parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.adamw.parameters().chain(self.muon.parameters())
    }
}
