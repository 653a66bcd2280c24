//! `pixtok train`: from a config and flags to a finished run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::{Device, Tensor, nn};

use super::{Misuse, note, open, print};
use crate::checkpoint::{Loaded, RunFolder, RunWriter, Which, write_atomic};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::data::{Cache, DataError, Dataset, Split};
use crate::model::{Footprint, Tokenizer};
use crate::seed::Seed;
use crate::torch::{Precision, keep_freed_memory, set_deterministic};
use crate::train::{
    Objective, Outcome, Parts, PixelReconstruction, Signals, State, Trainer, Weights, load_model,
};

/// Trains; the exit code is 0, or 128 + n after signal n.
pub(super) fn run(args: &TrainArgs) -> Result<u8> {
    let config = resolve(args)?;
    let device = open::compute(&args.compute)?;
    if args.dry_run {
        return print(&dry_run(&config, &build(&config, device)?)?).map(|()| 0);
    }
    if !device.is_cuda() {
        keep_freed_memory()?;
    }
    let train_set = Arc::new(training_set(&config)?.with_cache(Cache::new(&config.data)?));
    check_batch(&config, &train_set)?;
    // Without the cache, whose resizing differs in the last bit: figures are those that `pixtok eval` gives.
    let val_set = Arc::new(validation_set(&config)?.1);
    let objective = build(&config, device)?;
    set_deterministic(config.train.deterministic)?;
    let path = run_folder(args);
    let run = if args.resume { RunWriter::resume(&path)? } else { RunWriter::create(&path)? };
    let loaded = if args.resume { checkpoint_to_resume(&run, &config)? } else { None };
    if loaded.is_some() && device.is_cuda() && !config.train.deterministic {
        note(
            "on CUDA without train.deterministic a resumed run is close to the undisturbed one, not bit for bit",
        );
    }
    if let Some(other) = &args.init_from {
        init_from(other, &objective)?;
    }
    let config_text = config.to_toml()?;
    let state = State::new(tch::get_num_threads(), device, train_set.fingerprint());
    if let Some(loaded) = &loaded {
        check_steps(loaded.step, &config, &path)?;
    }
    let trainer = Trainer::new(Parts {
        seed: Seed(config.seed),
        train: config.train.clone(),
        data: config.data.clone(),
        optimizer: config.optimizer.clone(),
        eval: config.eval.clone(),
        config_text: config_text.clone(),
        objective: Box::new(objective),
        device,
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
    match trainer.run()? {
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
        // The config's validation images belong to the config's training images.
        config.data.val = None;
    }
    if let Some(folder) = &args.val_data {
        config.data.val = Some(text_of(folder)?);
    }
    config.check()?;
    Ok(config)
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

fn build(config: &Config, device: Device) -> Result<PixelReconstruction> {
    let store = nn::VarStore::new(device);
    Seed(config.seed).derive("initialisation", &[]).reseed_torch();
    let tokenizer = Tokenizer::new(&store.root(), &config.model, &config.quantizer, config.image_size())?;
    Ok(PixelReconstruction::new(store, tokenizer, config.loss.clone()))
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

fn init_from(other: &Path, objective: &PixelReconstruction) -> Result<()> {
    let folder = RunFolder::open(other)?;
    let loaded = folder.load(folder.select(Which::Last)?)?;
    load_model(objective.variables(), &loaded.snapshot, Weights::Raw)
        .with_context(|| format!("cannot start from {}", other.display()))?;
    note(&format!("starting from the weights of {} at step {}", other.display(), loaded.step));
    Ok(())
}

/// What the run will be, in words. The images may be missing: a config can be checked on another machine.
fn dry_run(config: &Config, objective: &PixelReconstruction) -> Result<String> {
    let tokenizer = objective.tokenizer();
    let (height, width) = config.image_size();
    let factor = tokenizer.downsample();
    let (h, w) = (height / factor, width / factor);
    let codebook = tokenizer.codebook();
    let bits = codebook.bits_per_token();
    let parameters: i64 = objective.parameters().iter().flatten().map(|(_, tensor)| count(tensor)).sum();
    let of = |part: &str| -> i64 {
        let named = objective
            .variables()
            .into_iter()
            .filter(|(name, tensor)| name.starts_with(part) && tensor.requires_grad());
        named.map(|(_, tensor)| count(&tensor)).sum()
    };
    let train = &config.train;
    let images = match (training_set(config), validation_set(config)) {
        (Ok(train_set), Ok((_, val_set))) => {
            check_batch(config, &train_set)?;
            format!(
                "{} for training, {} for validation; {} steps per epoch of batches of {}",
                train_set.len(),
                val_set.len(),
                train_set.len() / train.batch_size,
                train.batch_size,
            )
        }
        (Err(error), _) | (_, Err(error)) => format!("none here: {error:#}"),
    };
    Ok(format!(
        "{}\n# parameters: {parameters} (encoder {}, quantizer {}, decoder {})\n\
         # latent grid: {h}x{w}, one token for {factor}x{factor} pixels\n\
         # codebook: {}{} codes of dimension {}; {bits:.3} bits per token, {:.4} bits per pixel\n\
         # images: {images}\n\
         {}{}",
        config.to_toml()?,
        of("encoder."),
        of("quantizer."),
        of("decoder."),
        if codebook.codebooks > 1 { format!("{} of ", codebook.codebooks) } else { String::new() },
        codebook.size,
        codebook.dim,
        bits * (h * w) as f64 / (height * width) as f64,
        memory(config, objective)?,
        config.quantizer.settings().advice().map(|advice| format!("# note: {advice}\n")).unwrap_or_default(),
    ))
}

/// What a training step takes, in words.
fn memory(config: &Config, objective: &PixelReconstruction) -> Result<String> {
    let train = &config.train;
    let bytes_per_number = if train.precision == Precision::Bf16 { 2 } else { 4 };
    let images = (train.batch_size / train.micro_batches) as i64;
    let sizes = |trained: bool| -> i64 {
        let variables = objective.variables().into_iter();
        variables
            .filter(|(_, tensor)| tensor.requires_grad() == trained)
            .map(|(_, tensor)| count(&tensor))
            .sum()
    };
    let saved = config.quantizer.settings().saved_bytes(config.vectors_of_a_micro_batch()?);
    let network = Footprint::new(&config.model, &config.quantizer, config.image_size())?;
    let step = network.training_bytes(images, bytes_per_number, sizes(true), train.ema_decay > 0.0);
    // Buffers: a codebook that follows a moving average, with its sums.
    let all = step + 4 * sizes(false) + saved;
    let mut words = format!("# memory: about {} for a training step, by estimate\n", gibibytes(all));
    if saved > 0 {
        let _ = writeln!(
            words,
            "# of it: {saved} bytes of N×K probabilities that the quantizer keeps for the backward pass"
        );
    }
    Ok(words)
}

fn count(tensor: &Tensor) -> i64 {
    tensor.numel() as i64
}

fn gibibytes(bytes: i64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
