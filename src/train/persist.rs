//! Between the live tensors of a run and its checkpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use tch::Tensor;

use super::group::Group;
use super::state::{State, StateError};
use super::{Objective, TrainError};
use crate::checkpoint::{Error, Snapshot, copy_into};
use crate::optim::WeightAverage;
use crate::variables::Variable;
use pixtok_torch::tensors::Tensors;

/// Which weights of a checkpoint to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_weights)]
pub enum Weights {
    /// As the optimizer left them.
    #[default]
    Raw,
    /// Their moving average.
    Ema,
}

impl Weights {
    /// As the user writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn no_weights(text: &str) -> String {
    format!("\"{text}\" names no weights; use raw or ema")
}

/// What trains, with everything that a checkpoint holds.
pub(super) struct Live<'a> {
    pub objective: &'a dyn Objective,
    pub groups: &'a [Group],
    pub average: Option<&'a WeightAverage>,
}

impl Live<'_> {
    fn model(&self) -> Tensors {
        named(self.objective.variables())
    }

    /// What trains beside the model, if anything does.
    fn companions(&self) -> Option<Tensors> {
        let companions = named(self.objective.companions());
        (!companions.is_empty()).then_some(companions)
    }

    /// Moments of all optimizers; the parameters' names keep them apart.
    fn moments(&self) -> Tensors {
        self.groups.iter().flat_map(|group| group.optimizer.state()).collect()
    }

    /// The present state, sharing the live tensors' storage.
    pub fn snapshot(&self, state: &State) -> Result<Snapshot, TrainError> {
        let ema = self.average.map(|average| {
            // Parameters averaged, buffers raw: a whole model by itself.
            let mut tensors = self.model();
            tensors.extend(average.state());
            tensors
        });
        let state = serde_json::to_value(state).map_err(StateError::Unreadable)?;
        Ok(Snapshot {
            model: self.model(),
            ema,
            companions: self.companions(),
            optimizer: self.moments(),
            state,
        })
    }

    /// Writes a snapshot's tensors into the live ones, strictly.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), TrainError> {
        copy_into(&self.model(), &snapshot.model, "the checkpoint's model")?;
        if let Some(companions) = self.companions() {
            let saved = snapshot.companions.as_ref().ok_or(Error::NoCompanions)?;
            copy_into(&companions, saved, "the checkpoint's discriminator")?;
        }
        copy_into(&self.moments(), &snapshot.optimizer, "the checkpoint's optimizer")?;
        if let Some(average) = self.average {
            let saved = averaged(snapshot)?;
            let averages = average.state();
            let parameters: Tensors = saved
                .iter()
                .filter(|(name, _)| averages.contains_key(*name))
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect();
            copy_into(&averages, &parameters, "the checkpoint's weight average")?;
        }
        Ok(())
    }
}

fn named(variables: Vec<Variable>) -> BTreeMap<String, Tensor> {
    variables.into_iter().map(|found| (found.name, found.tensor)).collect()
}

fn averaged(snapshot: &Snapshot) -> Result<&Tensors, Error> {
    snapshot.ema.as_ref().ok_or(Error::NoAverage)
}
