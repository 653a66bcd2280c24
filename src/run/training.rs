//! Trains a run from its options.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::images::{check_batch, tell_omitted, tell_shared, training_set, validation_set};
use super::libtorch::libtorch_version;
use super::networks::Networks;
use super::precision::{self, Settled};
use super::resume::Earlier;
use super::settings::{TrainOptions, resolve};
use super::{CONFIG, Tell, dry_run, init, loss};
use crate::checkpoint::{RunWriter, write_atomic};
use crate::config::{CHANGES_FILE, Config, RunChange};
use crate::tasks::TaskKind;
use crate::tasks::tokenizer::{
    Circumstances, ImageBatches, LossWeights, Samples, Setup, State, TokenizerTask,
};
use crate::train::{Machine, Outcome, Parts, Signals, Trainer};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_images::data::{Cache, Dataset};
use pixtok_torch::{keep_freed_memory, set_deterministic, use_one_heap};

/// A training whose settings have been checked. Nothing on disk has changed yet, but a resumed run
/// is locked.
struct Prepared {
    earlier: Option<Earlier>,
    config: Config,
    device: Device,
    settled: Settled,
    /// The path of the weights of the loss's network, if the loss uses one.
    weights: Result<Option<PathBuf>>,
    /// Messages to show before the first step.
    notes: Vec<String>,
}

/// Checks everything that a training starts from. A dry run takes no lock.
fn prepare(options: &TrainOptions, dry_run: bool, tell: Tell) -> Result<Prepared> {
    let earlier = options.resume.as_deref().map(|run| Earlier::open(run, dry_run)).transpose()?;
    let (mut config, note) = resolve(options, earlier.as_ref(), dry_run, tell)?;
    let compute = options.compute;
    let compute = earlier.as_ref().map_or(compute, |run| run.compute(compute, tell));
    let device = compute.start(tell)?;
    let settled = precision::settle(&mut config, earlier.as_ref().map(|run| &run.config), device)?;
    if let Some(earlier) = &earlier {
        earlier.check_config(&config)?;
    }
    let given = options.lpips_weights.clone().or_else(|| earlier.as_ref().and_then(Earlier::loss_weights));
    let weights = loss::loss_weights(&config.loss, given.as_deref());
    let mut notes: Vec<String> = note.into_iter().collect();
    if let Some(earlier) = &earlier {
        earlier.check_checkpoint(options.restart, tell)?;
        notes.extend(earlier.check_steps(&config)?);
    }
    Ok(Prepared { earlier, config, device, settled, weights, notes })
}

/// Starts or resumes a run and trains it. Returns how it ended, and the run's folder.
///
/// # Errors
/// Whatever is wrong with the settings, the images or the run, before the first step; what stops the
/// training.
pub fn train(options: &TrainOptions, world: &World, tell: Tell) -> Result<(Outcome, PathBuf)> {
    let prepared = prepare(options, false, tell)?;
    match prepared.config.task {
        TaskKind::Tokenizer => train_tokenizer(prepared, options, world, tell),
    }
}

fn train_tokenizer(
    prepared: Prepared,
    options: &TrainOptions,
    world: &World,
    tell: Tell,
) -> Result<(Outcome, PathBuf)> {
    let Prepared { mut earlier, mut config, device, settled, weights, mut notes } = prepared;
    let weights = weights?;
    if !device.is_cuda() {
        keep_freed_memory()?;
        use_one_heap()?;
    }
    let (loss, weights_of_loss) = loss::loss(&config.loss, weights, device)?;
    let train_set = Arc::new(training_set(&config)?.with_cache(Cache::new(&config.data)?));
    check_batch(&config, &train_set)?;
    // Without the cache, whose resizing differs in the last bit, so that the figures are those of
    // `pixtok eval`.
    let val_set = Arc::new(validation_set(&config)?.1);
    tell_omitted([&*train_set, &*val_set], tell);
    let samples = Samples::read(&val_set, &config.data, &config.eval)?;
    let sets = (Arc::clone(&train_set), Arc::clone(&val_set));
    let networks = Networks::build(&config, device)?;
    (config.train.keeps_tokens_of, config.train.init_from) = match (&options.init_from, &earlier) {
        (Some(other), _) => (init::from_run(other, &config, &networks, tell)?, Some(absolute(other))),
        (None, Some(run)) => {
            let train = &run.config.train;
            (train.keeps_tokens_of.clone(), train.init_from.clone())
        }
        (None, None) => (None, None),
    };
    // The run's file keeps the settings that it began with.
    let (began, changes) = match &earlier {
        Some(run) => run.kept(&config)?,
        None => (config.clone(), vec![]),
    };
    let config_text = began.to_toml()?;
    let objective = networks.objective(&config, loss);
    set_deterministic(config.train.deterministic)?;
    let (run, resumed) = match earlier.as_mut().and_then(Earlier::take) {
        Some((run, resumed)) => (run, Some(resumed)),
        None => (RunWriter::create(&run_folder(options))?, None),
    };
    let goes_on = resumed.as_ref().is_some_and(|resumed| resumed.loaded.is_some());
    if goes_on && device.is_cuda() && !config.train.deterministic {
        notes.push(
            "on CUDA without train.deterministic a resumed run is close to the undisturbed one, not bit for bit"
                .to_owned(),
        );
    }
    let path = run.folder().path().to_owned();
    if earlier.is_none() {
        // Written before the logs, so that a folder with logs always has its config.
        write_atomic(&path.join(CONFIG), config_text.as_bytes())?;
    }
    let circumstances = circumstances(&began, device, (&train_set, &val_set), weights_of_loss)?;
    let before = earlier.as_ref().map(|run| (run.config.data.clone(), run.config.eval.clone()));
    let (seed, images) = (Seed(config.seed), Arc::clone(&train_set));
    let batches = ImageBatches::new(images, &config.data, config.train.batch_size, seed, device, world);
    let task = TokenizerTask::new(Setup {
        objective,
        batch_size: config.train.batch_size,
        best_metric: config.train.best_metric,
        collapse: config.train.collapse.clone(),
        data: config.data.clone(),
        eval: config.eval.clone(),
        train_set,
        val_set,
        samples,
        circumstances,
        before,
        accept_inexact: options.accept_inexact,
    });
    let trainer = Trainer::new(Parts {
        seed,
        train: config.train.clone(),
        config_text: config.to_toml()?,
        task,
        batches: Box::new(batches),
        device,
        precision: settled.precision,
        run,
        resumed,
        save_first: options.init_from.is_some(),
        signals: Signals::listen().context("cannot listen for signals")?,
        world: world.clone(),
    })?;
    // Only after different images were refused, since this may read many of them.
    tell_shared(&sets.0, &sets.1, tell);
    if earlier.is_some() {
        // Written only now, so that a refused resume leaves the config unchanged.
        write_changes(&path, &changes)?;
        write_atomic(&path.join(CONFIG), config_text.as_bytes())?;
    }
    if settled.reason.is_some() {
        notes.push(format!("training in {}", settled.words()));
    } else {
        tell.detail(|| format!("training in {}", settled.words()));
    }
    notes.extend(config.advice()?);
    notes.extend(config.micro_batch_terms().map(|terms| format!("micro-batches: {terms}")));
    notes.extend(words_of_adversary(&config));
    notes.iter().for_each(|text| tell.note(text));
    Ok((trainer.run()?, path))
}

/// Records how the settings changed since the run began, if they did.
fn write_changes(run: &Path, changes: &[RunChange]) -> Result<()> {
    let path = run.join(CHANGES_FILE);
    if changes.is_empty() && !path.exists() {
        return Ok(());
    }
    Ok(write_atomic(&path, RunChange::lines(changes)?.as_bytes())?)
}

/// The circumstances of a run in this process. `config` is the one that it began with.
fn circumstances(
    config: &Config,
    device: Device,
    (train_set, val_set): (&Dataset, &Dataset),
    loss_weights: Option<LossWeights>,
) -> Result<Circumstances> {
    Ok(Circumstances {
        config: config.exact_digest()?,
        threads: tch::get_num_threads(),
        machine: Machine::here(device, libtorch_version()),
        data: train_set.fingerprint(),
        val_data: val_set.fingerprint(),
        loss_weights,
    })
}

/// Describes a run after reading everything that it would start from.
///
/// # Errors
/// The same as [`train`], but images and the weights of the loss's network may be missing.
pub fn describe(options: &TrainOptions, tell: Tell) -> Result<String> {
    let Prepared { earlier, config, device, settled, weights, mut notes } = prepare(options, true, tell)?;
    let config = &config;
    let networks = Networks::build(config, device)?;
    if let Some(other) = &options.init_from {
        init::from_run(other, config, &networks, tell)?;
    }
    // Checks that the file holds the right weights.
    let weights = weights.and_then(|path| Ok((loss::loss(&config.loss, path.clone(), device)?.1, path)));
    let (loss_weights, weights) = match weights {
        Ok((noted, path)) => (noted, Ok(path)),
        Err(error) => (None, Err(error)),
    };
    // The images may be on a different machine, so this is checked only if everything is here.
    if let (Some(earlier), Ok(train_set), Ok((_, val_set)), Ok(_)) =
        (earlier, training_set(config), validation_set(config), &weights)
    {
        let state = State::new(circumstances(config, device, (&train_set, &val_set), loss_weights)?);
        notes.extend(earlier.check_state(state, options.accept_inexact, (&config.data, &train_set))?);
        notes.extend(earlier.other_images(config, &val_set)?);
    }
    notes.iter().for_each(|text| tell.note(text));
    dry_run::words(config, &settled, &networks, weights, tell)
}

/// Describes when the discriminator starts to take part.
fn words_of_adversary(config: &Config) -> Option<String> {
    let (start, steps) = (config.adversarial.as_ref()?.start, config.train.steps);
    Some(if start < steps {
        format!("the discriminator takes part from step {start}")
    } else {
        format!("the discriminator never takes part: adversarial.start is {start} and train.steps {steps}")
    })
}

/// The absolute path, for the run's records: the run may be resumed from a different folder.
pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The folder from `--run`, or else `checkpoints/` and the config's name.
fn run_folder(options: &TrainOptions) -> PathBuf {
    let name = options.config.as_deref().and_then(Path::file_stem).unwrap_or_default();
    options.run.clone().unwrap_or_else(|| Path::new("checkpoints").join(name))
}
