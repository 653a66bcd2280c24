//! The images of an evaluation, and their relation to the evaluated tokenizer.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::EvaluateOptions;
use crate::batches::Loader;
use crate::config::{Config, shipped};
use crate::evaluate;
use crate::run::{
    ChosenBy, Found, Pick, Run, Tell, Trained, validation_images, validation_set, words_of_validation,
};
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_images::data::{self, Dataset, ImageSize, Split};

/// The images of an evaluation.
pub(super) struct Images {
    /// A description of their location.
    pub words: String,
    pub dataset: Arc<Dataset>,
    /// The settings that prepare them.
    pub data: data::Config,
    /// The height and width of all images; absent if each keeps its own.
    pub size: Option<(i64, i64)>,
    pub batch_size: usize,
    /// The largest number of images to evaluate.
    pub bound: Option<usize>,
    /// The names of the images that are shown; empty: some with much detail.
    pub shown: Vec<String>,
}

impl Images {
    /// The images of `--protocol`, or else of the tokenizer's own config; `--data` replaces the
    /// folder.
    pub fn of(found: &Found, options: &EvaluateOptions, tell: Tell) -> Result<Self> {
        let config = match &options.protocol {
            Some(path) => Some(protocol(path)?),
            None => found.own().map(|trained| trained.config.clone()),
        };
        let chosen = choose(options.data.as_deref(), &options.pick, config.as_ref(), tell)?;
        let (words, dataset, bound) = chosen.ok_or_else(|| {
            let path = options.tokenizer.display();
            Misuse(format!("{path} has no images of its own; give a folder with --data"))
        })?;
        let prepared = config.is_some() || found.foreign().is_some();
        let (data, eval) = match (config, found.foreign()) {
            (Some(config), _) => (config.data, config.eval),
            (None, Some(pair)) => (pair.adapter().data(), evaluate::Config::default()),
            (None, None) => (data::Config::default(), evaluate::Config::default()),
        };
        let data = data::Config { background: options.background.unwrap_or(data.background), ..data };
        let batch_size = options.batch_size.map_or(eval.batch_size, |size| size as usize);
        let ImageSize { height, width } = data.image_size;
        let size = prepared.then_some((i64::from(height), i64::from(width)));
        // The config names images of its own set.
        let shown = if options.data.is_none() { eval.samples } else { vec![] };
        Ok(Self { words, dataset: Arc::new(dataset), data, size, batch_size, bound, shown })
    }

    /// Whether a checkpoint of the run with this `config` was chosen on these images, judged by
    /// names and sizes.
    pub fn chose(&self, chosen: &ChosenBy, config: &Config) -> bool {
        let now = self.dataset.fingerprint().of_images();
        match &chosen.images {
            Some(images) => images.blake3.as_ref() == Some(&now),
            // An older record names no images; they are those of the config.
            None => validation_set(config).is_ok_and(|(_, own)| own.fingerprint().of_images() == now),
        }
    }

    /// A note if these are a run's own validation images and have changed since the run used them.
    pub fn changed_since(&self, trained: &Trained) -> Option<String> {
        let now = self.dataset.fingerprint();
        let chosen_on = trained.chosen_by.as_ref().and_then(|chosen| chosen.images.as_ref()?.blake3.as_ref());
        let what = match (&trained.validated_on, chosen_on) {
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

    /// The number of images to evaluate.
    pub fn count(&self) -> usize {
        self.bound.unwrap_or(usize::MAX).min(self.dataset.len())
    }

    /// Loads the prepared images of this process's share of `world` batch by batch.
    pub fn loader(&self, device: Device, world: &World) -> Result<Loader> {
        Ok(Loader::eval(Arc::clone(&self.dataset), &self.data, self.batch_size, self.bound, device, world)?)
    }
}

/// Chooses the images of `data`, or else a config's own validation images. Returns a description of
/// their location, and the largest number to evaluate; `None` without either.
pub(in crate::inference) fn choose(
    data: Option<&Path>,
    pick: &Pick,
    config: Option<&Config>,
    tell: Tell,
) -> Result<Option<(String, Dataset, Option<usize>)>> {
    let work = tell.work("looking for images", None);
    let found_more = |more| work.add(more);
    if let Some(path) = data {
        let dataset = Dataset::select_watched(path, Split::All, &pick.selection(), &found_more)?;
        return Ok(Some((path.display().to_string(), dataset, None)));
    }
    if pick.split.is_some() || pick.image_column.is_some() {
        return Err(Misuse(
            "--split and --image-column choose among the images of --data; give it too".into(),
        )
        .into());
    }
    let Some(config) = config else { return Ok(None) };
    let dataset = validation_images(config, &found_more)?;
    Ok(Some((words_of_validation(config), dataset, config.eval.bound())))
}

/// The config that states which images are used and how they are prepared: a file, or that of a run
/// or model folder.
pub(in crate::inference) fn protocol(path: &Path) -> Result<Config> {
    let found = shipped::config(path)?;
    if found.is_dir() && !Run::is_one(&found) {
        let path = path.display();
        let words =
            format!("--protocol is {path}, which holds neither a run nor a model; give a config or a run");
        return Err(Misuse(words).into());
    }
    let config = match found.is_dir() {
        true => Run::find(&found)?.config()?,
        false => Config::read(&found, &[])?.0,
    };
    config.check().with_context(|| format!("{} cannot be the protocol", path.display()))?;
    Ok(config)
}
