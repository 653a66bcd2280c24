//! What `pixtok eval` can measure, and on which images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::open::{self, ChosenBy, Opened};
use super::{Misuse, train};
use crate::batches::Loader;
use crate::checkpoint::Which;
use crate::cli::{ComputeArgs, EvalArgs, ModelArgs, PickArgs};
use crate::codec::{Adapter, Codec, Own, TorchScript};
use crate::config::{Config, read_toml};
use pixtok_images::data::{self, Dataset, ImageFolder, ImageSize, Overlap, Selection, Shared, Split};
use crate::evaluate::{self, Reconstructions};
use pixtok_base::paths::absence;
use pixtok_torch::{DeviceChoice, Precision};
use crate::train::Weights;

/// Something that makes reconstructions, or their folder.
pub(super) enum Measured {
    /// A run or a model folder of ours.
    Own(Box<Opened>),
    /// A TorchScript pair that no image has gone through yet.
    Foreign(Box<TorchScript>),
    /// A folder of reconstructions.
    Reconstructions(PathBuf),
}

/// The images of an evaluation.
pub(super) struct Images {
    /// Where they are, in words.
    pub words: String,
    pub dataset: Arc<Dataset>,
    /// How they are prepared.
    pub data: data::Config,
    /// Height and width of all of them; absent if each keeps its own.
    pub size: Option<(i64, i64)>,
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
        let adapter: Adapter = read_toml(path)
            .with_context(|| format!("{} is read as the adapter of a TorchScript pair", path.display()))?;
        return Ok(Measured::Foreign(Box::new(TorchScript::load(adapter, path, device)?)));
    }
    let path_words = path.display();
    if !path.exists() {
        return Err(Misuse(format!(
            "{path_words} {}; give a run folder, a model folder, an adapter or a folder of reconstructions",
            absence(path)
        ))
        .into());
    }
    if path.join("protocol.toml").is_file() {
        return Err(Misuse(format!("{path_words} is a comparison; give one of the runs in its arms/")).into());
    }
    if path.join("manifest.json").is_file() {
        return Err(
            Misuse(format!("{path_words} is a checkpoint; give its run folder, with --checkpoint")).into()
        );
    }
    // A run folder may hold pictures too.
    if open::is_ours(path) || path.join("best.json").exists() || !path.is_dir() {
        return Ok(Measured::Own(Box::new(open::open(path, args, device)?)));
    }
    match ImageFolder::open(path, Split::All) {
        Ok(_) => Ok(Measured::Reconstructions(path.to_owned())),
        Err(error) => {
            let path = path.display();
            Err(Misuse(format!("{path} holds neither a run nor a model nor reconstructions: {error}")).into())
        }
    }
}

/// Checks that something can be opened and used: passes images of the `protocol`'s size through it
/// (through a foreign pair as many at a time as the protocol says), or looks for reconstructions of
/// the images of `dataset` that are evaluated. Returns how many codes each of its codebooks has, if
/// it has any.
pub(super) fn try_out(
    path: &Path,
    dataset: Option<&Dataset>,
    protocol: &Config,
    device: Device,
) -> Result<Option<i64>> {
    let (height, width) = protocol.image_size();
    let compute = ComputeArgs { device: DeviceChoice::Auto, threads: None };
    let args =
        ModelArgs { checkpoint: Which::Last, weights: Weights::Raw, precision: Precision::Fp32, compute };
    let through = |codec: &dyn Codec| -> Result<Option<i64>> {
        let grey = Tensor::full([1, 3, height, width], 128, (Kind::Uint8, device));
        let recon = codec.decode(&codec.encode(&grey)?)?;
        if recon.size() != grey.size() {
            let size = recon.size();
            return Err(Misuse(format!(
                "it makes {}×{} pixels of this comparison's {height}×{width}; choose a data.image_size that suits it",
                size[2], size[3]
            ))
            .into());
        }
        Ok(Some(codec.vocabulary().size))
    };
    match open(path, &args, device)? {
        Measured::Own(opened) => through(&Own { tokenizer: &opened.tokenizer, precision: args.precision }),
        Measured::Foreign(mut pair) => {
            let batch_size = protocol.eval.batch_size;
            pair.try_on_ramp(batch_size, (height, width), batch_size, device)?;
            Ok(Some(pair.vocabulary().size))
        }
        Measured::Reconstructions(folder) => {
            let bound = protocol.eval.bound();
            dataset.map(|dataset| Reconstructions::find(&folder, dataset, bound)).transpose()?;
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
        let chosen = choose(args.data.as_deref(), &args.pick, config.as_ref())?;
        let (words, dataset, bound) = chosen.ok_or_else(|| {
            let path = args.tokenizer.display();
            Misuse(format!("{path} has no images of its own; give a folder with --data"))
        })?;
        let prepared = config.is_some() || matches!(measured, Measured::Foreign(_));
        let (data, eval) = match (config, measured) {
            (Some(config), _) => (config.data, config.eval),
            (None, Measured::Foreign(pair)) => (pair.adapter().data(), evaluate::Config::default()),
            (None, _) => (data::Config::default(), evaluate::Config::default()),
        };
        let data = data::Config { background: args.background.unwrap_or(data.background), ..data };
        let batch_size = args.batch_size.map_or(eval.batch_size, |size| size as usize);
        let ImageSize { height, width } = data.image_size;
        let size = prepared.then_some((i64::from(height), i64::from(width)));
        Ok(Self { words, dataset: Arc::new(dataset), data, size, batch_size, bound })
    }

    /// Whether a checkpoint of the run with this `config` was chosen on them, judged by names and
    /// sizes.
    pub fn chose(&self, chosen: &ChosenBy, config: &Config) -> bool {
        let now = self.dataset.fingerprint().of_images();
        match &chosen.images {
            Some(images) => images.blake3.as_ref() == Some(&now),
            // An older record: those that the config names.
            None => train::validation_set(config).is_ok_and(|(_, own)| own.fingerprint().of_images() == now),
        }
    }

    /// A note if they are a run's own validation images and no longer those that it validated on.
    pub fn changed_since(&self, opened: &Opened) -> Option<String> {
        let now = self.dataset.fingerprint();
        let chosen_on = opened.chosen_by.as_ref().and_then(|chosen| chosen.images.as_ref()?.blake3.as_ref());
        let what = match (&opened.validated_on, chosen_on) {
            (Some(then), _) => now.difference(then)?.change()?,
            (None, Some(then)) if *then != now.of_images() => "their list or some sizes changed",
            (None, _) => return None,
        };
        Some(format!(
            "the images of {} are not those that this run validated on ({what}), so these figures are not \
             comparable with those in its logs; restore the images, or give others with --data",
            self.words
        ))
    }

    /// Notes if a tokenizer whose run had this `config` was trained on some of them.
    pub fn trained_on(&self, config: &Config) -> Vec<String> {
        let Ok(train_set) = train::training_set(config) else { return vec![] };
        let (Overlap { shared, copies }, total) = (self.dataset.overlap(&train_set), self.dataset.len());
        let shared = shared.map(|Shared { images, example }| {
            format!(
                "{images} of {total} images lie in files that this tokenizer was trained on, for instance \
                 {example}"
            )
        });
        let copies = copies.map(|copies| copies.words(total, "images"));
        let remedy = "which flatters its figures; measure it on others with --data";
        shared.into_iter().chain(copies).map(|words| format!("{words}, {remedy}")).collect()
    }

    /// How many are evaluated.
    pub fn count(&self) -> usize {
        self.bound.unwrap_or(usize::MAX).min(self.dataset.len())
    }

    /// Prepared, batch by batch.
    pub fn loader(&self, device: Device) -> Result<Loader> {
        Ok(Loader::eval(Arc::clone(&self.dataset), &self.data, self.batch_size, self.bound, device)?)
    }
}

/// The images of `data`, or else a config's own validation images: their location in words, and the
/// most that are evaluated. None without either.
pub(super) fn choose(
    data: Option<&Path>,
    pick: &PickArgs,
    config: Option<&Config>,
) -> Result<Option<(String, Dataset, Option<usize>)>> {
    if let Some(path) = data {
        let (split, image) = (pick.split.clone(), pick.image_column.clone());
        let selection = Selection { split, image, ..Selection::default() };
        let dataset = Dataset::select(path, Split::All, &selection)?;
        return Ok(Some((path.display().to_string(), dataset, None)));
    }
    if pick.split.is_some() || pick.image_column.is_some() {
        return Err(Misuse(
            "--split and --image-column choose among the images of --data; give it too".into(),
        )
        .into());
    }
    let Some(config) = config else { return Ok(None) };
    let (words, dataset) = train::validation_set(config)?;
    Ok(Some((words, dataset, config.eval.bound())))
}

/// The config that says which images and how they are prepared.
pub(super) fn protocol(path: &Path) -> Result<Config> {
    let (config, _) = Config::read(path, &[])?;
    config.check().with_context(|| format!("{} is no usable protocol", path.display()))?;
    Ok(config)
}
