//! Tries existing tokenizers and reconstructions before anything runs: whatever their evaluation
//! would refuse is found here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::Plan;
use crate::codec::Codec;
use crate::config::{Config, Difference, KnownKey, known};
use crate::evaluate::{EvaluateError, Reconstructions};
use crate::inference::first_batch;
use crate::model::size_of;
use crate::run::{Found, ModelChoice, Opened, Tell, Trained};
use pixtok_base::Misuse;
use pixtok_images::data::{self, DataError, Dataset, Fingerprint, Pipeline};
use pixtok_images::picture;
use pixtok_tokens::StatedPrefix;

/// The keys that decide how images are prepared for an evaluation, and in which batches.
const PREPARATION: [KnownKey; 6] = [
    known::DATA_IMAGE_SIZE,
    known::DATA_RESIZE,
    known::DATA_FILTER,
    known::DATA_BACKGROUND,
    known::DATA_LENIENT_JPEG,
    known::EVAL_BATCH_SIZE,
];
/// How many files may be looked at ahead of the first unfinished one.
const FILES_AHEAD: usize = 256;

/// What was found at the path of an arm.
pub(super) struct Tried {
    /// The number of codes of each codebook; absent without codebooks.
    pub codes: Option<i64>,
    /// What can be left out when an image is decoded, tokens or codebooks, and how many there are;
    /// absent if only all of them decode.
    pub prefixes: Option<StatedPrefix>,
    /// Text that changes whenever the evaluation may come out differently because of what is there.
    pub identity: String,
    /// The config of a run, and the fingerprint of the images that it was trained on, if it is
    /// known.
    pub trained: Option<(Config, Option<Fingerprint>)>,
    /// How its own preparation of images differs from the comparison's, if it does.
    pub preparation: Option<String>,
    /// Doubts about a foreign pair that the images raised.
    pub doubts: Vec<String>,
}

/// What existing tokenizers are tried on.
pub(super) struct Trial<'a> {
    plan: &'a Plan,
    /// The evaluated images; absent if they are elsewhere.
    dataset: Option<&'a Arc<Dataset>>,
    device: Device,
    /// Their first batch, once a tokenizer needed it.
    images: Option<Tensor>,
    tell: Tell<'a>,
}

impl<'a> Trial<'a> {
    pub fn new(plan: &'a Plan, dataset: Option<&'a Arc<Dataset>>, device: Device, tell: Tell<'a>) -> Self {
        Self { plan, dataset, device, images: None, tell }
    }

    /// Tries what is at the path. An image of the comparison's size goes through pixtok's own
    /// tokenizer, the first batch of the evaluation through a foreign pair, or a ramp if the images
    /// are elsewhere. Reconstructions are looked up by name, and their sizes are read.
    pub fn of(&mut self, path: &Path) -> Result<Tried> {
        let base = &self.plan.base;
        match Found::open(path, ModelChoice::default(), self.device, self.tell)? {
            Found::Tokenizer(Opened::Own(trained)) => self.of_own(path, &trained),
            Found::Tokenizer(Opened::Foreign(mut pair)) => {
                let (batch_size, size) = (base.eval.batch_size, base.image_size());
                match self.first_batch()? {
                    Some(images) => pair.try_on(&images, batch_size)?,
                    None => pair.try_on_ramp(batch_size, size, batch_size, self.device)?,
                }
                // Its size need not be one of the comparison's buckets, which are for training.
                let image_size = pair.adapter().data().image_size;
                let data = data::Config { image_size, buckets: None, ..base.data.clone() };
                let own = Config { data, ..base.clone() };
                let adapter = toml::to_string(pair.adapter()).context("cannot write the adapter as TOML")?;
                let codes = pair.vocabulary().size;
                let doubts = pair.notes().to_vec();
                let weights = Opened::Foreign(pair).weights_blake3()?;
                Ok(Tried {
                    codes: Some(codes),
                    prefixes: None,
                    identity: identity(path, &[adapter, weights]),
                    trained: None,
                    preparation: self.preparation(&own)?,
                    doubts,
                })
            }
            Found::Reconstructions(folder) => {
                let files = self.dataset.map(|dataset| self.files_of(&folder, dataset)).transpose()?;
                Ok(Tried {
                    codes: None,
                    prefixes: None,
                    identity: identity(path, &files.unwrap_or_default()),
                    trained: None,
                    preparation: None,
                    doubts: vec![],
                })
            }
        }
    }

    fn of_own(&self, path: &Path, trained: &Trained) -> Result<Tried> {
        let (height, width) = self.plan.base.image_size();
        let codec = trained.codec();
        let grey = Tensor::full([1, 3, height, width], 128, (Kind::Uint8, self.device));
        let recon = codec.decode(&codec.encode(&grey)?, size_of(&grey))?;
        if recon.size() != grey.size() {
            let size = recon.size();
            return Err(Misuse(format!(
                "it turns images of {height}×{width} pixels into {}×{}; choose a data.image_size that suits all arms",
                size[2], size[3]
            ))
            .into());
        }
        let parts = [
            trained.config.to_toml()?,
            trained.weights_blake3()?,
            format!("{:?} {:?}", trained.step, trained.changes),
        ];
        Ok(Tried {
            codes: Some(codec.vocabulary().size),
            prefixes: codec.prefixes(),
            identity: identity(path, &parts),
            trained: Some((trained.config.clone(), trained.trained_on.clone())),
            preparation: self.preparation(&trained.config)?,
            doubts: vec![],
        })
    }

    /// The first batch of the evaluation, if the images are here.
    fn first_batch(&mut self) -> Result<Option<Tensor>> {
        if let (None, Some(dataset)) = (&self.images, self.dataset) {
            self.images = first_batch(dataset, &self.plan.base, self.device)?;
        }
        Ok(self.images.as_ref().map(Tensor::shallow_clone))
    }

    /// Finds the reconstructions of the evaluated images and checks their sizes. Returns a line for
    /// each, with its length and time.
    fn files_of(&self, folder: &Path, dataset: &Dataset) -> Result<Vec<String>> {
        let Plan { base, .. } = self.plan;
        let of_images = base.data.val.as_deref().and_then(|val| Path::new(val).canonicalize().ok());
        if of_images.is_some() && of_images == folder.canonicalize().ok() {
            let folder = folder.display();
            return Err(Misuse(format!(
                "{folder} holds the images that everything here is measured on, not reconstructions of them; leave it \
                 out, or measure on others with --data"
            ))
            .into());
        }
        let bound = base.eval.bound();
        let found = Reconstructions::find(folder, dataset, bound)?;
        let files = dataset.evaluated(bound).map(|image| Ok(found.of(&dataset.name(image))?.to_owned()));
        let files: Vec<PathBuf> = files.collect::<Result<_, EvaluateError>>()?;
        self.check_sizes(folder, &files)?;
        let line = |file: &PathBuf| {
            let meta = file.metadata().ok();
            let time = meta.as_ref().and_then(|meta| meta.modified().ok());
            format!("{} {:?} {time:?}", file.display(), meta.map(|meta| meta.len()))
        };
        Ok(files.iter().map(line).collect())
    }

    /// Refuses reconstructions that don't have the size of the prepared images. Those that cannot be
    /// read are left to the evaluation, which reports them.
    fn check_sizes(&self, folder: &Path, files: &[PathBuf]) -> Result<()> {
        let base = &self.plan.base;
        let (height, width) = base.image_size();
        let wanted = (width as usize, height as usize);
        let sizes = Pipeline::map(files.to_vec(), base.data.workers, FILES_AHEAD, |file| {
            let size = picture::size(&file).ok();
            (file, size)
        })?;
        let (mut others, mut example) = (0, None);
        for looked_at in sizes {
            let (file, size) = looked_at.map_err(DataError::from)?;
            if let Some(size) = size.filter(|&size| size != wanted) {
                others += 1;
                example.get_or_insert((file, size));
            }
        }
        let Some((file, (w, h))) = example else { return Ok(()) };
        let name = file.strip_prefix(folder).unwrap_or(&file).display();
        let are = if others == 1 { "is" } else { "are" };
        Err(Misuse(format!(
            "{others} of {} reconstructions in {} {are} not {width}×{height} pixels in size like the images here, for \
             instance {name} with {w}×{h}; {} writes the originals to reconstruct",
            files.len(),
            folder.display(),
            self.prepare_command()?
        ))
        .into())
    }

    /// The command that writes the originals as this comparison prepares them.
    fn prepare_command(&self) -> Result<String> {
        let Plan { base, recipe, .. } = self.plan;
        let (now, own) = (&base.data, &recipe.config.data);
        let data = match &now.val {
            Some(val) if now.val != own.val => format!(" --data {val}"),
            None if now.train != own.train => format!(" --data {}", now.train),
            _ => String::new(),
        };
        let command = format!("`pixtok prepare {}{data} --out DIR`", recipe.path.display());
        let mut changes = base.changes(&recipe.config)?;
        changes.retain(|change| is_preparation(change) && !change.path.is(known::EVAL_BATCH_SIZE));
        if changes.is_empty() {
            return Ok(command);
        }
        let values = changes.iter().map(|change| {
            let value = change.to.as_ref().map_or_else(|| "left out".to_owned(), ToString::to_string);
            format!("{} = {value}", change.path)
        });
        Ok(format!("{command}, with {} in a copy of that config,", values.collect::<Vec<_>>().join(" and ")))
    }

    /// How the preparation that `own` states differs from the comparison's.
    fn preparation(&self, own: &Config) -> Result<Option<String>> {
        let shown = |value: &Option<toml::Value>| {
            value.as_ref().map_or_else(|| "not set".to_owned(), ToString::to_string)
        };
        let changes = own.changes(&self.plan.base)?;
        let words = changes.iter().filter(|change| is_preparation(change)).map(|change| {
            format!("{} is {} there and {} here", change.path, shown(&change.to), shown(&change.from))
        });
        let words: Vec<String> = words.collect();
        Ok((!words.is_empty()).then(|| words.join(", ")))
    }
}

fn is_preparation(change: &Difference) -> bool {
    PREPARATION.iter().any(|key| change.path.is_in(*key))
}

/// The identity of what is at a path, made of parts.
fn identity(path: &Path, parts: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
    for part in [&place].into_iter().chain(parts) {
        hasher.update(part.as_bytes()).update(b"\0");
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sweep::plan::Changes;
    use pixtok_images::data::Split;
    use pixtok_images::picture::Picture;

    fn write(path: &Path, width: usize, height: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, Picture { width, height, rgb: vec![9; 3 * width * height] }.to_png().unwrap())
            .unwrap();
    }

    #[test]
    fn sizes_of_reconstructions_are_checked_before_anything_runs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, width) in [("a.png", 48), ("b.png", 48), ("c.png", 32)] {
            write(&at("val").join(name), 64, 40);
            write(&at("made").join(name), width, 32);
            write(&at("whole").join(name), 48, 32);
        }
        let text = format!(
            "[data]\nimage_size = [32, 32]\nval = {:?}\n[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n",
            at("val")
        );
        fs::write(at("base.toml"), text).unwrap();
        let sweep =
            "base = \"base.toml\"\nset.data.image_size = [32, 48]\n[[arms]]\nname = \"a\"\npath = \"made\"\n";
        fs::write(at("sweep.toml"), sweep).unwrap();
        let plan = Plan::read(&at("sweep.toml"), &Changes::default()).unwrap();
        let dataset = Arc::new(Dataset::open(&at("val"), Split::All).unwrap());
        let mut trial = Trial::new(&plan, Some(&dataset), Device::Cpu, Tell::to(&|_| ()));
        let error = trial.of(&at("made")).err().unwrap().to_string();
        let base = at("base.toml").display().to_string();
        for part in [
            "1 of 3 reconstructions",
            "48×32 pixels",
            "c.png with 32×32",
            &format!("`pixtok prepare {base} --out DIR`, with data.image_size = [32, 48] in a copy"),
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let whole = trial.of(&at("whole")).ok().unwrap();
        assert_eq!((whole.codes, &whole.preparation), (None, &None));
        assert_eq!(trial.of(&at("whole")).ok().unwrap().identity, whole.identity);
        write(&at("whole/b.png"), 48, 32);
        fs::write(at("whole/b.png"), [fs::read(at("whole/b.png")).unwrap(), vec![0]].concat()).unwrap();
        assert_ne!(trial.of(&at("whole")).ok().unwrap().identity, whole.identity);
        let error = trial.of(&at("val")).err().unwrap().to_string();
        assert!(error.contains("not reconstructions of them"), "{error}");
        // A broken one is left to the evaluation.
        fs::write(at("whole/b.png"), "no picture").unwrap();
        assert!(trial.of(&at("whole")).is_ok());
        let data = data::Config { resize: Some(99), ..plan.base.data.clone() };
        let words = trial.preparation(&Config { data, ..plan.base.clone() }).unwrap().unwrap();
        assert_eq!(words, "data.resize is 99 there and not set here");
    }
}
