//! `pixtok prepare`: originals as the metrics see them, for other programs to reconstruct.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::names::{is_inside, png_of, refuse_clashes};
use super::write::{make_empty, write_png};
use super::{Misuse, note, note_omitted, open, print, subject};
use crate::cli::{OriginalFit, PrepareArgs};
use crate::codec::Adapter;
use crate::config::{Config, read_toml};
use pixtok_images::data::{self, BadSample, BadSamples, Dataset, Fit, Prepare};
use crate::evaluate::EvaluateError;
use pixtok_base::paths::absence;
use crate::train::TrainError;

/// Where the preparation of images is defined.
enum Recipe {
    /// A config, possibly that of a run or a model.
    Config(Box<Config>),
    /// The adapter of a TorchScript pair.
    Adapter(Adapter),
}

/// What became of an image.
enum Outcome {
    /// It was written; holds whether its size differs from the picture's.
    Written { resized: bool },
    /// It could not be used.
    Bad(BadSample),
}

/// Writes a PNG for each image.
pub(super) fn run(args: &PrepareArgs) -> Result<()> {
    let recipe = Recipe::read(&args.recipe)?;
    let (words, dataset, bound) = subject::choose(args.data.as_deref(), &args.pick, recipe.config())?
        .ok_or_else(|| {
            Misuse(format!("{} has no images of its own; give a folder with --data", args.recipe.display()))
        })?;
    note_omitted([&dataset]);
    let data = recipe.data(args.fit);
    let prepare = Prepare::new(&data, recipe.fit(args.fit)?);
    let originals = Originals { places: dataset.evaluated(bound).collect(), dataset, args };
    originals.refuse_names()?;
    make_empty(&args.out)?;
    let outcomes = originals.write(&prepare, &data)?;
    let (mut written, mut resized) = (0, 0);
    let mut bad = BadSamples::new(outcomes.len(), data.max_bad_fraction);
    for outcome in &outcomes {
        match outcome {
            Outcome::Written { resized: true } => (written, resized) = (written + 1, resized + 1),
            Outcome::Written { resized: false } => written += 1,
            Outcome::Bad(sample) => {
                note(&format!("left out {}: {}", sample.name, sample.reason));
                bad.record(sample);
            }
        }
    }
    if written == 0 {
        return Err(EvaluateError::NoImages(format!("none of {} could be used", outcomes.len())).into());
    }
    bad.check().map_err(TrainError::from)?;
    if args.fit != OriginalFit::Centre && resized > 0 {
        let how = if args.fit == OriginalFit::Whole { "cut at their borders" } else { "scaled" };
        note(&format!("{resized} of {written} were {how} to multiples of {} pixels", recipe.downsample()?));
    }
    print(&format!("{written} original(s) of {words} in {}\n", args.out.display()))
}

impl Recipe {
    /// Tells from the path what it is.
    fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Misuse(format!(
                "{} {}; give a config, a run folder, a model folder or an adapter",
                path.display(),
                absence(path)
            ))
            .into());
        }
        if path.is_dir() {
            if !open::is_ours(path) {
                return Err(Misuse(format!(
                    "{} holds neither a run nor a model, for it has no {}; give a config or another folder",
                    path.display(),
                    open::CONFIG
                ))
                .into());
            }
            return Ok(Self::Config(Box::new(open::config_of(path)?)));
        }
        // A config has no such key.
        if read_toml::<toml::Table>(path)?.contains_key("encoder") {
            let adapter: Adapter = read_toml(path).with_context(|| {
                format!("{} is read as the adapter of a TorchScript pair", path.display())
            })?;
            adapter.check(path)?;
            return Ok(Self::Adapter(adapter));
        }
        Ok(Self::Config(Box::new(subject::protocol(path)?)))
    }

    fn config(&self) -> Option<&Config> {
        match self {
            Self::Config(config) => Some(config),
            Self::Adapter(_) => None,
        }
    }

    /// How images are prepared.
    fn data(&self, fit: OriginalFit) -> data::Config {
        let data = match self {
            Self::Config(config) => config.data.clone(),
            Self::Adapter(adapter) => adapter.data(),
        };
        // As in an export of whole pictures.
        let resize = data.resize.filter(|_| fit != OriginalFit::Scaled);
        data::Config { resize, ..data }
    }

    /// Pixels per position along each axis.
    fn downsample(&self) -> Result<u32> {
        let factor = match self {
            Self::Config(config) => config.model.downsample(&config.quantizer, config.image_size())?,
            Self::Adapter(adapter) => adapter.downsample,
        };
        u32::try_from(factor).context("the downsampling is too large")
    }

    fn fit(&self, fit: OriginalFit) -> Result<Fit> {
        Ok(match fit {
            OriginalFit::Centre => Fit::Centre,
            OriginalFit::Whole => Fit::Cut { factor: self.downsample()? },
            OriginalFit::Scaled => Fit::Whole { factor: self.downsample()? },
        })
    }
}

/// The images to prepare.
struct Originals<'a> {
    dataset: Dataset,
    /// Their places in the data set.
    places: Vec<usize>,
    args: &'a PrepareArgs,
}

impl Originals<'_> {
    /// The name of the image at a place, and its file.
    fn file(&self, place: usize) -> (String, PathBuf) {
        let name = self.dataset.name(place).into_owned();
        let file = png_of(Path::new(&name), &self.args.out, self.args.names);
        (name, file)
    }

    /// Checks before the work that each image has its own file, below the folder.
    fn refuse_names(&self) -> Result<()> {
        let names = self.places.iter().map(|&place| self.dataset.name(place));
        if let Some(name) = names.into_iter().find(|name| !is_inside(Path::new(&**name))) {
            let out = self.args.out.display();
            return Err(Misuse(format!("the name {name:?} leads out of {out}; rename the image")).into());
        }
        refuse_clashes("original", self.places.len(), |i| self.file(self.places[i]))
    }

    /// Decodes, prepares and writes the images, several at a time; returns what became of each, in
    /// their order.
    fn write(&self, prepare: &Prepare, data: &data::Config) -> Result<Vec<Outcome>> {
        let options = data.decode_options();
        let one = |&place: &usize| -> Result<Outcome> {
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
        self.places.par_iter().map(one).collect()
    }
}
