//! The optimizer of one group of parameters: Muon for the parameters that it is meant for, AdamW
//! for all others. Of a state that processes divide, each process keeps and updates its share.

use tch::Tensor;

use super::muon::{is_hidden, matrix_size};
use super::shares::{SharedState, Shares, Sharing};
use super::{Adamw, Config, Muon, OptimError, gradient};
use crate::variables::Variable;
use crate::world::{World, WorldError};
use pixtok_torch::{clip_grad_norm, drop_grads};

/// Takes optimizer steps. Its named state can be saved.
#[derive(Debug)]
pub struct Optimizer {
    config: Config,
    /// All parameters. AdamW and Muon have those of this process.
    shares: Shares,
    adamw: Adamw,
    /// It has no weights unless the config asks for Muon.
    muon: Muon,
}

impl Optimizer {
    /// An optimizer of `parameters` that has not taken a step. With a divided state it needs the
    /// same parameters in every process.
    #[must_use]
    pub fn new(config: &Config, mut parameters: Vec<Variable>, sharing: Sharing) -> Self {
        parameters.sort_by_cached_key(|parameter| place(config, parameter));
        let shares = Shares::deal(parameters, sharing);
        let (hidden, others): (Vec<Variable>, Vec<Variable>) =
            shares.own().map(Variable::shallow_clone).partition(|parameter| takes_muon(config, parameter));
        let muon = config.muon.clone().unwrap_or_default();
        Self {
            adamw: Adamw::new(config, others),
            muon: Muon::new(&muon, config.weight_decay, hidden),
            shares,
            config: config.clone(),
        }
    }

    /// Clips the gradients of all parameters together and returns their norm before clipping (a
    /// scalar on the device).
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn clip(&self) -> Result<Tensor, OptimError> {
        let grads: Vec<Tensor> = self.parameters().map(gradient).collect();
        Ok(clip_grad_norm(&grads, self.config.clip_norm)?)
    }

    /// Takes one step with `factor` (the schedule's) times the learning rates, which the device
    /// skips if `found_inf` is not 0. With a divided state it changes this process's share of the
    /// parameters; [`Optimizer::spread`] brings the others up to date.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn step(&mut self, factor: f64, found_inf: Option<&Tensor>) -> Result<(), OptimError> {
        self.muon.step(factor, found_inf);
        self.adamw.step(self.config.lr * factor, found_inf)
    }

    /// Copies each parameter from the process that updates it to all others. Every process has to
    /// take part. Does nothing if the state is not divided.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn spread(&self, world: &World) -> Result<(), WorldError> {
        self.shares.spread(world)
    }

    /// Removes the gradients of all parameters.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn drop_grads(&mut self) -> Result<(), OptimError> {
        let params: Vec<Tensor> = self.parameters().map(Tensor::shallow_clone).collect();
        Ok(drop_grads(&params)?)
    }

    /// Clears the moments of the rows of parameter `name` where `mask` (`[rows]` bool) holds, if
    /// this process keeps them. Only rows of codebooks are replaced, and AdamW optimizes them.
    pub fn clear_rows(&mut self, name: &str, mask: &Tensor) {
        self.adamw.clear_rows(name, mask);
    }

    /// Every moment, named after its parameter and its kind.
    #[must_use]
    pub fn state(&self) -> SharedState {
        let forms = |parameter: &Variable| {
            if takes_muon(&self.config, parameter) { Muon::forms(parameter) } else { Adamw::forms(parameter) }
        };
        self.shares.state(forms, self.adamw.state().into_iter().chain(self.muon.state()).collect())
    }

    /// All parameters, the same in every process and in the same order.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.shares.all().map(|parameter| &parameter.tensor)
    }
}

/// Whether Muon optimizes a parameter.
fn takes_muon(config: &Config, parameter: &Variable) -> bool {
    config.muon.is_some() && is_hidden(parameter)
}

/// The key that sorts the parameters: AdamW's before Muon's, decaying ones before others, matrices
/// by size, then by name. The last bits of the gradients' norm depend on this order.
fn place(config: &Config, parameter: &Variable) -> (bool, bool, (i64, i64), String) {
    let name = parameter.name.clone();
    if takes_muon(config, parameter) {
        (true, false, matrix_size(parameter), name)
    } else {
        (false, !config.decayed.takes(parameter), (0, 0), name)
    }
}
