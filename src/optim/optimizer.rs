//! The optimizer of one group of parameters: AdamW, and Muon for those that it is for.

use std::collections::BTreeMap;

use tch::Tensor;

use super::muon::is_hidden;
use super::{Adamw, Config, Muon, OptimError, gradient};
use crate::variables::Variable;
use pixtok_torch::{clip_grad_norm, drop_grads};

/// Takes the steps, with named state to save.
#[derive(Debug)]
pub struct Optimizer {
    config: Config,
    adamw: Adamw,
    /// Without weights unless the config asks for it.
    muon: Muon,
}

impl Optimizer {
    /// Over `parameters`, at rest.
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

    /// Clips the gradients together and returns their norm before that (a scalar, left on the device).
    ///
    /// # Errors
    /// From libtorch.
    pub fn clip(&self) -> Result<Tensor, OptimError> {
        let grads: Vec<Tensor> = self.parameters().map(gradient).collect();
        Ok(clip_grad_norm(&grads, self.config.clip_norm)?)
    }

    /// One step with `factor` (the schedule's) times the learning rates, skipped on the device where `found_inf` is not 0.
    ///
    /// # Errors
    /// From libtorch.
    pub fn step(&mut self, factor: f64, found_inf: Option<&Tensor>) -> Result<(), OptimError> {
        self.muon.step(factor, found_inf);
        self.adamw.step(self.config.lr * factor, found_inf)
    }

    /// Forgets all gradients.
    ///
    /// # Errors
    /// From libtorch.
    pub fn drop_grads(&mut self) -> Result<(), OptimError> {
        let params: Vec<Tensor> = self.parameters().map(Tensor::shallow_clone).collect();
        Ok(drop_grads(&params)?)
    }

    /// Clears the moments of the rows of parameter `name` where `mask` (`[rows]` bool) holds. Rows are replaced in codebooks
    /// alone, which are AdamW's.
    pub fn clear_rows(&mut self, name: &str, mask: &Tensor) {
        self.adamw.clear_rows(name, mask);
    }

    /// Every moment by the name of its parameter and its own; they share their storage with the optimizer's.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        self.adamw.state().into_iter().chain(self.muon.state()).collect()
    }

    /// The parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.adamw.parameters().chain(self.muon.parameters())
    }
}
