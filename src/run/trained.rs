//! From a path on the command line to a tokenizer with its weights.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, nn};

use super::{Misuse, note};
use crate::checkpoint::{RunFolder, ValidationImages, Which, copy_into};
use crate::cli::{ComputeArgs, ModelArgs};
use crate::config::{Config, RunChange};
use pixtok_images::data::Fingerprint;
use crate::model::Tokenizer;
use pixtok_torch::tensors::{self, Tensors};
use pixtok_torch::{Precision, forbid_tf32, limit_spinning_when_busy};
use crate::train::{State, Weights, load_model};

/// The config of a run or a model folder.
pub(super) const CONFIG: &str = "config.toml";
/// The weights of a model folder.
pub(super) const MODEL: &str = "model.safetensors";
/// What `pixtok export` also writes, for readers that do not know our defaults.
pub(super) const DESCRIPTION: &str = "config.json";

/// A trained tokenizer.
pub(super) struct Opened {
    pub config: Config,
    pub tokenizer: Tokenizer,
    /// Absent for a model folder, which does not say.
    pub step: Option<u64>,
    /// How it was chosen from a run's checkpoints, if it was.
    pub chosen_by: Option<ChosenBy>,
    /// The images that its run validated on when it was saved; absent for a model folder.
    pub validated_on: Option<Fingerprint>,
    /// Trained numbers.
    pub parameters: usize,
    /// Settings that changed while it trained.
    pub changes: Vec<RunChange>,
    /// Owns the variables.
    store: nn::VarStore,
}

/// What made a checkpoint the best of its run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ChosenBy {
    /// The figure, as in logs.
    pub metric: String,
    /// The images that the figure was measured on; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ValidationImages>,
}

/// Resolves the device, sets the thread count and, on the CPU, limits spinning when the machine is busy.
pub(super) fn compute(args: &ComputeArgs) -> Result<Device> {
    let device = args.device.resolve()?;
    forbid_tf32()?;
    if let Some(threads) = args.threads.or_else(threads_of_quota) {
        tch::set_num_threads(threads);
    }
    if !device.is_cuda() {
        limit_spinning_when_busy();
    }
    Ok(device)
}

/// The number of threads that a container's CPU quota allows, if that is less than libtorch's default, which counts the visible
/// processors. `None` if the user has set the thread count, or has bound threads to processors: a bound thread sees only its own.
fn threads_of_quota() -> Option<i32> {
    let chosen = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY"];
    if chosen.iter().any(|name| std::env::var_os(name).is_some()) {
        return None;
    }
    let processors = i32::try_from(available_parallelism().ok()?.get()).ok()?;
    (processors < tch::get_num_threads()).then_some(processors)
}

/// Refuses another precision where there is none to choose, for the reason `why`.
pub(super) fn require_fp32(args: &ModelArgs, why: &str) -> Result<()> {
    if args.precision == Precision::Fp32 {
        return Ok(());
    }
    Err(Misuse(format!("--precision is {}; {why}, so leave it out", args.precision)).into())
}

/// The config that a run was trained with, or that a model folder has.
pub(super) fn config_of(folder: &Path) -> Result<Config> {
    let written = Config::read_as_written(&folder.join(CONFIG))
        .with_context(|| format!("{} holds no usable run", folder.display()))?;
    // Only imported weights come with a config by a user, which may leave out anything.
    let imported = folder.join(MODEL).is_file() && !folder.join(DESCRIPTION).exists();
    if !imported && written.model.had_other_groups() {
        return Err(Misuse(format!(
            "{} has model.variant vqgan without model.norm_groups, so an older pixtok made it, which gave norms of fewer than 128 \
             channels fewer groups than the 32 of this variant; with 32 its weights would make other images and tokens: \
             use that pixtok, or train it again",
            folder.join(CONFIG).display()
        ))
        .into());
    }
    let config = written.resolved();
    config.check()?;
    Ok(config)
}

/// Whether it is a folder of ours, of a run or of a model.
pub(super) fn is_ours(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// The run folder at `path`; a folder of other things is refused.
pub(super) fn run_folder(path: &Path) -> Result<RunFolder> {
    if path.is_dir() && !is_ours(path) {
        return Err(Misuse(format!(
            "{} is neither a run folder nor a model folder, for it has no {CONFIG}; give a folder that pixtok train, pixtok export or \
             scripts/import_weights.py wrote",
            path.display()
        ))
        .into());
    }
    Ok(RunFolder::open(path)?)
}

/// The weights of a model folder; nothing if it is none.
pub(super) fn of_model_folder(path: &Path) -> Result<Option<Tensors>> {
    let file = path.join(MODEL);
    if !is_ours(path) || !file.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let weights = tensors::from_bytes(&bytes)
        .map_err(|reason| Misuse(format!("{} is no whole safetensors file: {reason}", file.display())))?;
    Ok(Some(weights))
}

/// Builds the tokenizer of a run or a model folder and loads the requested weights. They want no
/// gradients. Prints a warning about settings that no new training should begin with.
pub(super) fn open(path: &Path, args: &ModelArgs, device: Device) -> Result<Opened> {
    let build = |config: &Config, store: &nn::VarStore| {
        Tokenizer::new(&store.root(), &config.model, &config.quantizer, config.image_size())
    };
    let mut store = nn::VarStore::new(device);
    if let Some(weights) = of_model_folder(path)? {
        let config = config_of(path)?;
        let tokenizer = build(&config, &store)?;
        let file = path.join(MODEL).display().to_string();
        copy_into(&store.variables().into_iter().collect(), &weights, &file)?;
        store.freeze();
        note_outdated(path, &config);
        let (chosen_by, parameters, changes) =
            (described_choice(path), parameters(&store), RunChange::read(path)?);
        return Ok(Opened {
            config,
            tokenizer,
            step: None,
            chosen_by,
            validated_on: None,
            parameters,
            changes,
            store,
        });
    }
    let folder = run_folder(path)?;
    let step = folder.select(args.checkpoint)?;
    let config = config_of(path)?;
    let loaded = folder.load(step)?;
    let tokenizer = build(&config, &store)?;
    load_model(store.variables().into_iter().collect(), &loaded.snapshot, args.weights)?;
    store.freeze();
    note_outdated(path, &config);
    let best = if args.checkpoint == Which::Best { folder.best()? } else { None };
    let chosen_by = best.map(|best| ChosenBy { metric: best.metric, images: best.images });
    let mut changes = RunChange::read(path)?;
    changes.retain(|change| change.step < step);
    let validated_on = State::validation_images(&loaded.snapshot.state);
    let (step, parameters) = (Some(step), parameters(&store));
    Ok(Opened { config, tokenizer, step, chosen_by, validated_on, parameters, changes, store })
}

/// Warns of settings that no new training should begin with.
fn note_outdated(path: &Path, config: &Config) {
    if let Err(problem) = config.quantizer.settings().check_new_training() {
        note(&format!("{}: {problem}", path.display()));
    }
}

/// How the checkpoint of an exported model folder was chosen, from its description.
fn described_choice(folder: &Path) -> Option<ChosenBy> {
    let description: Value = serde_json::from_slice(&fs::read(folder.join(DESCRIPTION)).ok()?).ok()?;
    serde_json::from_value(description.get("chosen_by")?.clone()).ok()
}

impl Opened {
    /// Which weights these are, in words.
    pub fn weights(&self, asked: Weights) -> String {
        match self.step {
            Some(step) => format!("step {step}, {} weights", asked.name()),
            None => MODEL.into(),
        }
    }

    /// Parameters and buffers by name.
    pub fn tensors(&self) -> Tensors {
        self.store.variables().into_iter().collect()
    }

    /// Which weights these are, as a number: the blake3 hash, in hex, of the safetensors file that they make. Of a run's raw
    /// weights that is the checkpoint's own `model.safetensors`.
    pub fn weights_blake3(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        tensors::write_to(&mut hasher, &self.tensors()).context("cannot hash the weights")?;
        Ok(hasher.finalize().to_hex().to_string())
    }
}

fn parameters(store: &nn::VarStore) -> usize {
    store.trainable_variables().iter().map(tch::Tensor::numel).sum()
}
