//! `pixtok train`: from a config and flags to a finished run.

mod dry_run;
mod init;
mod memory;
mod networks;
mod precision;
mod resume;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::libtorch::libtorch_version;
use super::{Misuse, note, open, print};
use crate::checkpoint::{Resumed, RunWriter, write_atomic};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::data::{Cache, DataError, Dataset, Split};
use crate::seed::Seed;
use crate::torch::{keep_freed_memory, set_deterministic, use_one_heap};
use crate::train::{Machine, Outcome, Parts, Signals, State, Trainer};
use networks::Networks;
pub(super) use networks::loss_weights_among;
use precision::Settled;
use resume::Earlier;

/// Trains; the exit code is 0, or 128 + n after signal n.
pub(super) fn run(args: &TrainArgs) -> Result<u8> {
    let earlier = args.resume.as_deref().map(Earlier::open).transpose()?;
    let mut config = resolve(args, earlier.as_ref())?;
    let compute = earlier.as_ref().map_or_else(|| args.compute.clone(), |run| run.compute(&args.compute));
    let device = open::compute(&compute)?;
    let settled = precision::settle(&mut config, earlier.as_ref().map(|run| &run.config), device)?;
    if let Some(earlier) = &earlier {
        earlier.check_config(&config)?;
    }
    let given = args.lpips_weights.clone().or_else(|| earlier.as_ref().and_then(Earlier::loss_weights));
    let weights = networks::loss_weights(&config.loss, given.as_deref());
    if args.dry_run {
        return dry_run(args, &config, &settled, &Networks::build(&config, device)?, weights);
    }
    train(args, earlier, config, (device, &settled), weights?)
}

fn train(
    args: &TrainArgs,
    earlier: Option<Earlier>,
    mut config: Config,
    (device, settled): (Device, &Settled),
    weights: Option<PathBuf>,
) -> Result<u8> {
    if !device.is_cuda() {
        keep_freed_memory()?;
        use_one_heap()?;
    }
    let (loss, weights_of_loss) = networks::loss(&config.loss, weights, device)?;
    let train_set = Arc::new(training_set(&config)?.with_cache(Cache::new(&config.data)?));
    check_batch(&config, &train_set)?;
    // Without the cache, whose resizing differs in the last bit: figures are those that `pixtok eval` gives.
    let val_set = Arc::new(validation_set(&config)?.1);
    let networks = Networks::build(&config, device)?;
    if let Some(other) = &args.init_from {
        config.train.keeps_tokens_of = init::from_run(other, &config, &networks)?;
        config.train.started_from = Some(other.display().to_string());
    }
    let objective = networks.objective(&config, loss);
    set_deterministic(config.train.deterministic)?;
    let (run, resumed) = match &earlier {
        Some(earlier) => {
            let run = RunWriter::resume(&earlier.path)?;
            let resumed = earlier.checkpoint(&run, args.restart)?;
            config.train.keeps_tokens_of = earlier.config.train.keeps_tokens_of.clone();
            config.train.started_from = earlier.config.train.started_from.clone();
            (run, resumed)
        }
        None => (RunWriter::create(&run_folder(args))?, Resumed { loaded: None, damaged: vec![] }),
    };
    if let (Some(earlier), Some(loaded)) = (&earlier, &resumed.loaded) {
        earlier.check_steps(loaded.step, &config)?;
        note(&format!("going on from step {} of {}", loaded.step, earlier.path.display()));
        if device.is_cuda() && !config.train.deterministic {
            note(
                "on CUDA without train.deterministic a resumed run is close to the undisturbed one, not bit for bit",
            );
        }
    }
    let path = run.folder().path().to_owned();
    let config_text = config.to_toml()?;
    if earlier.is_none() {
        // A folder with logs in it is a run, and then has its config too.
        write_atomic(&path.join(open::CONFIG), config_text.as_bytes())?;
    }
    let state = State::new(
        tch::get_num_threads(),
        Machine::here(device, libtorch_version()),
        train_set.fingerprint(),
        weights_of_loss,
    );
    let trainer = Trainer::new(Parts {
        seed: Seed(config.seed),
        train: config.train.clone(),
        data: config.data.clone(),
        eval: config.eval.clone(),
        config_text: config_text.clone(),
        objective,
        device,
        precision: settled.precision,
        train_set,
        val_set,
        run,
        resumed: earlier.is_some(),
        resumed_from: resumed,
        state,
        accept_inexact: args.accept_inexact,
        save_first: args.init_from.is_some(),
        signals: Signals::listen().context("cannot listen for signals")?,
    })?;
    if earlier.is_some() {
        // Only now: a resume that was refused leaves the config as it was.
        write_atomic(&path.join(open::CONFIG), config_text.as_bytes())?;
    }
    if settled.reason.is_some() {
        note(&format!("training in {}", settled.words()));
    }
    if let Some(terms) = config.micro_batch_terms() {
        note(&format!("micro-batches: {terms}"));
    }
    note_of_adversary(&config);
    report(trainer.run()?, &path)
}

/// Says what the run will be, having read all that it would begin with.
fn dry_run(
    args: &TrainArgs,
    config: &Config,
    precision: &Settled,
    networks: &Networks,
    weights: Result<Option<PathBuf>>,
) -> Result<u8> {
    if let Some(other) = &args.init_from {
        init::from_run(other, config, networks)?;
    }
    // Whether they are what they should be.
    let weights = weights.and_then(|path| {
        networks::loss(&config.loss, path.clone(), networks.device())?;
        Ok(path)
    });
    print(&dry_run::words(config, precision, networks, weights)?).map(|()| 0)
}

/// Says how a training ended; the exit code.
fn report(outcome: Outcome, run: &Path) -> Result<u8> {
    match outcome {
        Outcome::Finished { checkpoint } => {
            print(&format!("trained: {}\n", checkpoint.display())).map(|()| 0)
        }
        Outcome::Interrupted { signal, checkpoint } => {
            note(&format!(
                "stopped by signal {signal}; saved {}; go on with --resume {}",
                checkpoint.display(),
                run.display()
            ));
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

/// The config with flags and overrides applied, checked. A run that goes on has its own.
fn resolve(args: &TrainArgs, earlier: Option<&Earlier>) -> Result<Config> {
    let own = earlier.map(|run| run.path.join(open::CONFIG));
    let file = args.config.clone().or(own).ok_or_else(no_config)?;
    let (mut config, notes) = Config::read(&file, &args.overrides)?;
    for text in notes {
        note(&text);
    }
    if let Some(folder) = &args.data {
        config.data.train = text_of(folder)?;
        // The config's validation images belong to the config's training images.
        config.data.val = None;
    }
    if let Some(folder) = &args.val_data {
        config.data.val = Some(text_of(folder)?);
    }
    config.check()?;
    if let (Some(earlier), Some(run)) = (earlier, &args.run) {
        if fs::canonicalize(run).ok() != fs::canonicalize(&earlier.path).ok() {
            let (run, path) = (run.display(), earlier.path.display());
            return Err(Misuse(format!("--run is {run}, and --resume {path}; leave --run out")).into());
        }
    }
    if earlier.is_none() && args.init_from.is_none() && !args.dry_run {
        init::from_nothing(&config)?;
    }
    Ok(config)
}

fn no_config() -> Misuse {
    Misuse("there is no config; give one, or a run to go on with by --resume".into())
}

/// Says when the discriminator begins.
fn note_of_adversary(config: &Config) {
    let Some(adversarial) = &config.adversarial else { return };
    let (start, steps) = (adversarial.start, config.train.steps);
    note(&if start < steps {
        format!("the discriminator takes part from step {start}")
    } else {
        format!("the discriminator never takes part: adversarial.start is {start} and train.steps {steps}")
    });
}

fn text_of(path: &Path) -> Result<String> {
    let text =
        path.to_str().ok_or_else(|| Misuse(format!("{} is no UTF-8 path; rename it", path.display())))?;
    Ok(text.to_owned())
}

/// `--run`, or `checkpoints/` and the config's name.
fn run_folder(args: &TrainArgs) -> PathBuf {
    let name = args.config.as_deref().and_then(Path::file_stem).unwrap_or_default();
    args.run.clone().unwrap_or_else(|| Path::new("checkpoints").join(name))
}

/// The training images of a config.
pub(super) fn training_set(config: &Config) -> Result<Dataset> {
    let split = match config.data.val {
        Some(_) => Split::All,
        None => Split::Train { val_share: config.data.val_share },
    };
    Ok(Dataset::open(Path::new(&config.data.train), split)?)
}

/// The validation images of a config, and in words where they are.
pub(super) fn validation_set(config: &Config) -> Result<(String, Dataset)> {
    let data = &config.data;
    Ok(match &data.val {
        Some(folder) => (folder.clone(), Dataset::open(Path::new(folder), Split::All)?),
        None => {
            let split = Split::Val { val_share: data.val_share };
            let words = format!("a share of {} of {}", data.val_share, data.train);
            (words, Dataset::open(Path::new(&data.train), split)?)
        }
    })
}

/// Known before the first image is decoded.
pub(super) fn check_batch(config: &Config, train_set: &Dataset) -> Result<()> {
    let (batch_size, total) = (config.train.batch_size, train_set.len());
    if batch_size > total {
        return Err(DataError::BatchTooLarge { batch_size, good: total, total, bad: vec![] }.into());
    }
    Ok(())
}
