//! Why a training ended early.

use std::error::Error;
use std::fmt;

use super::task::GroupId;
use crate::optim::OptimError;
use crate::world::WorldError;
use crate::{checkpoint, logger};
use pixtok_base::{Class, Classified};
use pixtok_torch::TorchError;

/// An error of the training loop. Its class decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting is out of its range. The text names it, its value and what is allowed.
    #[error("{0}")]
    Config(String),
    /// The loss or its gradient is NaN or infinite; the weights are those before the step.
    #[error(
        "step {step} stopped before the optimizer: the {name}'s {what} ({samples} of the batch: {})",
        .names.join(", ")
    )]
    NotFinite {
        /// Counted from 1.
        step: u64,
        /// The group of parameters.
        group: GroupId,
        /// Its name.
        name: &'static str,
        /// Which number, and what it is.
        what: String,
        /// What a batch consists of.
        samples: &'static str,
        /// Those of the batch.
        names: Vec<String>,
    },
    /// A step made weights that are NaN or infinite; they are not saved.
    #[error("the weights after step {step} are not finite ({name}), so they were not saved")]
    WeightsNotFinite {
        /// The number of completed steps.
        step: u64,
        /// The name of one such weight.
        name: String,
        /// The group that it trains in or with.
        group: GroupId,
    },
    /// Numbers that are not finite, with advice on how to go on.
    #[error("{}; {remedy}", chain(.cause))]
    Diverged {
        /// The original error.
        cause: Box<TrainError>,
        /// The checkpoint and the settings to go on with.
        remedy: String,
    },
    /// The last checkpoint could not be saved.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The saved state does not fit this run.
    #[error(transparent)]
    State(#[from] StateError),
    /// An error of what is trained: of its data, for instance.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// From the optimizer.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Logger(#[from] logger::LoggerError),
    /// libtorch failed, for instance because memory is exhausted.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// Processes could not exchange their numbers.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A file of the run folder that is neither log nor checkpoint.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// An error of a task, with what the loop has to know of it. It reads as the error itself.
#[derive(Debug)]
pub struct TaskError {
    class: Class,
    about: About,
    error: Box<dyn Error + Send + Sync>,
}

/// What an error of a task says something against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The training's data, and nothing against the weights, which are saved.
    Data,
    /// The weights that were evaluated, which are of no use.
    Weights,
    /// Anything else.
    Other,
}

impl TaskError {
    /// Of `error`.
    pub fn new(class: Class, about: About, error: impl Error + Send + Sync + 'static) -> Self {
        Self { class, about, error: Box::new(error) }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The saved state can't be taken over.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state cannot be read.
    #[error(
        "the checkpoint's state.json does not fit this version of pixtok ({0}); go on with the version that wrote it, or start a new run \
         with --init-from"
    )]
    Unreadable(#[from] serde_json::Error),
    /// Another thread count or kind of device.
    #[error(
        "the run was trained with {saved} and would go on with {now}, which rounds differently; use {remedy}, or \
         --accept-inexact to go on all the same"
    )]
    Inexact {
        /// Then.
        saved: String,
        /// Now.
        now: String,
        /// The flag that makes them the same.
        remedy: String,
    },
}

impl Classified for StateError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl TrainError {
    /// Whether an evaluation met numbers that are not finite, so that the weights are useless.
    pub(super) fn is_of_evaluated_weights(&self) -> bool {
        matches!(self, Self::Task(TaskError { about: About::Weights, .. }))
    }

    /// Whether reading the training's data failed, which says nothing against the weights.
    #[must_use]
    pub fn is_of_data(&self) -> bool {
        matches!(self, Self::Task(TaskError { about: About::Data, .. }))
    }
}

impl Classified for TrainError {
    fn class(&self) -> Class {
        match self {
            Self::Config(_) => Class::Misuse,
            Self::NotFinite { .. } | Self::WeightsNotFinite { .. } => Class::NotFinite,
            Self::Diverged { cause, .. } => cause.class(),
            Self::Checkpoint(error) => error.class(),
            Self::State(error) => error.class(),
            Self::Task(error) => error.class,
            Self::Optim(error) => error.class(),
            Self::Logger(error) => error.class(),
            Self::Torch(error) => error.class(),
            Self::World(error) => error.class(),
            Self::Write { .. } => Class::Failed,
        }
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
