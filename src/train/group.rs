//! A group of parameters under way: its optimizer, and where its schedule is.

use tch::Tensor;

use super::TrainError;
use super::objective::ParameterGroup;
use crate::optim::{self, Optimizer};

/// A group of parameters with its optimizer.
#[derive(Debug)]
pub(super) struct Group {
    pub name: &'static str,
    /// The step from which it learns.
    pub start: u64,
    pub config: optim::Config,
    pub optimizer: Optimizer,
}

impl Group {
    /// At rest.
    pub fn new(group: ParameterGroup) -> Self {
        let ParameterGroup { name, parameters, optimizer: config, start } = group;
        let optimizer = Optimizer::new(&config, parameters);
        Self { name, start, config, optimizer }
    }

    /// Its learning rate at `step` of a run of `steps`; before its start, that of its first step.
    pub fn lr(&self, step: u64, steps: u64) -> f64 {
        self.config.rate(step, self.start, steps)
    }

    /// One step, skipped on the device where `found_inf` is not 0.
    pub fn step(&mut self, step: u64, steps: u64, found_inf: Option<&Tensor>) -> Result<(), TrainError> {
        let factor = self.factor(step, steps);
        Ok(self.optimizer.step(factor, found_inf)?)
    }

    fn factor(&self, step: u64, steps: u64) -> f64 {
        self.config.schedule.factor(step.saturating_sub(self.start), steps.saturating_sub(self.start))
    }
}
