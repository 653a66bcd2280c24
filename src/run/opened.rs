//! Opens what a path names. This is the only way to a tokenizer, pixtok's or another program's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use super::{ModelChoice, Run, Tell, Trained, maker};
use crate::codec::{Adapter, Codec, CodecError, Prefix, TorchScript, prefix_of};
use crate::config::read_toml;
use crate::evaluate;
use crate::quantizer::digits::MixedRadix;
use crate::train::Weights;
use pixtok_base::Misuse;
use pixtok_base::paths::absence;
use pixtok_images::data::{self, ImageFolder, ImageSize};
use pixtok_tokens::{Arrangement, MadeBy, StatedPositions, StatedPrefix, StatedTokenizer};

/// The number of runs in a folder that a message names.
const RUNS_SHOWN: usize = 12;

/// A tokenizer that can process images, with what a token set must state about it.
pub enum Opened {
    /// A run or a model folder of pixtok.
    Own(Box<Trained>),
    /// A TorchScript pair of another program.
    Foreign(Box<TorchScript>),
}

/// What a path names: a tokenizer, which makes reconstructions, or a folder with reconstructions.
pub enum Found {
    /// A tokenizer.
    Tokenizer(Opened),
    /// A folder with reconstructions.
    Reconstructions(PathBuf),
}

impl Found {
    /// Recognises what is at the path and opens it. No images are passed through a foreign pair.
    ///
    /// # Errors
    /// [`Misuse`] says what else the path names; or the reason why the tokenizer cannot be opened.
    pub fn open(path: &Path, choice: ModelChoice, device: Device, tell: Tell) -> Result<Self> {
        if path.is_file() {
            if path.extension().is_none_or(|extension| extension != "toml") {
                return Err(Misuse(format!(
                    "{} is a file; give a folder, or an adapter that ends in .toml",
                    path.display()
                ))
                .into());
            }
            refuse_positions(choice, path)?;
            let pair = TorchScript::load(adapter(path)?, path, device)?;
            return Ok(Self::Tokenizer(Opened::Foreign(Box::new(pair))));
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
            return Err(
                Misuse(format!("{path_words} is a comparison; give one of the runs in its arms/")).into()
            );
        }
        if path.join("manifest.json").is_file() {
            return Err(Misuse(format!(
                "{path_words} is a checkpoint; give its run folder, with --checkpoint"
            ))
            .into());
        }
        // A run folder may contain pictures too.
        if Run::is_one(path) || path.join("best.json").exists() || !path.is_dir() {
            let trained = Run::find(path)?.open(choice, device, tell)?;
            return Ok(Self::Tokenizer(Opened::Own(Box::new(trained))));
        }
        let nothing = |why: String| {
            Misuse(format!("{path_words} holds neither a run nor a model nor reconstructions: {why}"))
        };
        // Reconstructions may lie in folders that pixtok wrote, but the pictures of runs are not
        // reconstructions.
        let runs = runs_in(path);
        if let Some(first) = runs.first() {
            let words = format!("it holds runs ({}); give one of them, like", listed(&runs));
            return Err(nothing(format!("{words} {}", path.join(first).display())).into());
        }
        ImageFolder::open_with_outputs(path).map_err(|error| nothing(error.to_string()))?;
        refuse_positions(choice, path)?;
        Ok(Self::Reconstructions(path.to_owned()))
    }

    /// The tokenizer, if it is pixtok's.
    #[must_use]
    pub fn own(&self) -> Option<&Trained> {
        match self {
            Self::Tokenizer(Opened::Own(trained)) => Some(trained),
            _ => None,
        }
    }

    /// The TorchScript pair, if another program made the tokenizer.
    #[must_use]
    pub fn foreign(&self) -> Option<&TorchScript> {
        match self {
            Self::Tokenizer(Opened::Foreign(pair)) => Some(pair),
            _ => None,
        }
    }
}

/// Refuses positions for anything but a network of pixtok's.
fn refuse_positions(choice: ModelChoice, path: &Path) -> Result<()> {
    let Some(extension) = choice.positions else { return Ok(()) };
    Err(Misuse(format!(
        "--positions is {extension}, and {} is no run or model folder of pixtok's, whose networks have such a \
         setting; leave it out",
        path.display()
    ))
    .into())
}

/// The names of the runs directly inside a folder, sorted.
fn runs_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let runs = entries.filter(|entry| Run::is_one(&entry.path()));
    let mut names: Vec<String> = runs.map(|run| run.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The first names, and how many there are beyond.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(RUNS_SHOWN)].join(", ");
    match names.len().saturating_sub(RUNS_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Reads the adapter of a TorchScript pair.
///
/// # Errors
/// When it cannot be read.
pub fn adapter(path: &Path) -> Result<Adapter> {
    read_toml(path)
        .with_context(|| format!("{} is read as the adapter of a TorchScript pair", path.display()))
}

impl Opened {
    /// Opens a run, a model folder or an adapter. A foreign pair is tried first, and may require
    /// batches of `batch_size` images.
    ///
    /// # Errors
    /// The same as [`Found::open`]; also when a foreign pair does not do what its adapter states.
    pub fn open(
        path: &Path,
        choice: ModelChoice,
        batch_size: Option<u32>,
        device: Device,
        tell: Tell,
    ) -> Result<Self> {
        let mut opened = match Found::open(path, choice, device, tell)? {
            Found::Tokenizer(opened) => opened,
            Found::Reconstructions(folder) => {
                return Err(Misuse(format!(
                    "{} holds images, not a tokenizer; give a run folder, a model folder or an adapter",
                    folder.display()
                ))
                .into());
            }
        };
        if let Self::Foreign(pair) = &mut opened {
            let side = i64::from(pair.adapter().image_size);
            let full = batch_size.map_or(evaluate::Config::default().batch_size, |size| size as usize);
            pair.try_on_ramp(1, (side, side), full, device)?;
            pair.notes().iter().for_each(|words| tell.say(words));
        }
        Ok(opened)
    }

    /// The codec between images and indices.
    #[must_use]
    pub fn codec(&self) -> Box<dyn Codec + '_> {
        match self {
            Self::Own(trained) => Box::new(trained.codec()),
            Self::Foreign(pair) => Box::new(&**pair),
        }
    }

    /// The codec of the first tokens or codebooks, as many as `prefix` says, and what they are the
    /// first of; without a prefix, or with one of all, the usual codec.
    ///
    /// # Errors
    /// When the tokenizer has no such prefix.
    pub fn first(
        &self,
        prefix: Option<u32>,
    ) -> Result<(Box<dyn Codec + '_>, Option<StatedPrefix>), CodecError> {
        let codec = self.codec();
        let Some(length) = prefix else { return Ok((codec, None)) };
        let whole = prefix_of(&*codec, length)?;
        if length == whole.of {
            return Ok((codec, None));
        }
        Ok((Box::new(Prefix::new(codec, length)?), Some(whole)))
    }

    /// Height and width of the images must be multiples of this number of pixels.
    #[must_use]
    pub fn side_multiple(&self) -> u32 {
        match self {
            Self::Own(trained) => trained.tokenizer.side_multiple() as u32,
            Self::Foreign(pair) => pair.adapter().side_multiple() as u32,
        }
    }

    /// The settings that prepare its images.
    #[must_use]
    pub fn data(&self) -> data::Config {
        match self {
            Self::Own(trained) => trained.config.data.clone(),
            Self::Foreign(pair) => pair.adapter().data(),
        }
    }

    /// The default batch size.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        match self {
            Self::Own(trained) => trained.config.eval.batch_size,
            Self::Foreign(_) => evaluate::Config::default().batch_size,
        }
    }

    /// The digits of its indices, if they consist of digits.
    #[must_use]
    pub fn radix(&self) -> Option<&MixedRadix> {
        match self {
            Self::Own(trained) => trained.tokenizer.quantizer.digits(),
            Self::Foreign(_) => None,
        }
    }

    /// The checkpoint that its weights are from, and which of its weights they are; `None` unless
    /// they are a run's.
    #[must_use]
    pub fn checkpoint(&self) -> Option<(u64, Weights)> {
        match self {
            Self::Own(trained) => Some((trained.step?, trained.choice.weights)),
            Self::Foreign(_) => None,
        }
    }

    /// How a sidecar names the checkpoint, of the run at `path`.
    #[must_use]
    pub fn made_by(&self, path: &Path) -> Option<MadeBy> {
        let (step, weights) = self.checkpoint()?;
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let run = real.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Some(MadeBy { run, step, weights: maker::stated(weights) })
    }

    /// The only size of images that it takes; `None` if it takes all multiples of
    /// [`Opened::side_multiple`].
    #[must_use]
    pub fn only_size(&self) -> Option<ImageSize> {
        match self {
            Self::Own(trained) => trained.tokenizer.only_size(),
            Self::Foreign(_) => None,
        }
    }

    /// How a sidecar names what is done with positions at sizes beyond the trained one; `None` of a
    /// network without positions that extend.
    #[must_use]
    pub fn stated_positions(&self) -> Option<StatedPositions> {
        match self {
            Self::Own(trained) => trained.extension().map(maker::stated_positions),
            Self::Foreign(_) => None,
        }
    }

    /// The hash of its weights.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn weights_blake3(&self) -> Result<String> {
        match self {
            Self::Own(trained) => trained.weights_blake3(),
            Self::Foreign(pair) => modules_blake3(pair),
        }
    }

    /// What a sidecar states about the tokenizer, whose tokens are those of `codec`: its own, or the
    /// first of them.
    ///
    /// # Errors
    /// The same as [`Opened::weights_blake3`].
    pub fn stated(
        &self,
        codec: &dyn Codec,
        digits: bool,
        numbers: u32,
        arrangement: Arrangement,
    ) -> Result<StatedTokenizer> {
        let vocabulary = codec.vocabulary();
        let (kind, quantizer) = match self {
            Self::Own(trained) => {
                let config = &trained.config.quantizer;
                let mut settings = serde_json::to_value(config).context("cannot state the quantizer")?;
                if let Value::Object(map) = &mut settings {
                    let constants = config.settings().constants();
                    map.extend(constants.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
                }
                (config.kind(), settings)
            }
            Self::Foreign(_) => ("torchscript".to_owned(), json!({})),
        };
        let radix = self.radix();
        Ok(StatedTokenizer {
            kind,
            weights_blake3: self.weights_blake3()?,
            keeps_tokens_of: match self {
                Self::Own(trained) => trained.config.train.keeps_tokens_of.clone(),
                Self::Foreign(_) => None,
            },
            codebooks: vocabulary.codebooks as u32,
            codebook_size: vocabulary.size as u64,
            digits,
            levels: radix.map(|radix| radix.levels().to_vec()),
            digit_order: radix.map(|radix| radix.order().name().to_owned()),
            numbers,
            arrangement,
            quantizer,
        })
    }
}

/// The hash of a pair's files.
fn modules_blake3(pair: &TorchScript) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in pair.files() {
        hasher.update(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::paths::mark_output;
    use pixtok_images::picture::Picture;

    #[test]
    fn reconstructions_lie_in_folders_that_pixtok_wrote_but_not_in_runs() {
        let root = tempfile::tempdir().unwrap();
        let picture = Picture { width: 7, height: 5, rgb: vec![9; 105] }.to_png().unwrap();
        for part in ["train", "val"] {
            let folder = root.path().join(part);
            fs::create_dir(&folder).unwrap();
            mark_output(&folder).unwrap();
            fs::write(folder.join("a.png"), &picture).unwrap();
        }
        let open = || Found::open(root.path(), ModelChoice::default(), Device::Cpu, Tell::to(&|_| ()));
        assert!(matches!(open().unwrap(), Found::Reconstructions(_)));
        for run in (10..23).rev().map(|number| root.path().join(format!("run-{number}"))) {
            fs::create_dir(&run).unwrap();
            for file in ["config.toml", "metrics.jsonl"] {
                fs::write(run.join(file), "").unwrap();
            }
        }
        let words = open().err().unwrap().to_string();
        assert!(words.contains("it holds runs (run-10, run-11, "), "{words}");
        assert!(
            words.contains(", run-21 and 1 more); give one of them, like ") && words.ends_with("/run-10")
        );
    }
}
