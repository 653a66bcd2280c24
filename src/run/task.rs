//! What a run needs of its task, and the one place that knows all tasks.

use std::marker::PhantomData;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;
use tch::Device;

use super::precision::Settled;
use super::resume::Earlier;
use super::settings::{TrainOptions, config_file};
use super::tokenizer::TokenizerRun;
use super::training::{Described, describe_as, train_as};
use super::{Run, Tell};
use crate::config::{RootConfig, task_of};
use crate::tasks::TaskKind;
use crate::train::{Batches, Exactness, Outcome, Progress, StateError, Task};
use crate::world::World;

/// From a config to a training, and back from a checkpoint. `training`, `resume` and `settings` are
/// written over it.
pub(super) trait RunTask: Sized {
    /// The root config.
    type Config: RootConfig;

    /// The task's part of a checkpoint's state.
    type State;

    /// What is trained.
    type Task: Task;

    /// What is read and built before the run folder is touched.
    type Built;

    /// The config of a run of this task.
    fn config_of(run: &Run) -> Result<Self::Config>;

    /// What a checkpoint's state says of the loop and of the task.
    fn saved(state: &Value) -> Result<(Progress, Self::State), StateError>;

    /// What exact resumption from this state depends on in every task.
    fn exactness(state: &Self::State) -> &Exactness;

    /// Writes the flags that say where things are into the config.
    fn place(config: &mut Self::Config, options: &TrainOptions, resumed: bool) -> Result<()>;

    /// Refuses a config that a new training, or a resumed one, must not have. The config itself was
    /// checked before.
    fn check_start(
        config: &Self::Config,
        options: &TrainOptions,
        earlier: Option<&Earlier<Self>>,
        dry_run: bool,
        tell: Tell,
    ) -> Result<()>;

    /// A note on how flags changed the config that was `written`, for a new training.
    fn note(_options: &TrainOptions, _written: &Self::Config, _config: &Self::Config) -> Option<String> {
        None
    }

    /// Reads and builds what the training starts from. May record in the config what it started
    /// from.
    fn build(prepared: &mut Prepared<Self>, options: &TrainOptions, tell: Tell) -> Result<Self::Built>;

    /// Tells what the training begins with, and reads all data once if the options ask for it. The
    /// run folder is known to be free, and nothing in it has changed.
    fn announce(
        _built: &Self::Built,
        _prepared: &Prepared<Self>,
        _options: &TrainOptions,
        _tell: Tell,
    ) -> Result<()> {
        Ok(())
    }

    /// The task and its batches. `exactness` is that of this process, with the config that the run
    /// began with.
    fn task(
        built: Self::Built,
        prepared: &Prepared<Self>,
        exactness: Exactness,
        options: &TrainOptions,
        world: &World,
    ) -> Result<Ready<Self::Task>>;

    /// What the user should know of the settings before the first step.
    fn notes(config: &Self::Config) -> Result<Vec<String>>;

    /// Describes the training without starting it: `pixtok train --dry-run`. With `print_config` the
    /// description is a config with comments.
    fn describe(
        prepared: Prepared<Self>,
        options: &TrainOptions,
        print_config: bool,
        tell: Tell,
    ) -> Result<Described>;
}

/// A training whose settings have been checked. Nothing on disk has changed yet, but a resumed run
/// is locked.
pub(super) struct Prepared<R: RunTask> {
    pub earlier: Option<Earlier<R>>,
    pub config: R::Config,
    pub device: Device,
    pub settled: Settled,
    /// Messages to show before the first step.
    pub notes: Vec<String>,
    /// The processes that train together, connected.
    pub world: World,
}

/// A task that can be trained.
pub(super) struct Ready<T: Task> {
    pub task: T,
    pub batches: Box<dyn Batches<T::Batch>>,
    /// Tells the user what takes long to find out. Called once the checkpoint fits.
    pub told_late: Box<dyn FnOnce(Tell)>,
}

/// A task, whatever its types.
pub(super) trait AnyTask {
    /// Starts or resumes a run and trains it.
    fn train(&self, options: &TrainOptions, world: &World, tell: Tell) -> Result<(Outcome, PathBuf)>;

    /// Describes what would be trained. With `print_config` the description is a config with
    /// comments.
    fn describe(&self, options: &TrainOptions, print_config: bool, tell: Tell) -> Result<Described>;
}

struct Of<R>(PhantomData<R>);

impl<R: RunTask> AnyTask for Of<R> {
    fn train(&self, options: &TrainOptions, world: &World, tell: Tell) -> Result<(Outcome, PathBuf)> {
        train_as::<R>(options, world, tell)
    }

    fn describe(&self, options: &TrainOptions, print_config: bool, tell: Tell) -> Result<Described> {
        describe_as::<R>(options, print_config, tell)
    }
}

/// The task of a training.
pub(super) fn chosen(options: &TrainOptions) -> Result<Box<dyn AnyTask>> {
    let task: Box<dyn AnyTask> = match task_of(&config_file(options)?, &options.overrides) {
        TaskKind::Tokenizer => Box::new(Of::<TokenizerRun>(PhantomData)),
    };
    Ok(task)
}
