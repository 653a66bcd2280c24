//! `pixtok train`: from a config and flags to a finished run.

mod dry_run;
mod init;
mod memory;
mod networks;
mod precision;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::{Misuse, note, open, print};
use crate::checkpoint::{Loaded, RunWriter, write_atomic};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::data::{Cache, DataError, Dataset, Split};
use crate::seed::Seed;
use crate::torch::{keep_freed_memory, set_deterministic};
use crate::train::{Outcome, Parts, Signals, State, Trainer};
use networks::Networks;
pub(super) use networks::loss_weights_among;
use precision::Settled;

/// Trains; the exit code is 0, or 128 + n after signal n.
pub(super) fn run(args: &TrainArgs) -> Result<u8> {
    let mut config = resolve(args)?;
    let device = open::compute(&args.compute)?;
    let settled = precision::settle(&mut config, args.resume.then(|| run_folder(args)).as_deref(), device)?;
    let weights = networks::loss_weights(&config.loss, args.lpips_weights.as_deref());
    if args.dry_run {
        return dry_run(args, &config, &settled, &Networks::build(&config, device)?, weights);
    }
    train(args, config, (device, &settled), weights?)
}

fn train(
    args: &TrainArgs,
    mut config: Config,
    (device, settled): (Device, &Settled),
    weights: Option<PathBuf>,
) -> Result<u8> {
    if !device.is_cuda() {
        keep_freed_memory()?;
    }
    let (loss, digest_of_loss) = networks::loss(&config.loss, weights, device)?;
    let train_set = Arc::new(training_set(&config)?.with_cache(Cache::new(&config.data)?));
    train_set.notes().iter().for_each(|text| note(text));
    check_batch(&config, &train_set)?;
    // Without the cache, whose resizing differs in the last bit: figures are those that `pixtok eval` gives.
    let val_set = Arc::new(validation_set(&config)?.1);
    if config.data.val.is_some() || config.data.val_split.is_some() {
        val_set.notes().iter().for_each(|text| note(&format!("validation: {text}")));
    }
    let networks = Networks::build(&config, device)?;
    let tokens_kept = match &args.init_from {
        Some(other) => init::from_run(other, &config, &networks)?,
        None => None,
    };
    let objective = networks.objective(&config, loss);
    set_deterministic(config.train.deterministic)?;
    let path = run_folder(args);
    let run = if args.resume { RunWriter::resume(&path)? } else { RunWriter::create(&path)? };
    let loaded = if args.resume { checkpoint_to_resume(&run, &config)? } else { None };
    if loaded.is_some() && device.is_cuda() && !config.train.deterministic {
        note(
            "on CUDA without train.deterministic a resumed run is close to the undisturbed one, not bit for bit",
        );
    }
    config.train.keeps_tokens_of = match &loaded {
        Some(_) => open::config_of(&path)?.train.keeps_tokens_of,
        None => tokens_kept,
    };
    if loaded.is_none() && args.init_from.is_none() {
        init::from_nothing(&config)?;
    }
    let config_text = config.to_toml()?;
    let state = State::new(tch::get_num_threads(), device, train_set.fingerprint(), digest_of_loss);
    if let Some(loaded) = &loaded {
        check_steps(loaded.step, &config, &path)?;
    }
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
        resumed: args.resume,
        loaded,
        state,
        accept_inexact: args.accept_inexact,
        save_first: args.init_from.is_some(),
        signals: Signals::listen().context("cannot listen for signals")?,
    })?;
    // Only now: a resume that was refused leaves the config and the logs as they were.
    write_atomic(&path.join("config.toml"), config_text.as_bytes())?;
    if settled.reason.is_some() {
        note(&format!("training in {}", settled.words()));
    }
    note_of_adversary(&config);
    report(trainer.run()?)
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
fn report(outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Finished { checkpoint } => {
            print(&format!("trained: {}\n", checkpoint.display())).map(|()| 0)
        }
        Outcome::Interrupted { signal, checkpoint } => {
            note(&format!("stopped by signal {signal}; saved {}; go on with --resume", checkpoint.display()));
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

/// The config with flags and overrides applied, checked.
fn resolve(args: &TrainArgs) -> Result<Config> {
    let (mut config, notes) = Config::read(&args.config, &args.overrides)?;
    for text in notes {
        note(&text);
    }
    if let Some(folder) = &args.data {
        config.data.train = text_of(folder)?;
        // The config's validation images and its columns belong to the config's training images.
        (config.data.val, config.data.val_split) = (None, None);
        (config.data.split, config.data.image_column) = (None, None);
    }
    if let Some(folder) = &args.val_data {
        config.data.val = Some(text_of(folder)?);
        config.data.val_split = None;
    }
    let picked = [
        (&args.pick.split, &mut config.data.split),
        (&args.val_split, &mut config.data.val_split),
        (&args.pick.image_column, &mut config.data.image_column),
    ];
    for (flag, value) in picked {
        if flag.is_some() {
            value.clone_from(flag);
        }
    }
    config.check()?;
    if args.init_from.is_none() && !args.resume && !args.dry_run {
        init::from_nothing(&config)?;
    }
    Ok(config)
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
    let name = args.config.file_stem().unwrap_or(args.config.as_os_str());
    args.run.clone().unwrap_or_else(|| Path::new("checkpoints").join(name))
}

/// The training images of a config.
pub(super) fn training_set(config: &Config) -> Result<Dataset> {
    let data = &config.data;
    let split = match (&data.val, &data.val_split) {
        (None, None) => Split::Train { val_share: data.val_share },
        _ => Split::All,
    };
    Ok(Dataset::select(Path::new(&data.train), split, &data.selection())?)
}

/// The validation images of a config, and in words where they are.
pub(super) fn validation_set(config: &Config) -> Result<(String, Dataset)> {
    let data = &config.data;
    let open = |path: &str, split, selection| Dataset::select(Path::new(path), split, &selection);
    Ok(match (&data.val, &data.val_split) {
        (Some(path), _) => (path.clone(), open(path, Split::All, data.val_selection())?),
        (None, Some(name)) => {
            let words = format!("the split {name} of {}", data.train);
            (words, open(&data.train, Split::All, data.val_selection())?)
        }
        (None, None) => {
            let words = format!("a share of {} of {}", data.val_share, data.train);
            let split = Split::Val { val_share: data.val_share };
            (words, open(&data.train, split, data.selection())?)
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

/// The newest whole checkpoint of a run whose config agrees with this one.
fn checkpoint_to_resume(run: &RunWriter, config: &Config) -> Result<Option<Loaded>> {
    let path = run.folder().path();
    let resumed = run.newest_whole()?;
    for text in &resumed.notes {
        note(text);
    }
    let Some(loaded) = resumed.loaded else {
        note(&format!("{} has no whole checkpoint; beginning at step 0", path.display()));
        return Ok(None);
    };
    let earlier = open::config_of(path)?;
    let changes = config.changes_that_matter(&earlier)?;
    if !changes.is_empty() {
        let list = changes.iter().fold(String::new(), |mut list, change| {
            let _ = write!(list, "\n  {change}");
            list
        });
        return Err(Misuse(format!(
            "the config is not the one that {} began with, so the run could not go on exactly; undo these changes, or \
             start a new run with --init-from {}:{list}",
            path.display(),
            path.display()
        ))
        .into());
    }
    if earlier.train.steps != config.train.steps {
        note(&format!(
            "the learning rate schedule now spans {} steps instead of {}",
            config.train.steps, earlier.train.steps
        ));
    }
    note(&format!("going on from step {} of {}", loaded.step, path.display()));
    Ok(Some(loaded))
}

/// Refuses fewer steps than a run already has, which its config would then deny.
fn check_steps(step: u64, config: &Config, path: &Path) -> Result<()> {
    let (steps, path) = (config.train.steps, path.display());
    if step > steps {
        return Err(Misuse(format!(
            "train.steps is {steps}, and {path} is at step {step} already; give {step} or more"
        ))
        .into());
    }
    if step == steps {
        note(&format!("{path} is at its last step already; raise train.steps to go on"));
    }
    Ok(())
}
