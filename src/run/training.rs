//! `pixtok train`: from a config and flags to a finished run.

mod dry_run;
mod images;
mod init;
mod memory;
mod networks;
mod other_settings;
mod precision;
mod resume;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::libtorch::libtorch_version;
use super::{Misuse, note, note_omitted, open, print};
use crate::checkpoint::{RunWriter, write_atomic};
use crate::cli::TrainArgs;
use crate::config::{CHANGES_FILE, Config, RunChange};
use pixtok_images::data::{Cache, Dataset};
use pixtok_base::seed::Seed;
use pixtok_torch::{keep_freed_memory, set_deterministic, use_one_heap};
use crate::train::{Circumstances, LossWeights, Machine, Outcome, Parts, Signals, State, Trainer};
pub(super) use images::{check_batch, note_shared, training_set, validation_set, words_of_validation};
use networks::Networks;
pub(super) use networks::loss_weights_among;
use precision::Settled;
use resume::Earlier;

/// Trains; the exit code is 0, or 128 + n after signal n.
pub(super) fn run(args: &TrainArgs) -> Result<u8> {
    let earlier = args.resume.as_deref().map(|run| Earlier::open(run, args.dry_run)).transpose()?;
    let mut config = resolve(args, earlier.as_ref())?;
    let compute = earlier.as_ref().map_or_else(|| args.compute.clone(), |run| run.compute(&args.compute));
    let device = open::compute(&compute)?;
    let settled = precision::settle(&mut config, earlier.as_ref().map(|run| &run.config), device)?;
    if let Some(earlier) = &earlier {
        earlier.check_config(&config)?;
    }
    let given = args.lpips_weights.clone().or_else(|| earlier.as_ref().and_then(Earlier::loss_weights));
    let weights = networks::loss_weights(&config.loss, given.as_deref());
    let mut notes = vec![];
    if let Some(earlier) = &earlier {
        earlier.check_checkpoint(args.restart)?;
        notes = earlier.check_steps(&config)?;
    }
    if args.dry_run {
        return dry_run(args, earlier, &config, (device, &settled), weights, notes);
    }
    train(args, earlier, config, (device, &settled), weights?, notes)
}

fn train(
    args: &TrainArgs,
    mut earlier: Option<Earlier>,
    mut config: Config,
    (device, settled): (Device, &Settled),
    weights: Option<PathBuf>,
    mut notes: Vec<String>,
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
    note_omitted([&*train_set, &*val_set]);
    note_shared(&config, &train_set, &val_set);
    let networks = Networks::build(&config, device)?;
    (config.train.keeps_tokens_of, config.train.init_from) = match (&args.init_from, &earlier) {
        (Some(other), _) => (init::from_run(other, &config, &networks)?, Some(absolute(other))),
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
        None => (RunWriter::create(&run_folder(args))?, None),
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
        write_atomic(&path.join(open::CONFIG), config_text.as_bytes())?;
    }
    let state = state(&began, device, (&train_set, &val_set), weights_of_loss)?;
    let before = earlier.as_ref().map(|run| (run.config.data.clone(), run.config.eval.clone()));
    let trainer = Trainer::new(Parts {
        seed: Seed(config.seed),
        train: config.train.clone(),
        data: config.data.clone(),
        eval: config.eval.clone(),
        config_text: config.to_toml()?,
        objective,
        device,
        precision: settled.precision,
        train_set,
        val_set,
        run,
        resumed,
        before,
        state,
        accept_inexact: args.accept_inexact,
        save_first: args.init_from.is_some(),
        signals: Signals::listen().context("cannot listen for signals")?,
    })?;
    if earlier.is_some() {
        // Written only now: a refused resume leaves the config as it was.
        write_changes(&path, &changes)?;
        write_atomic(&path.join(open::CONFIG), config_text.as_bytes())?;
    }
    if settled.reason.is_some() {
        notes.push(format!("training in {}", settled.words()));
    }
    notes.extend(config.advice()?);
    notes.extend(config.micro_batch_terms().map(|terms| format!("micro-batches: {terms}")));
    notes.extend(words_of_adversary(&config));
    for text in notes {
        note(&text);
    }
    report(trainer.run()?, &path)
}

/// Records how the settings changed since the run began, if they did.
fn write_changes(run: &Path, changes: &[RunChange]) -> Result<()> {
    let path = run.join(CHANGES_FILE);
    if changes.is_empty() && !path.exists() {
        return Ok(());
    }
    Ok(write_atomic(&path, RunChange::lines(changes)?.as_bytes())?)
}

/// The state of a run that has not begun; `config` is the one it begins with.
fn state(
    config: &Config,
    device: Device,
    (train_set, val_set): (&Dataset, &Dataset),
    loss_weights: Option<LossWeights>,
) -> Result<State> {
    Ok(State::new(Circumstances {
        config: config.exact_digest()?,
        threads: tch::get_num_threads(),
        machine: Machine::here(device, libtorch_version()),
        data: train_set.fingerprint(),
        val_data: val_set.fingerprint(),
        loss_weights,
    }))
}

/// Says what the run will be, having read all that it would begin with.
fn dry_run(
    args: &TrainArgs,
    earlier: Option<Earlier>,
    config: &Config,
    (device, precision): (Device, &Settled),
    weights: Result<Option<PathBuf>>,
    mut notes: Vec<String>,
) -> Result<u8> {
    let networks = Networks::build(config, device)?;
    if let Some(other) = &args.init_from {
        init::from_run(other, config, &networks)?;
    }
    // Whether they are what they should be.
    let weights = weights.and_then(|path| Ok((networks::loss(&config.loss, path.clone(), device)?.1, path)));
    let (loss_weights, weights) = match weights {
        Ok((noted, path)) => (noted, Ok(path)),
        Err(error) => (None, Err(error)),
    };
    // The images may be on another machine, so this is checked only if everything is here.
    if let (Some(earlier), Ok(train_set), Ok((_, val_set)), Ok(_)) =
        (earlier, training_set(config), validation_set(config), &weights)
    {
        let state = state(config, device, (&train_set, &val_set), loss_weights)?;
        notes.extend(earlier.check_state(state, args.accept_inexact, (&config.data, &train_set))?);
        notes.extend(earlier.other_images(config, &val_set)?);
    }
    for text in notes {
        note(&text);
    }
    print(&dry_run::words(config, precision, &networks, weights)?).map(|()| 0)
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

/// The checked config, with flags and overrides applied. A resumed run may use its own config file.
fn resolve(args: &TrainArgs, earlier: Option<&Earlier>) -> Result<Config> {
    let own = earlier.map(|run| run.path.join(open::CONFIG));
    let file = args.config.clone().or(own).unwrap_or_default();
    let (mut config, notes) = Config::read(&file, &args.overrides)?;
    for text in notes {
        note(&text);
    }
    let of_config = config.data.clone();
    if let Some(earlier) = earlier {
        config = earlier.replayed(&config, &args.overrides)?;
    }
    if let Some(folder) = &args.data {
        config.data.train = text_of(folder)?;
        if earlier.is_none() {
            images::drop_those_of_config(args, &mut config.data);
        }
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
    match earlier.filter(|run| run.has_checkpoint()) {
        Some(run) => check_best_metric(&config, run)?,
        None => config.check_new_training()?,
    }
    if earlier.is_none() {
        images::note_validation(args, &of_config, &config);
    }
    if let (Some(earlier), Some(run)) = (earlier, &args.run)
        && fs::canonicalize(run).ok() != fs::canonicalize(&earlier.path).ok()
    {
        let (run, path) = (run.display(), earlier.path.display());
        return Err(Misuse(format!("--run is {run}, and --resume {path}; leave --run out")).into());
    }
    if earlier.is_none() && args.init_from.is_none() && !args.dry_run {
        init::from_nothing(&config)?;
    }
    Ok(config)
}

/// Refuses a new best metric that the images are too small for. The run's own metric only gives a
/// warning.
fn check_best_metric(config: &Config, earlier: &Earlier) -> Result<()> {
    match config.check_best_metric() {
        Err(error) if config.train.best_metric == earlier.config.train.best_metric => {
            note(&format!(
                "warning: {error}; a run that goes on may change it with --set train.best_metric=psnr_db"
            ));
            Ok(())
        }
        checked => Ok(checked?),
    }
}

/// From when on the discriminator takes part, in words.
fn words_of_adversary(config: &Config) -> Option<String> {
    let (start, steps) = (config.adversarial.as_ref()?.start, config.train.steps);
    Some(if start < steps {
        format!("the discriminator takes part from step {start}")
    } else {
        format!("the discriminator never takes part: adversarial.start is {start} and train.steps {steps}")
    })
}

/// The absolute path, for the run's records: it may be resumed from another folder.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
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
