//! Trains a run from its options, whatever its task.
//!
//! Of several processes each does the same, but only the first locks the run folder and writes to
//! it. The others wait for it where they need what it writes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::Device;

use super::libtorch::libtorch_version;
use super::resume::Earlier;
use super::settings::{TrainOptions, config_file, resolve, timeout};
use super::task::{self, Prepared, Ready, RunTask};
use super::{CONFIG, Tell, precision, together};
use crate::checkpoint::write_atomic;
use crate::config::{CHANGES_FILE, RootConfig, RunChange};
use crate::train::{Exactness, Machine, Outcome, Parts, Signals, Trainer};
use crate::world::{Meeting, World};
use pixtok_base::seed::Seed;
use pixtok_torch::{keep_freed_memory, set_deterministic, use_one_heap};

/// Starts or resumes a run and trains it, together with the other processes of `meeting`. Returns
/// how it ended, and the run's folder.
///
/// # Errors
/// Whatever is wrong with the settings, the data or the run, before the first step; what stops the
/// training.
pub fn train(options: &TrainOptions, meeting: Option<&Meeting>, tell: Tell) -> Result<(Outcome, PathBuf)> {
    let world = match meeting {
        Some(meeting) => {
            meeting.words().iter().filter(|_| meeting.rank == 0).for_each(|text| tell.note(text));
            World::join("train", meeting, timeout(&config_file(options)?, &options.overrides))?
        }
        None => World::single(),
    };
    let tell = tell.once(&world);
    let outcome = together::options(options, &world)
        .and_then(|options| task::chosen(&options)?.train(&options, &world, tell));
    let ending = outcome.as_ref().err().map(|error| format!("{error:#}"));
    world.leave(ending.as_deref());
    outcome
}

/// A run that was described and not started.
pub struct Described {
    /// The description.
    pub words: String,
    /// See [`Described::check_data`].
    pub(super) check_data: CheckData,
}

/// Reads all data of a run once.
pub(super) type CheckData = Box<dyn FnOnce(Tell) -> Result<(String, bool)>>;

impl Described {
    /// Reads all data once and tells what cannot be used. Returns the counts in words, and whether
    /// all of it can be used.
    ///
    /// # Errors
    /// When there is no data, or it cannot be listed.
    pub fn check_data(self, tell: Tell) -> Result<(String, bool)> {
        (self.check_data)(tell)
    }
}

/// Describes a run after reading everything that it would start from. With `print_config` the
/// description is a config with comments.
///
/// # Errors
/// The same as [`train`], but images and the weights of the loss's network may be missing.
pub fn describe(options: &TrainOptions, print_config: bool, tell: Tell) -> Result<Described> {
    task::chosen(options)?.describe(options, print_config, tell)
}

/// Checks everything that a training starts from. `world` is absent in a dry run, which takes no
/// lock.
fn prepare<R: RunTask>(options: &TrainOptions, world: Option<&World>, tell: Tell) -> Result<Prepared<R>> {
    let dry_run = world.is_none();
    let earlier = options.resume.as_deref().map(|run| {
        let _reading = tell.work("reading the run's checkpoints", None);
        Earlier::<R>::open(run, world)
    });
    let earlier = earlier.transpose()?;
    let (mut config, note) = resolve(options, earlier.as_ref(), dry_run, tell)?;
    let compute = options.compute;
    let compute = earlier.as_ref().map_or(compute, |run| run.compute(compute, world, tell));
    let compute = world.map_or(compute, |world| compute.shared(world));
    let device = compute.start(tell)?;
    let before = earlier.as_ref().map(|run| run.config.train());
    let settled = precision::settle(config.train_mut(), before, device)?;
    if let Some(earlier) = &earlier {
        earlier.check_config(&config)?;
    }
    let mut notes: Vec<String> = note.into_iter().collect();
    if let Some(earlier) = &earlier {
        earlier.check_checkpoint(options, tell)?;
        notes.extend(earlier.check_steps(&config)?);
    }
    if let Some(world) = world {
        // Before they connect: processes with different devices can't.
        let run = options.resume.clone().unwrap_or_else(|| run_folder(options));
        together::check(&config, earlier.as_ref(), (&run, device), world)?;
    }
    let world = world.cloned().unwrap_or_else(World::single);
    world.connect(device)?;
    Ok(Prepared { earlier, config, device, settled, notes, world })
}

/// Trains a run of the task `R`.
pub(super) fn train_as<R: RunTask>(
    options: &TrainOptions,
    world: &World,
    tell: Tell,
) -> Result<(Outcome, PathBuf)> {
    let mut prepared = prepare::<R>(options, Some(world), tell)?;
    let (device, world) = (prepared.device, prepared.world.clone());
    let built = R::build(&mut prepared, options, tell)?;
    // The run's file keeps the settings that it began with.
    let (began, changes) = match &prepared.earlier {
        Some(run) => run.kept(&prepared.config)?,
        None => (prepared.config.clone(), vec![]),
    };
    let config_text = toml::to_string(&began)?;
    let train = prepared.config.train().clone();
    set_deterministic(train.deterministic)?;
    let (run, resumed) = match prepared.earlier.as_mut().and_then(Earlier::take) {
        Some((run, resumed)) => (run, Some(resumed)),
        None => (together::create(&run_folder(options), &world)?, None),
    };
    let goes_on = resumed.as_ref().is_some_and(|resumed| resumed.loaded.is_some());
    if goes_on && device.is_cuda() && !train.deterministic {
        prepared.notes.push(
            "on CUDA without train.deterministic a resumed run is close to the undisturbed one, not bit for bit"
                .to_owned(),
        );
    }
    R::announce(&built, &prepared, options, tell)?;
    let path = run.folder().path().to_owned();
    let exactness = exactness(&began, device)?;
    let Ready { task, batches, told_late } = R::task(built, &prepared, exactness, options, &world)?;
    together::check_task(&task, &world)?;
    if prepared.earlier.is_none() && world.writes() {
        // Written before the logs, so that a folder with logs always has its config.
        write_atomic(&path.join(CONFIG), config_text.as_bytes())?;
    }
    let trainer = Trainer::new(Parts {
        seed: Seed(prepared.config.seed()),
        train,
        config_text: toml::to_string(&prepared.config)?,
        task,
        batches,
        device,
        precision: prepared.settled.precision,
        run,
        resumed,
        save_first: options.init_from.is_some(),
        signals: Signals::listen().context("cannot listen for signals")?,
        world: world.clone(),
    })?;
    world.wait_for_the_first()?;
    told_late(tell);
    let Prepared { earlier, config, mut notes, .. } = prepared;
    if earlier.is_some() && world.writes() {
        // Written only now, so that a refused resume leaves the config unchanged.
        write_changes(&path, &changes)?;
        write_atomic(&path.join(CONFIG), config_text.as_bytes())?;
    }
    notes.extend(R::notes(&config)?);
    notes.iter().for_each(|text| tell.note(text));
    Ok((trainer.run()?, path))
}

/// Describes a training of the task `R`.
pub(super) fn describe_as<R: RunTask>(
    options: &TrainOptions,
    print_config: bool,
    tell: Tell,
) -> Result<Described> {
    R::describe(prepare::<R>(options, None, tell)?, options, print_config, tell)
}

/// Frees memory in a way that suits a training on the CPU.
pub(super) fn suit_memory(device: Device) -> Result<()> {
    if !device.is_cuda() {
        keep_freed_memory()?;
        use_one_heap()?;
    }
    Ok(())
}

/// What exact resumption of a run depends on in this process. `config` is the one that it began
/// with.
pub(super) fn exactness<C: RootConfig>(config: &C, device: Device) -> Result<Exactness> {
    Ok(Exactness {
        config: config.exact_digest()?,
        threads: tch::get_num_threads(),
        machine: Machine::here(device, libtorch_version()),
    })
}

/// Records how the settings changed since the run began, if they did.
fn write_changes(run: &Path, changes: &[RunChange]) -> Result<()> {
    let path = run.join(CHANGES_FILE);
    if changes.is_empty() && !path.exists() {
        return Ok(());
    }
    Ok(write_atomic(&path, RunChange::lines(changes)?.as_bytes())?)
}

/// The absolute path, for the run's records: the run may be resumed from a different folder.
pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The folder from `--run`, or else `checkpoints/` and the config's name.
pub(super) fn run_folder(options: &TrainOptions) -> PathBuf {
    let name = options.config.as_deref().and_then(Path::file_stem).unwrap_or_default();
    options.run.clone().unwrap_or_else(|| Path::new("checkpoints").join(name))
}
