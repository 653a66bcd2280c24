//! Defines what is trained. The loop is written over [`Task`], so a new way to train is a new task
//! and not a new loop.

use std::sync::Arc;

use serde_json::{Map, Value};
use tch::Tensor;

use super::signals::{elected, vote};
use super::{Signals, TrainError};
use crate::checkpoint::{Candidate, RunFolder, RunWriter, ValidationImages};
use crate::logger::{Logger, LoggerError};
use crate::optim;
use crate::variables::Variable;
use crate::world::{World, WorldError};
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, Precision};

pub(super) use crate::statistics::{Monitor, Statistic, UpdateReport, merge, merge_over};

/// Identifies one of the task's groups: its index in [`Task::groups`].
pub type GroupId = usize;

/// A place in the sequence of batches, as a checkpoint stores it. Only the [`Batches`] that wrote
/// it reads it. A process goes from batch to batch by its own; a checkpoint holds that of all
/// processes ([`Batches::together`]).
pub type Bookmark = Value;

/// Parameters that share an optimizer.
#[derive(Debug)]
pub struct ParameterGroup {
    /// The name in the logs.
    pub name: &'static str,
    /// The parameters that are trained.
    pub parameters: Vec<Variable>,
    /// The optimizer's settings.
    pub optimizer: optim::Config,
    /// The table of the config with these settings, for messages: `optimizer`, for instance.
    pub table: &'static str,
    /// The step at which the group starts to learn. Its schedule starts there too.
    pub start: u64,
}

/// Where in the training a micro-batch is.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The optimizer step, counted from 0.
    pub step: u64,
    /// Its index within the step.
    pub micro_batch: usize,
    /// The noise of its samples. It names each by its place in the step's whole batch, so that it
    /// is the same for any number of micro-batches and processes.
    pub noise: Noise,
    /// The processes that train together. Each takes the same step with images of its own, so what
    /// is not a mean over the images has to be computed over those of all processes.
    pub world: &'a World,
}

/// The result of one micro-batch.
#[derive(Debug)]
pub struct StepOutput {
    /// A loss for each group that learns at this step. It has gradients only for the group's
    /// parameters.
    pub groups: Vec<(GroupId, Tensor)>,
    /// Named, detached scalars for the logs. A log row shows the terms of its last step.
    pub terms: Vec<(String, Tensor)>,
    /// Statistics for [`Task::after_step`].
    pub statistics: Vec<Statistic>,
    /// Monitors for the logs. A log row shows their mean over its steps.
    pub monitors: Vec<Monitor>,
}

/// A batch as it comes from its source.
#[derive(Debug)]
pub struct Fetched<B> {
    /// The batch itself.
    pub batch: B,
    /// The number of samples, for the speed in the logs.
    pub samples: usize,
    /// The names of the samples, for messages.
    pub names: Vec<String>,
    /// The number of whole passes over the data before the end of this batch.
    pub epoch: u64,
    /// The place in the sequence after this batch.
    pub bookmark: Bookmark,
}

/// The source of a training's batches: an endless sequence that can be entered at any place.
pub trait Batches<B> {
    /// The start of the sequence.
    fn beginning(&self) -> Bookmark;

    /// Goes to a place in the sequence.
    ///
    /// # Errors
    /// When the bookmark can't be read.
    fn seek(&mut self, bookmark: &Bookmark, around: &mut Surroundings) -> Result<(), TrainError>;

    /// Begins to load ahead from the place that was sought; otherwise [`Batches::next`] does.
    ///
    /// # Errors
    /// When loading can't begin.
    fn load_ahead(&mut self) -> Result<(), TrainError> {
        Ok(())
    }

    /// The next batch; waits for it.
    ///
    /// # Errors
    /// When the data can't be read.
    fn next(&mut self) -> Result<Fetched<B>, TrainError>;

    /// One bookmark for all processes, given that of each, by rank. Every process can seek it. By
    /// default their bookmarks are equal, and it is the first.
    fn together(&self, of_all: Vec<Bookmark>) -> Bookmark {
        of_all.into_iter().next().unwrap_or_else(|| self.beginning())
    }

    /// Writes down the bad samples that the last [`Batches::next`] left out. One of several
    /// processes only remembers them.
    ///
    /// # Errors
    /// When there are too many.
    fn note_skipped(&mut self, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }

    /// Writes down the bad samples that several processes remember. All of them call this together,
    /// for each log row and checkpoint.
    ///
    /// # Errors
    /// When there are too many in all processes together.
    fn share_skipped(&mut self, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }
}

/// The surroundings of a training, lent to the task and its batches.
pub struct Surroundings {
    /// The number of completed steps.
    pub step: u64,
    /// The run folder, locked. A second thread may be saving a checkpoint in it.
    pub run: Arc<RunWriter>,
    /// The run's logs.
    pub logger: Logger,
    /// The signals that end a training.
    pub signals: Signals,
    /// The processes that train together.
    pub world: World,
}

impl Surroundings {
    /// The signal that ends the training, in all processes if it came to one of them.
    ///
    /// # Errors
    /// When the processes can't agree.
    pub fn interrupted(&self) -> Result<Option<i32>, WorldError> {
        Ok(elected(self.world.sum_each(vote(self.signals.came()))?))
    }

    /// Logs a row of this step, in the process that writes.
    pub fn log(&mut self, row: &[(String, f64)]) {
        if self.world.writes() {
            let logged = self.logger.log(self.step, row);
            self.warn_of(logged);
        }
    }

    /// Logs a row of this step that is this process's own, if there are several processes.
    pub(super) fn log_process(&mut self, row: &[(String, f64)]) {
        let logged = self.logger.log_process(self.step, row);
        self.warn_of(logged);
    }

    /// Prints a warning that all processes have in common, only in the process that writes.
    pub fn warn_once(&mut self, text: &str) {
        if self.world.writes() {
            self.logger.warn(text);
        }
    }

    /// A log that can't be written is warned of and ends nothing.
    pub fn warn_of(&mut self, logged: Result<(), LoggerError>) {
        if let Err(error) = logged {
            self.logger.warn(&error.to_string());
        }
    }
}

/// How a batch goes through the model.
#[derive(Debug, Clone, Copy)]
pub struct Passes {
    /// The number of parts in which it does, one after another.
    pub micro_batches: usize,
    /// In what number format.
    pub precision: Precision,
}

/// How [`Task::begin`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// This task needs no preparation, or it was done before.
    NotWanted,
    /// Parameters were set from the first batches.
    Done,
    /// A signal arrived; everything is as it was before.
    Stopped,
}

/// The result of a validation.
#[derive(Debug)]
pub struct Validated<E> {
    /// The figures, for the logs and to rank checkpoints.
    pub figures: Vec<(String, f64)>,
    /// The exhibits, for [`Task::show`].
    pub exhibits: E,
}

/// The figure that decides whether a checkpoint is the best.
#[derive(Debug)]
pub struct Ranked {
    /// The name of the figure.
    pub metric: &'static str,
    /// The value of the figure.
    pub value: f64,
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// The images that it was measured on.
    pub images: ValidationImages,
}

impl Ranked {
    /// The checkpoint of `step`, to be ranked by this figure.
    pub(super) fn candidate(&self, step: u64) -> Candidate<'_> {
        let Self { metric, value, higher_is_better, ref images } = *self;
        Candidate { step, metric, value, higher_is_better, images }
    }
}

/// One way to train: what a batch is, what is minimised and what is measured. The loop knows
/// nothing else.
///
/// Methods with a default implementation are for what only some tasks have.
pub trait Task {
    /// A batch.
    type Batch: Send;

    /// What a validation makes besides figures: pictures, for instance.
    type Exhibits;

    /// What a batch consists of, as the logs name it: `images`, for instance.
    const SAMPLES: &'static str;

    /// What trains beside the model, for messages: `discriminator`, for instance.
    const COMPANIONS: &'static str = "companions";

    /// What has an optimizer each. The first is the model's, which is the one that is averaged.
    fn groups(&self) -> Vec<ParameterGroup>;

    /// Runs once, before step 0. Sets parameters from the first batches, as k-means does with
    /// codes. The training then starts with the same batches.
    ///
    /// # Errors
    /// When the batches can't be read, or their results can't be used.
    fn begin(
        &mut self,
        _batches: &mut dyn Batches<Self::Batch>,
        _around: &mut Surroundings,
        _passes: Passes,
        _seed: Seed,
    ) -> Result<Begun, TrainError> {
        Ok(Begun::NotWanted)
    }

    /// Splits a batch into `parts` equal parts, in order.
    fn split(batch: &Self::Batch, parts: usize) -> Vec<Self::Batch>;

    /// Computes the losses of one micro-batch. The loop runs the backward pass.
    ///
    /// # Errors
    /// When the batch can't be used.
    fn step(&mut self, batch: &Self::Batch, at: At) -> Result<StepOutput, TrainError>;

    /// Runs once after the optimizers' steps, with the merged statistics of all micro-batches and
    /// processes.
    fn after_step(&mut self, _merged: &[Statistic], _world: &World, _seed: Seed) -> UpdateReport {
        UpdateReport::default()
    }

    /// Measures the model with its current weights.
    ///
    /// # Errors
    /// When the data can't be read, or numbers aren't finite.
    fn validate(&mut self, around: &mut Surroundings) -> Result<Validated<Self::Exhibits>, TrainError>;

    /// Every tensor of the model, parameters and buffers, in the order of their names.
    fn model(&self) -> Vec<Variable>;

    /// Every tensor that trains beside the model, in the order of their names. The checkpoint keeps
    /// them in a separate file, so that a model can be opened without them.
    fn companions(&self) -> Vec<Variable> {
        vec![]
    }

    /// Hook: the figure by which checkpoints are ranked, if any.
    fn rank(&self, _figures: &[(String, f64)]) -> Option<Ranked> {
        None
    }

    /// Hook: shows the exhibits of a validation, after its figures were logged.
    ///
    /// # Errors
    /// What ends the training: too many bad samples, for instance.
    fn show(&mut self, _exhibits: Self::Exhibits, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }

    /// Hook: the task's own part of a log row, over the steps since the previous row, in all
    /// processes together.
    ///
    /// # Errors
    /// When the processes can't add up their parts.
    fn row(&mut self, _world: &World) -> Result<Vec<(String, f64)>, WorldError> {
        Ok(vec![])
    }

    /// Hook: reads a whole log row and warns of what goes wrong.
    fn watch(&mut self, _row: &[(String, f64)], _around: &mut Surroundings) {}

    /// Hook: what the checkpoint's `state.json` holds besides the loop's own keys.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    fn state(&self) -> serde_json::Result<Map<String, Value>> {
        Ok(Map::new())
    }

    /// Hook: what several processes must see alike, besides the config: what it is in words, and a
    /// hash of it.
    fn sources(&self) -> Vec<(&'static str, String)> {
        vec![]
    }

    /// Hook: checks what a run left behind and takes over what [`Task::state`] saved, if there is a
    /// checkpoint. Nothing on disk has changed yet and nothing may change here. Returns what the user
    /// should know.
    ///
    /// # Errors
    /// When the run can't go on.
    fn resume(&mut self, _saved: Option<&Value>, _run: &RunFolder) -> Result<Vec<String>, TrainError> {
        Ok(vec![])
    }

    /// Hook: the run can go on, and its logs are not cut back yet. Writes the task's own files of
    /// the run.
    ///
    /// # Errors
    /// When one can't be written; the logs are as they were.
    fn prepare(&mut self, _run: &RunWriter) -> Result<(), TrainError> {
        Ok(())
    }

    /// Hook: the logs are open, and the training is about to begin or to go on.
    ///
    /// # Errors
    /// When one of the task's own files can't be written.
    fn opened(&mut self, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }
}
