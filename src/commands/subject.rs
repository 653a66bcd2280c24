//! What `pixtok eval` can measure, and on which images.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::open::{self, Opened};
use super::{Misuse, train};
use crate::checkpoint::Which;
use crate::cli::{ComputeArgs, EvalArgs, ModelArgs};
use crate::codec::{Adapter, Codec as _, TorchScript};
use crate::config::{Config, read_toml};
use crate::data::{self, Dataset, ImageSize, Split};
use crate::evaluate::{self, Reconstructions};
use crate::torch::{DeviceChoice, Precision};
use crate::train::Weights;

/// Something that makes reconstructions, or their folder.
pub(super) enum Measured {
    /// A run or a model folder of ours.
    Own(Box<Opened>),
    /// A TorchScript pair.
    Foreign(Box<TorchScript>),
    /// A folder of reconstructions.
    Reconstructions(Reconstructions),
}

/// The images of an evaluation.
pub(super) struct Images {
    /// Where they are, in words.
    pub words: String,
    pub dataset: Arc<Dataset>,
    /// How they are prepared.
    pub data: data::Config,
    pub batch_size: usize,
    /// At most so many.
    pub bound: Option<usize>,
}

/// Tells by the path what it is, and opens it.
pub(super) fn open(path: &Path, args: &ModelArgs, device: Device) -> Result<Measured> {
    if path.is_file() {
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(Misuse(format!(
                "{} is a file; give a folder, or an adapter that ends in .toml",
                path.display()
            ))
            .into());
        }
        let adapter: Adapter = read_toml(path)?;
        return Ok(Measured::Foreign(Box::new(TorchScript::load(adapter, path, device)?)));
    }
    if !open::is_ours(path)
        && !path.join("best.json").exists()
        && let Ok(found) = Reconstructions::open(path)
    {
        return Ok(Measured::Reconstructions(found));
    }
    Ok(Measured::Own(Box::new(open::open(path, args, device)?)))
}

/// Opens something on the CPU to see that it can be, and that it has the images of `dataset` where it must have them;
/// says how many codes each of its codebooks has, if it has any.
pub(super) fn try_out(path: &Path, dataset: &Dataset) -> Result<Option<i64>> {
    let compute = ComputeArgs { device: DeviceChoice::Cpu, threads: None };
    let args =
        ModelArgs { checkpoint: Which::Last, weights: Weights::Raw, precision: Precision::Fp32, compute };
    match open(path, &args, Device::Cpu)? {
        Measured::Own(opened) => Ok(Some(opened.tokenizer.codebook().size)),
        Measured::Foreign(pair) => Ok(Some(pair.vocabulary().size)),
        Measured::Reconstructions(found) => {
            (0..dataset.len()).try_for_each(|i| found.find(&dataset.name(i)).map(|_| ()))?;
            Ok(None)
        }
    }
}

impl Images {
    /// Of `--protocol`, else of the tokenizer's own config; `--data` replaces the folder.
    pub fn of(measured: &Measured, args: &EvalArgs) -> Result<Self> {
        let config = match (&args.protocol, measured) {
            (Some(path), _) => Some(protocol(path)?),
            (None, Measured::Own(opened)) => Some(opened.config.clone()),
            (None, _) => None,
        };
        let (words, dataset, bound) = match (&args.data, &config) {
            (Some(folder), _) => (folder.display().to_string(), Dataset::open(folder, Split::All)?, None),
            (None, Some(config)) => {
                let (words, dataset) = train::validation_set(config)?;
                (words, dataset, config.eval.bound())
            }
            (None, None) => {
                let path = args.tokenizer.display();
                return Err(
                    Misuse(format!("{path} has no images of its own; give a folder with --data")).into()
                );
            }
        };
        let (data, eval) = match (config, measured) {
            (Some(config), _) => (config.data, config.eval),
            (None, Measured::Foreign(pair)) => {
                let side = pair.adapter().image_size;
                let image_size = ImageSize { height: side, width: side };
                (data::Config { image_size, ..data::Config::default() }, evaluate::Config::default())
            }
            (None, _) => (data::Config::default(), evaluate::Config::default()),
        };
        let batch_size = args.batch_size.map_or(eval.batch_size, |size| size as usize);
        Ok(Self { words, dataset: Arc::new(dataset), data, batch_size, bound })
    }

    /// How many are evaluated.
    pub fn count(&self) -> usize {
        self.bound.unwrap_or(usize::MAX).min(self.dataset.len())
    }
}

/// The config that says which images and how they are prepared.
fn protocol(path: &Path) -> Result<Config> {
    let (config, _) = Config::read(path, &[])?;
    config.check().with_context(|| format!("{} is no usable protocol", path.display()))?;
    Ok(config)
}
