//! A group of parameters in training: its optimizer, and what exchanges its gradients.

use tch::Tensor;

use super::task::ParameterGroup;
use super::{Config, GradientFormat, TrainError};
use crate::optim::{self, Optimizer, Sharing};
use crate::world::{Gradients, World};

/// A group of parameters and its optimizer.
pub(super) struct Group {
    pub name: &'static str,
    /// The config table of the optimizer's settings.
    pub table: &'static str,
    pub config: optim::Config,
    pub optimizer: Optimizer,
    /// The step at which it starts to learn.
    pub start: u64,
    /// What exchanges its gradients among several processes.
    gradients: Option<Gradients>,
}

impl Group {
    /// A group whose optimizer has not taken a step.
    pub fn new(group: ParameterGroup, train: &Config, world: &World) -> Result<Self, TrainError> {
        let ParameterGroup { name, parameters, optimizer: config, table, start } = group;
        let tensors: Vec<Tensor> = parameters.iter().map(|found| found.tensor.shallow_clone()).collect();
        let gradients = world.gradients(&tensors, train.gradients == GradientFormat::Bf16)?;
        let optimizer = Optimizer::new(&config, parameters, sharing(train, world));
        Ok(Self { name, table, config, optimizer, start, gradients })
    }

    /// The next backward pass is the last one of a step.
    pub fn expect_last_pass(&self) -> Result<(), TrainError> {
        Ok(self.gradients.as_ref().map_or(Ok(()), Gradients::arm)?)
    }

    /// Waits until the gradients are their means over all processes.
    pub fn finish_gradients(&self) -> Result<(), TrainError> {
        Ok(self.gradients.as_ref().map_or(Ok(()), Gradients::finish)?)
    }

    /// The learning rate at `step` of a run of `steps`. Before the group's start it is the rate of
    /// its first step.
    pub fn lr(&self, step: u64, steps: u64) -> f64 {
        self.config.rate(step, self.start, steps)
    }

    /// Takes one step, which the device skips if `found_inf` is not 0. After it all processes have
    /// the new parameters.
    pub fn step(
        &mut self,
        step: u64,
        steps: u64,
        found_inf: Option<&Tensor>,
        world: &World,
    ) -> Result<(), TrainError> {
        let schedule = &self.config.schedule;
        let factor = schedule.factor(step.saturating_sub(self.start), steps.saturating_sub(self.start));
        self.optimizer.step(factor, found_inf)?;
        Ok(self.optimizer.spread(world)?)
    }
}

/// How the processes share the state of the optimizers and the weight average.
pub(super) fn sharing(settings: &Config, world: &World) -> Sharing {
    if settings.shard_optimizer { Sharing::divided(world.rank(), world.size()) } else { Sharing::WHOLE }
}
