//! What is trained. The loop is written over [`Task`]: another way to train is a further task, never
//! a further loop.

use serde_json::{Map, Value};
use signal_hook::consts::SIGTERM;
use tch::Tensor;

use super::{Signals, TrainError};
use crate::checkpoint::{Candidate, RunFolder, RunWriter, ValidationImages};
use crate::logger::{Logger, LoggerError};
use crate::optim;
use crate::variables::Variable;
use crate::world::{World, WorldError};
use pixtok_base::seed::Seed;
use pixtok_torch::Precision;

pub(super) use crate::quantizer::{Monitor, Statistic, UpdateReport, merge};

/// Which of the task's groups: its place in [`Task::groups`].
pub type GroupId = usize;

/// Where batches go on, in the form of the checkpoint. Only the [`Batches`] that wrote it read it.
pub type Bookmark = Value;

/// Parameters with an optimizer of their own.
#[derive(Debug)]
pub struct ParameterGroup {
    /// As in the logs.
    pub name: &'static str,
    /// Those that learn.
    pub parameters: Vec<Variable>,
    /// How they learn.
    pub optimizer: optim::Config,
    /// Where the config has these settings, for messages: `optimizer`, for instance.
    pub table: &'static str,
    /// The step from which they learn, where their schedule begins.
    pub start: u64,
}

/// Where in the training a micro-batch is.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The optimizer step, counted from 0.
    pub step: u64,
    /// Its place in the step.
    pub micro_batch: usize,
    /// Of its random decisions.
    pub seed: Seed,
}

/// What one micro-batch gives the loop.
#[derive(Debug)]
pub struct StepOutput {
    /// A loss for each group that learns at this step, with gradient for its parameters only.
    pub groups: Vec<(GroupId, Tensor)>,
    /// For the logs: named scalars, detached; a row shows those of its last step.
    pub terms: Vec<(String, Tensor)>,
    /// For [`Task::after_step`].
    pub statistics: Vec<Statistic>,
    /// For the logs: a row shows their mean over its steps.
    pub monitors: Vec<Monitor>,
}

/// A batch as it comes from its source.
#[derive(Debug)]
pub struct Fetched<B> {
    /// To train on.
    pub batch: B,
    /// How many samples it has, for the speed in the logs.
    pub samples: usize,
    /// Their names, for messages.
    pub names: Vec<String>,
    /// Whole passes over the data before the end of this batch.
    pub epoch: u64,
    /// Where the batches go on after it.
    pub bookmark: Bookmark,
}

/// Where the batches of a training come from: an endless sequence that can be entered at any of its
/// places.
pub trait Batches<B> {
    /// The beginning of the sequence.
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
    /// From reading the data.
    fn next(&mut self) -> Result<Fetched<B>, TrainError>;

    /// Writes down which samples the last [`Batches::next`] left out because they are bad.
    ///
    /// # Errors
    /// When they are too many.
    fn note_skipped(&mut self, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }
}

/// What a training has around it, lent to the task and to its batches.
pub struct Surroundings {
    /// Steps done.
    pub step: u64,
    /// The run folder, locked.
    pub run: RunWriter,
    /// The run's logs.
    pub logger: Logger,
    /// The signals that end a training.
    pub signals: Signals,
    /// Who else trains.
    pub world: World,
}

impl Surroundings {
    /// The signal that ends the training, in all processes if it came to one of them.
    ///
    /// # Errors
    /// When the processes can't agree.
    pub fn interrupted(&self) -> Result<Option<i32>, WorldError> {
        let own = self.signals.came();
        let anywhere = self.world.any(own.is_some())?;
        Ok(anywhere.then(|| own.unwrap_or(SIGTERM)))
    }

    /// Logs a row of this step, in the process that writes.
    pub fn log(&mut self, row: &[(String, f64)]) {
        if self.world.writes() {
            let logged = self.logger.log(self.step, row);
            self.warn_of(logged);
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
    /// This task needs no beginning, or has already had it.
    NotWanted,
    /// Parameters were set from the first batches.
    Done,
    /// A signal came; everything is as it was before.
    Stopped,
}

/// What a validation found.
#[derive(Debug)]
pub struct Validated<E> {
    /// For the logs, and to rank checkpoints by.
    pub figures: Vec<(String, f64)>,
    /// For [`Task::show`].
    pub exhibits: E,
}

/// The figure that decides whether a checkpoint is the best.
#[derive(Debug)]
pub struct Ranked {
    /// Its name.
    pub metric: &'static str,
    /// The figure.
    pub value: f64,
    /// Which way is better.
    pub higher_is_better: bool,
    /// What it was measured on.
    pub images: ValidationImages,
}

impl Ranked {
    /// The checkpoint of `step` with this figure.
    pub(super) fn candidate(&self, step: u64) -> Candidate<'_> {
        let Self { metric, value, higher_is_better, ref images } = *self;
        Candidate { step, metric, value, higher_is_better, images }
    }
}

/// One way to train: what a batch is, what is minimised, what is measured. The loop knows nothing
/// else.
///
/// Methods with a default are for what one task has and another doesn't.
pub trait Task {
    /// What a step is taken on.
    type Batch: Send;

    /// What a validation makes besides figures: pictures, for instance.
    type Exhibits;

    /// What a batch consists of, as the logs call it: `images`, for instance.
    const SAMPLES: &'static str;

    /// What trains beside the model, for messages: `discriminator`, for instance.
    const COMPANIONS: &'static str = "companions";

    /// What has an optimizer each. The first is the model's, which is the one that is averaged.
    fn groups(&self) -> Vec<ParameterGroup>;

    /// Once, before step 0: sets parameters from the first batches, as k-means does with codes. The
    /// training then begins with the same batches.
    ///
    /// # Errors
    /// From reading the batches, and from what is computed of them.
    fn begin(
        &mut self,
        _batches: &mut dyn Batches<Self::Batch>,
        _around: &mut Surroundings,
        _passes: Passes,
        _seed: Seed,
    ) -> Result<Begun, TrainError> {
        Ok(Begun::NotWanted)
    }

    /// A batch in `parts` equal parts, in order.
    fn split(batch: &Self::Batch, parts: usize) -> Vec<Self::Batch>;

    /// Losses of one micro-batch; the loop goes backward.
    ///
    /// # Errors
    /// When the batch can't be used.
    fn step(&mut self, batch: &Self::Batch, at: At) -> Result<StepOutput, TrainError>;

    /// Once after the optimizers' steps, with the statistics of all micro-batches merged.
    fn after_step(&mut self, _merged: &[Statistic], _world: &World, _seed: Seed) -> UpdateReport {
        UpdateReport::default()
    }

    /// Measures the model with its present weights.
    ///
    /// # Errors
    /// From reading the data, and numbers that aren't finite.
    fn validate(&mut self, around: &mut Surroundings) -> Result<Validated<Self::Exhibits>, TrainError>;

    /// Every tensor of the model, parameters and buffers, in the order of their names.
    fn model(&self) -> Vec<Variable>;

    /// Every tensor that trains beside the model, in the order of their names. The checkpoint has
    /// them in a file of their own, so that a model can be opened without them.
    fn companions(&self) -> Vec<Variable> {
        vec![]
    }

    /// Hook: the figure by which checkpoints are ranked, if they are.
    fn rank(&self, _figures: &[(String, f64)]) -> Option<Ranked> {
        None
    }

    /// Hook: shows what a validation made, after its figures were logged.
    ///
    /// # Errors
    /// What ends the training: too many bad samples, for instance.
    fn show(&mut self, _exhibits: Self::Exhibits, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }

    /// Hook: the task's own part of a log row, over the steps since the row before.
    fn row(&mut self) -> Vec<(String, f64)> {
        vec![]
    }

    /// Hook: looks at a whole log row, to warn of what goes wrong.
    fn watch(&mut self, _row: &[(String, f64)], _around: &mut Surroundings) {}

    /// Hook: what the checkpoint's `state.json` holds besides the loop's own keys.
    ///
    /// # Errors
    /// When it is no JSON.
    fn state(&self) -> serde_json::Result<Map<String, Value>> {
        Ok(Map::new())
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
    /// When a file of the task's own can't be written.
    fn opened(&mut self, _around: &mut Surroundings) -> Result<(), TrainError> {
        Ok(())
    }
}
