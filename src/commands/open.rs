//! From a run folder to a tokenizer with its weights.

use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, nn};

use crate::checkpoint::RunFolder;
use crate::cli::{ComputeArgs, RunArgs};
use crate::config::Config;
use crate::model::Tokenizer;
use crate::torch::forbid_tf32;
use crate::train::load_model;

/// A trained tokenizer.
pub(super) struct Opened {
    pub config: Config,
    pub tokenizer: Tokenizer,
    pub step: u64,
    pub device: Device,
    /// Owns the variables.
    _store: nn::VarStore,
}

/// Finds the device and sets the thread count.
pub(super) fn compute(args: &ComputeArgs) -> Result<Device> {
    let device = args.device.resolve()?;
    forbid_tf32()?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    Ok(device)
}

/// The config that a run was trained with.
pub(super) fn config_of(run: &Path) -> Result<Config> {
    let (config, _) = Config::read(&run.join("config.toml"), &[])
        .with_context(|| format!("{} holds no usable run", run.display()))?;
    config.check()?;
    Ok(config)
}

/// Builds the tokenizer of a run and loads the weights that were asked for.
pub(super) fn open(args: &RunArgs) -> Result<Opened> {
    let folder = RunFolder::open(&args.run)?;
    let step = folder.select(args.checkpoint)?;
    let config = config_of(&args.run)?;
    let device = compute(&args.compute)?;
    let loaded = folder.load(step)?;
    let store = nn::VarStore::new(device);
    let tokenizer = Tokenizer::new(&store.root(), &config.model, &config.quantizer, config.image_size())?;
    load_model(store.variables().into_iter().collect(), &loaded.snapshot, args.weights)?;
    Ok(Opened { config, tokenizer, step, device, _store: store })
}
