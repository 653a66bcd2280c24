//! Copies the live tensors of a run into checkpoints and back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{EnumString, IntoStaticStr};
use tch::Tensor;

use super::group::Group;
use super::task::{Bookmark, Task};
use super::{StateError, TrainError};
use crate::checkpoint::{Error, Snapshot, copy_into};
use crate::optim::{SharedState, WeightAverage};
use crate::variables::Variable;
use crate::world::World;
use pixtok_torch::tensors::{Tensors, not_finite};

/// Which weights of a checkpoint to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_weights)]
pub enum Weights {
    /// The weights that the optimizer trains.
    #[default]
    Raw,
    /// Their moving average.
    Ema,
}

impl Weights {
    /// The name that the user writes.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn no_weights(text: &str) -> String {
    format!("\"{text}\" names no weights; use raw or ema")
}

/// The training loop's own keys of `state.json`; the task adds the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// The step of the last evaluation that gave figures.
    pub evaluated: u64,
    /// The place in the data from which training continues.
    pub cursor: Bookmark,
    /// The number of processes that trained.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub processes: u32,
}

/// Checkpoints of a single process don't say it.
fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(processes: &u32) -> bool {
    *processes == 1
}

impl Progress {
    /// The progress in a checkpoint's state, and what is left of that: the task's own state.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn split(saved: &Value) -> Result<(Self, Value), StateError> {
        let (progress, mut own) = (Self::deserialize(saved)?, saved.clone());
        let of_loop = serde_json::to_value(&progress)?;
        if let Value::Object(own) = &mut own {
            own.retain(|key, _| of_loop.get(key).is_none());
        }
        Ok((progress, own))
    }

    /// Adds the keys of `task`.
    fn with<T: Task>(&self, task: &T) -> Result<Value, StateError> {
        let mut state = serde_json::to_value(self)?;
        if let Value::Object(state) = &mut state {
            state.extend(task.state()?);
        }
        Ok(state)
    }
}

/// Everything in a training that a checkpoint holds.
pub(super) struct Live<'a, T> {
    pub task: &'a T,
    pub groups: &'a [Group],
    pub average: Option<&'a WeightAverage>,
}

impl<T: Task> Live<'_, T> {
    /// The model's tensors.
    pub fn model(&self) -> Tensors {
        named(self.task.model())
    }

    /// The tensors that train beside the model, if there are any.
    fn companions(&self) -> Option<Tensors> {
        let companions = named(self.task.companions());
        (!companions.is_empty()).then_some(companions)
    }

    /// The moments of all optimizers. The names of the parameters keep them apart.
    fn moments(&self) -> SharedState {
        SharedState::joined(self.groups.iter().map(|group| group.optimizer.state()))
    }

    /// The name of the first weight with a NaN or an infinity, in the model, its average or the
    /// networks beside it. If the average is divided, every process has to ask, and all get the
    /// same answer.
    pub fn not_finite(&self, world: &World) -> Result<Option<String>, TrainError> {
        if let Some(name) = not_finite(&self.model()) {
            return Ok(Some(name.to_owned()));
        }
        let averages = self.average.map(|average| average.state().not_finite(world)).transpose()?;
        if let Some(name) = averages.flatten() {
            return Ok(Some(name));
        }
        Ok(self.companions().and_then(|companions| not_finite(&companions).map(str::to_owned)))
    }

    /// The current state: in the process that writes all of it, in the others without the moments
    /// and averages that these don't keep. If moments and averages are divided, every process has
    /// to take part. It shares storage with the live tensors; what other processes keep is copied
    /// to host memory.
    pub fn snapshot(&self, progress: &Progress, world: &World) -> Result<Snapshot, TrainError> {
        let state = progress.with(self.task)?;
        let mut ema = None;
        if let Some(average) = self.average {
            // Averages of the parameters and the raw buffers: together a complete model.
            let mut tensors = self.model();
            tensors.extend(average.state().collect(world)?);
            ema = Some(tensors);
        }
        Ok(Snapshot {
            model: self.model(),
            ema,
            companions: self.companions(),
            optimizer: self.moments().collect(world)?,
            state,
        })
    }

    /// Writes a snapshot's tensors into the live ones, of moments and averages into those that this
    /// process keeps. All names and shapes must match, whoever keeps the tensor.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), TrainError> {
        copy_into(&self.model(), &snapshot.model, "the checkpoint's model")?;
        if let Some(companions) = self.companions() {
            let saved = snapshot.companions.as_ref().ok_or(Error::NoCompanions)?;
            copy_into(&companions, saved, &format!("the checkpoint's {}", T::COMPANIONS))?;
        }
        put_back(&self.moments(), &snapshot.optimizer, "the checkpoint's optimizer")?;
        if let Some(average) = self.average {
            let saved = averaged(snapshot)?;
            let averages = average.state();
            let parameters: Tensors = saved
                .iter()
                .filter(|(name, _)| averages.has(name))
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect();
            put_back(&averages, &parameters, "the checkpoint's weight average")?;
        }
        Ok(())
    }
}

fn named(variables: Vec<Variable>) -> BTreeMap<String, Tensor> {
    variables.into_iter().map(|found| (found.name, found.tensor)).collect()
}

/// Like [`copy_into`], for a state that processes may divide.
fn put_back(state: &SharedState, saved: &Tensors, what: &str) -> Result<(), Error> {
    state.restore(saved).map_err(|error| Error::of_copy(what, error))
}

fn averaged(snapshot: &Snapshot) -> Result<&Tensors, Error> {
    snapshot.ema.as_ref().ok_or(Error::NoAverage)
}
