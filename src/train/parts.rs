//! What a trainer is given, and what it gives back.

use std::path::PathBuf;
use std::sync::Arc;

use tch::Device;

use super::{Config, Objective, Signals, State, Validation};
use crate::checkpoint::{Resumed, RunWriter};
use crate::evaluate;
use crate::optim::WeightAverage;
use pixtok_base::seed::Seed;
use pixtok_images::data::{self, Dataset};
use pixtok_torch::Precision;

/// Everything that a training is made of.
pub struct Parts {
    /// Of every random decision.
    pub seed: Seed,
    /// Of the loop.
    pub train: Config,
    /// Of the images.
    pub data: data::Config,
    /// Of the evaluations.
    pub eval: evaluate::Config,
    /// The resolved config, for the logs.
    pub config_text: String,
    /// What is minimised, on `device`.
    pub objective: Box<dyn Objective>,
    /// Where it trains.
    pub device: Device,
    /// In what number format.
    pub precision: Precision,
    /// Training images.
    pub train_set: Arc<Dataset>,
    /// Validation images.
    pub val_set: Arc<Dataset>,
    /// The run folder, locked.
    pub run: RunWriter,
    /// Where an existing run resumes from.
    pub resumed: Option<Resumed>,
    /// The earlier settings of its images and evaluations, if the run existed before.
    pub before: Option<(data::Config, evaluate::Config)>,
    /// The counters of a run that has not begun, with this process's circumstances.
    pub state: State,
    /// Go on with another thread count or kind of device than the checkpoint's.
    pub accept_inexact: bool,
    /// Save at step 0: what the run starts from is nowhere else in its folder.
    pub save_first: bool,
    /// The signals that end a training.
    pub signals: Signals,
}

impl Parts {
    /// The settings of the evaluations.
    pub(super) fn validation(&self) -> Validation {
        Validation { data: self.data.clone(), eval: self.eval.clone(), total: self.val_set.len() }
    }

    /// The average of the tokenizer's parameters, at their present values.
    pub(super) fn weight_average(&self) -> WeightAverage {
        let tokenizer = self.objective.groups().swap_remove(0);
        WeightAverage::new(self.train.ema_decay, tokenizer.parameters)
    }
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
    /// A signal came; everything is saved.
    Interrupted {
        /// Its number.
        signal: i32,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
}
