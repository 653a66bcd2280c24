//! Prepares originals as the metrics see them, for other programs to reconstruct.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::evaluation::{choose, protocol};
use crate::codec::Adapter;
use crate::config::{Config, read_toml, shipped};
use crate::evaluate::EvaluateError;
use crate::model::ImageSize;
use crate::outputs::{Naming, is_inside, make_empty, png_of, refuse_clashes, write_png};
use crate::run::{CONFIG, Pick, Run, Tell, adapter, tell_omitted};
use crate::train::TrainError;
use pixtok_base::Misuse;
use pixtok_base::paths::absence;
use pixtok_images::data::{self, BadSample, BadSamples, DataError, Dataset, Fit, Pipeline, Prepare};

/// How many images may be finished ahead of the first unfinished one. Only their outcomes are kept.
const OUTCOMES_AHEAD: usize = 256;

/// The options of a preparation.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareOptions {
    /// What states how the images are prepared: a config, a run or a model folder, or an adapter.
    pub recipe: PathBuf,
    /// The images; absent: the config's validation images.
    pub data: Option<PathBuf>,
    /// The selection of images.
    pub pick: Pick,
    /// The folder for the originals, new or empty.
    pub out: PathBuf,
    /// The part of a picture that becomes the original.
    pub fit: OriginalFit,
    /// The naming of the files.
    pub names: Naming,
}

/// The part of a picture that becomes the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginalFit {
    /// Resized and cropped at the centre to one size.
    Centre,
    /// The whole picture except for its borders, at its own scale.
    Whole,
    /// The whole picture, each side scaled separately.
    Scaled,
}

/// Where the preparation of images is defined.
enum Recipe {
    /// A config, possibly that of a run or a model.
    Config(Box<Config>),
    /// The adapter of a TorchScript pair.
    Adapter(Adapter),
}

/// The outcome of one image.
enum Outcome {
    /// It was written; holds whether its size differs from the picture's.
    Written { resized: bool },
    /// It could not be used.
    Bad(BadSample),
}

/// Writes a PNG for each image. Returns a description with their number.
///
/// # Errors
/// When two images would have the same file, too many images cannot be used, or the files cannot be
/// written.
pub fn prepare(options: &PrepareOptions, tell: Tell) -> Result<String> {
    let recipe = Recipe::read(&options.recipe)?;
    let (words, dataset, bound) = choose(options.data.as_deref(), &options.pick, recipe.config(), tell)?
        .ok_or_else(|| {
            let path = options.recipe.display();
            Misuse(format!("{path} has no images of its own; give a folder with --data"))
        })?;
    tell_omitted([&dataset], tell);
    recipe.check_fit(options)?;
    let data = recipe.data(options.fit);
    let prepare = Prepare::new(&data, recipe.fit(options.fit)?);
    let places = dataset.evaluated(bound).collect();
    let originals = Originals { dataset, places, out: options.out.clone(), names: options.names };
    originals.refuse_names()?;
    make_empty(&options.out)?;
    let outcomes = originals.write(prepare, &data, tell)?;
    let (mut written, mut resized) = (0, 0);
    let mut bad = BadSamples::new(outcomes.len(), data.max_bad_fraction);
    for outcome in &outcomes {
        match outcome {
            Outcome::Written { resized: true } => (written, resized) = (written + 1, resized + 1),
            Outcome::Written { resized: false } => written += 1,
            Outcome::Bad(sample) => {
                bad.record(sample);
            }
        }
    }
    if written == 0 {
        return Err(EvaluateError::NoImages(format!("none of {} could be used", outcomes.len())).into());
    }
    bad.check().map_err(TrainError::from)?;
    if options.fit != OriginalFit::Centre && resized > 0 {
        let how = if options.fit == OriginalFit::Whole { "cut at their borders" } else { "scaled" };
        tell.note(&format!(
            "{resized} of {written} were {how} to multiples of {} pixels",
            recipe.side_multiple()?
        ));
    }
    Ok(format!("{written} original(s) of {words} in {}\n", options.out.display()))
}

impl Recipe {
    /// Recognises what is at the path, which may be the name of a config that comes with pixtok.
    fn read(path: &Path) -> Result<Self> {
        // The message about a missing path names all that it could be.
        let path = &shipped::config(path).unwrap_or_else(|_| path.to_owned());
        if !path.exists() {
            return Err(Misuse(format!(
                "{} {}; give a config, a run folder, a model folder or an adapter",
                path.display(),
                absence(path)
            ))
            .into());
        }
        if path.is_dir() {
            if !Run::is_one(path) {
                return Err(Misuse(format!(
                    "{} holds neither a run nor a model, for it has no {}; give a config or another folder",
                    path.display(),
                    CONFIG
                ))
                .into());
            }
            return Ok(Self::Config(Box::new(Run::find(path)?.config()?)));
        }
        // A config has no such key.
        if read_toml::<toml::Table>(path)?.contains_key("encoder") {
            let adapter = adapter(path)?;
            adapter.check(path)?;
            return Ok(Self::Adapter(adapter));
        }
        Ok(Self::Config(Box::new(protocol(path)?)))
    }

    fn config(&self) -> Option<&Config> {
        match self {
            Self::Config(config) => Some(config),
            Self::Adapter(_) => None,
        }
    }

    /// The settings that prepare images.
    fn data(&self, fit: OriginalFit) -> data::Config {
        let data = match self {
            Self::Config(config) => config.data.clone(),
            Self::Adapter(adapter) => adapter.data(),
        };
        // The same as in an export of whole pictures.
        let resize = data.resize.filter(|_| fit != OriginalFit::Scaled);
        data::Config { resize, ..data }
    }

    /// Height and width of the images must be multiples of this number of pixels.
    fn side_multiple(&self) -> Result<u32> {
        let factor = match self {
            Self::Config(config) => config.plan()?.side_multiple(),
            Self::Adapter(adapter) => adapter.side_multiple(),
        };
        u32::try_from(factor).context("the downsampling is too large")
    }

    /// Refuses originals of any size for a tokenizer that takes a single one.
    fn check_fit(&self, options: &PrepareOptions) -> Result<()> {
        let flag = match options.fit {
            OriginalFit::Centre => return Ok(()),
            OriginalFit::Whole => "whole",
            OriginalFit::Scaled => "scaled",
        };
        let only = match self {
            Self::Config(config) => config.plan()?.only_size(),
            Self::Adapter(_) => None,
        };
        let Some(ImageSize { height, width }) = only else { return Ok(()) };
        Err(Misuse(format!(
            "--fit {flag} keeps the shape of each picture, and {} takes images of exactly {height}×{width} pixels; \
             give --fit centre",
            options.recipe.display()
        ))
        .into())
    }

    fn fit(&self, fit: OriginalFit) -> Result<Fit> {
        Ok(match fit {
            OriginalFit::Centre => Fit::Centre,
            OriginalFit::Whole => Fit::Cut { factor: self.side_multiple()? },
            OriginalFit::Scaled => Fit::Whole { factor: self.side_multiple()? },
        })
    }
}

/// The images to prepare.
struct Originals {
    dataset: Dataset,
    /// Their indices in the data set.
    places: Vec<usize>,
    out: PathBuf,
    names: Naming,
}

impl Originals {
    /// The name of the image at an index, and its file.
    fn file(&self, place: usize) -> (String, PathBuf) {
        let name = self.dataset.name(place).into_owned();
        let file = png_of(Path::new(&name), &self.out, self.names);
        (name, file)
    }

    /// Checks in advance that each image has its own file, below the folder.
    fn refuse_names(&self) -> Result<()> {
        let names = self.places.iter().map(|&place| self.dataset.name(place));
        if let Some(name) = names.into_iter().find(|name| !is_inside(Path::new(&**name))) {
            let out = self.out.display();
            return Err(Misuse(format!("the name {name:?} leads out of {out}; rename the image")).into());
        }
        refuse_clashes("original", self.places.len(), |i| self.file(self.places[i]))
    }

    /// Decodes, prepares and writes several images at a time. Returns the outcome of each, in
    /// order, and tells those that are left out.
    fn write(mut self, prepare: Prepare, data: &data::Config, tell: Tell) -> Result<Vec<Outcome>> {
        let options = data.decode_options();
        let places = std::mem::take(&mut self.places);
        let work = tell.work("preparing", Some(places.len() as u64));
        let one = move |place: usize| -> Result<Outcome> {
            let (name, file) = self.file(place);
            let picture = self.dataset.picture(place, &options);
            match picture.and_then(|picture| prepare.picture(&picture)) {
                Ok(image) => {
                    write_png(&file, &image.to_picture())?;
                    Ok(Outcome::Written { resized: image.is_resized() })
                }
                Err(reason) => Ok(Outcome::Bad(BadSample { name, reason })),
            }
        };
        let outcomes = Pipeline::map(places, data.workers, OUTCOMES_AHEAD, one)?;
        let seen = |outcome: Outcome| {
            work.add(1);
            if let Outcome::Bad(sample) = &outcome {
                tell.say(&format!("left out {}: {}", sample.name, sample.reason));
            }
            outcome
        };
        outcomes.map(|outcome| outcome.map_err(DataError::from)?.map(seen)).collect()
    }
}
