//! The root config. It nests the configs of the parts, reads files and overrides, and checks
//! everything before a run starts.
//!
//! The config says *what* to do, flags say *where*. No part imports this module.

mod changes;
mod diff;
mod encoding;
mod error;
mod key_path;
mod keys;
mod layers;
mod locate_error;
mod overrides;
mod problem;
pub mod shipped;
mod suggest;

use std::path::Path;
use std::{fs, io};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use changes::{CHANGES_FILE, RunChange};
pub use diff::Difference;
use diff::{diff, diff_by_kind, flattened};
pub use error::{ConfigError, Origin};
pub use key_path::{KeyPath, KnownKey, known};

use crate::quantizer::QuantizerConfig;
use crate::tasks::TaskKind;
use crate::train::TrainError;
use crate::variables::Component;
use crate::{adversarial, evaluate, loss, model, optim, train};
use pixtok_base::paths::absence;
use pixtok_base::{Class, Classified};
use pixtok_images::data;
use pixtok_report::definition;

/// All settings that define a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained; absent: a tokenizer.
    #[serde(default, skip_serializing_if = "TaskKind::is_default")]
    pub task: TaskKind,
    /// The seed of all random decisions.
    #[serde(default)]
    pub seed: u64,
    /// The images: where they are and how they are prepared.
    #[serde(default)]
    pub data: data::Config,
    /// The encoder and the decoder.
    #[serde(default, with = "model::written")]
    pub model: model::Config,
    /// The quantizer; the only part without a default.
    pub quantizer: QuantizerConfig,
    /// The terms of the loss.
    #[serde(default)]
    pub loss: loss::Config,
    /// The discriminator and its loss; `None` trains without an adversary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<adversarial::Config>,
    /// The optimizer and its schedule.
    #[serde(default)]
    pub optimizer: optim::Config,
    /// The training loop.
    #[serde(default)]
    pub train: train::Config,
    /// The evaluations.
    #[serde(default)]
    pub eval: evaluate::Config,
}

/// Keys that a resumed run may change: they do not alter what is computed, only where, how often and how long.
/// `data.train` may move; that it holds the same files is checked by its fingerprint.
const FREE_ON_RESUME: [KnownKey; 17] = [
    known::DATA_TRAIN,
    known::DATA_VAL,
    known::DATA_VAL_SPLIT,
    known::DATA_WORKERS,
    known::DATA_QUEUE,
    known::DATA_DECODE_GIB,
    known::DATA_MAX_BAD_FRACTION,
    known::TRAIN_STEPS,
    known::TRAIN_LOG_EVERY,
    known::TRAIN_EVAL_EVERY,
    known::TRAIN_CHECKPOINT_EVERY,
    known::TRAIN_KEEP_CHECKPOINTS,
    known::TRAIN_BEST_METRIC,
    known::TRAIN_KEEPS_TOKENS_OF,
    known::TRAIN_INIT_FROM,
    known::TRAIN_COLLAPSE,
    known::EVAL,
];

/// A value that is out of range, or parts of a config that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// An error in `[data]`.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// An error in `[model]` or `[quantizer]`.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// An error in `[train]`, `[loss]` or `[optimizer]`.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An error in `[adversarial]`.
    #[error(transparent)]
    Adversarial(#[from] adversarial::AdversarialError),
    /// An error in `[eval]` or at the root.
    #[error("{0}")]
    Other(String),
}

impl Classified for ResolveError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl Config {
    /// Reads a config file, applies `key=value` overrides and fills in defaults that depend on
    /// other keys. Relative paths of images in a config that comes with pixtok are also looked for
    /// in its clone. Checks only types and names. Also returns notes for the user.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key.
    pub fn read(path: &Path, overrides: &[String]) -> Result<(Self, Vec<String>), ConfigError> {
        let (mut config, notes) = read_layers::<Self>(path, overrides)?;
        shipped::find_images(&mut config, path, overrides);
        Ok((config.resolved(), notes))
    }

    /// Reads the config file of a run or a model exactly as written, without filling in defaults:
    /// absent keys may have had another meaning when it was written.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key.
    pub fn read_as_written(path: &Path) -> Result<Self, ConfigError> {
        read_toml(path)
    }

    /// The config with the defaults of absent keys filled in.
    #[must_use]
    pub fn resolved(self) -> Self {
        Self { model: self.model.resolved(), quantizer: self.quantizer.resolved(), ..self }
    }

    /// Checks every value, and that the parts fit together. Reads no files.
    ///
    /// # Errors
    /// [`ResolveError`], which names the key, its value and the remedy.
    pub fn check(&self) -> Result<(), ResolveError> {
        if i64::try_from(self.seed).is_err() {
            return Err(ResolveError::Other(format!("seed is {}; it must be under 2^63", self.seed)));
        }
        if self.eval.batch_size == 0 {
            return Err(ResolveError::Other("eval.batch_size is 0; it must be 1 or more".into()));
        }
        self.data.check()?;
        self.plan()?;
        self.loss.check(self.image_size()).map_err(TrainError::from)?;
        if let Some(adversarial) = &self.adversarial {
            adversarial.check(self.image_size())?;
            adversarial.check_steps(self.train.steps)?;
            let adaptive = matches!(adversarial.weighting, adversarial::Weighting::Adaptive { .. });
            if adaptive && self.train.freeze.contains(&Component::Decoder) {
                return Err(ResolveError::Other(
                    "adversarial.weighting is adaptive, which needs the decoder's gradients, but train.freeze contains the decoder; \
                     choose kind = \"fixed\", or do not freeze the decoder"
                        .into(),
                ));
            }
        }
        self.optimizer.check(self.train.steps).map_err(TrainError::from)?;
        self.train.check()?;
        let step = self.quantizer.settings().check_step(self.vectors_of_a_micro_batch()?);
        Ok(step.map_err(model::ModelError::from)?)
    }

    /// Refuses settings that a new training must not start with, although earlier runs with them
    /// still open and resume. Reads no files.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn check_new_training(&self) -> Result<(), ResolveError> {
        self.check_best_metric()?;
        // A frozen quantizer does not learn, so these settings do no harm.
        if self.train.keeps_tokens() {
            return Ok(());
        }
        Ok(self.quantizer.settings().check_new_training().map_err(model::ModelError::from)?)
    }

    /// Refuses a `train.best_metric` that cannot be computed on images of this size.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn check_best_metric(&self) -> Result<(), ResolveError> {
        let (height, width) = self.image_size();
        let metric = self.train.best_metric.name();
        let least = definition(metric).map_or(1, |known| known.least_side);
        if height.min(width) < least {
            return Err(ResolveError::Other(format!(
                "train.best_metric is {metric}, which needs images of at least {least} pixels on each side, but data.image_size \
                 is {}; choose psnr_db or l1, or raise data.image_size",
                self.data.image_size
            )));
        }
        Ok(())
    }

    /// Advice on settings that work but are discouraged, or that have no effect: one sentence each.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn advice(&self) -> Result<Vec<String>, ResolveError> {
        let settings = self.quantizer.settings();
        let mut advice = if self.train.freeze.contains(&Component::Quantizer) {
            settings.check_new_training().err().map(|error| error.to_string()).into_iter().collect()
        } else {
            settings.advice(self.vectors_of(self.train.batch_size)?)
        };
        advice.extend(self.optimizer.warmup_advice("optimizer", self.train.steps));
        advice.extend(self.adversarial.iter().flat_map(|adversarial| adversarial.advice(self.train.steps)));
        Ok(advice)
    }

    /// The number of latent vectors that the quantizer gets per micro-batch in training.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn vectors_of_a_micro_batch(&self) -> Result<i64, ResolveError> {
        self.vectors_of(self.train.batch_size / self.train.micro_batches)
    }

    /// The encoder and the decoder that these settings make, before they are built.
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    pub fn plan(&self) -> Result<Box<dyn model::Plan>, model::ModelError> {
        self.model.settings().plan(&self.quantizer, self.data.image_size)
    }

    fn vectors_of(&self, images: usize) -> Result<i64, ResolveError> {
        let positions = self.plan()?.shape().positions() as i64;
        Ok(positions.saturating_mul(images as i64))
    }

    /// Describes how a step in micro-batches differs from one on the whole batch, apart from
    /// rounding and random draws. `None` if it does not.
    #[must_use]
    pub fn micro_batch_terms(&self) -> Option<String> {
        let parts = self.train.micro_batches;
        let quantizer = self.quantizer.settings().batch_terms();
        let quantizer = quantizer.into_iter().map(|key| format!("the entropy loss (quantizer.{key})"));
        let adversarial = self.adversarial.iter().flat_map(adversarial::Config::batch_terms);
        let terms: Vec<String> = quantizer.chain(adversarial).collect();
        (parts > 1 && !terms.is_empty()).then(|| {
            format!(
                "{parts} of {} images; computed over each micro-batch, not over the {} images of the step: {}",
                self.train.batch_size / parts,
                self.train.batch_size,
                terms.join(", ")
            )
        })
    }

    /// Height and width of the images that the model sees, in pixels.
    #[must_use]
    pub fn image_size(&self) -> (i64, i64) {
        let size = self.data.image_size;
        (i64::from(size.height), i64::from(size.width))
    }

    /// The config as TOML, with every value written out.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// All values that differ from `earlier`.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn changes(&self, earlier: &Config) -> Result<Vec<Difference>, toml::ser::Error> {
        Ok(diff(&toml::Table::try_from(earlier)?, &toml::Table::try_from(self)?))
    }

    /// The values that differ from `earlier`, in words. A table whose kind differs is listed as one
    /// difference, not once for each of its keys.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn differences(&self, earlier: &Config) -> Result<Vec<Difference>, toml::ser::Error> {
        Ok(diff_by_kind(&toml::Table::try_from(earlier)?, &toml::Table::try_from(self)?))
    }

    /// The differences from `earlier` that a resumed run must not have.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn changes_that_matter(&self, earlier: &Config) -> Result<Vec<Difference>, toml::ser::Error> {
        let may = |path: &KeyPath| is_free(path) || changes::may_change(path);
        Ok(self.changes(earlier)?.into_iter().filter(|change| !may(&change.path)).collect())
    }

    /// A hash (blake3, hexadecimal) of all settings that a resumed run must not change.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn exact_digest(&self) -> Result<String, toml::ser::Error> {
        let mut hasher = blake3::Hasher::new();
        for (path, value) in flattened(&toml::Table::try_from(self)?) {
            if !is_free(&path) {
                hasher.update(format!("{path} = {value}\n").as_bytes());
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// Whether a resumed run may change this key.
fn is_free(path: &KeyPath) -> bool {
    FREE_ON_RESUME.iter().any(|free| path.is_in(*free))
}

/// Whether one of the `overrides`, each `key=value`, sets `key` or a table that contains it.
#[must_use]
pub fn overrides_set(overrides: &[String], key: KnownKey) -> bool {
    let path = KeyPath::from(key);
    let sets = |own: &[String]| path.names().starts_with(own);
    overrides.iter().any(|argument| overrides::key_of(argument).is_some_and(|own| sets(&own)))
}

/// Reads a TOML file of another type as strictly as a config.
///
/// # Errors
/// [`ConfigError`], which names the key.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    Ok(read_layers(path, &[])?.0)
}

fn read_layers<T: DeserializeOwned>(
    path: &Path,
    overrides: &[String],
) -> Result<(T, Vec<String>), ConfigError> {
    let origin = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => format!("it {}", absence(path)),
            _ => error.to_string(),
        };
        ConfigError::Unreadable { origin: origin.clone(), reason }
    })?;
    layers::read(encoding::text(&bytes, &origin)?, &origin, overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSQ: &str = "[quantizer]\nkind = \"fsq\"\nlevels = [8, 5, 5, 5]";

    fn read(text: &str, overrides: &[&str]) -> Result<(Config, Vec<String>), ConfigError> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        layers::read(text, "x.toml", &overrides)
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let vq = "quantizer={kind=\"vq\",codebook_size=64,codebook_update={kind=\"gradient\"}}";
        for overrides in [&[][..], &[vq], &["data.image_size=[32, 64]", "train.ema_decay=0.99"]] {
            let (config, _) = read(FSQ, overrides).unwrap();
            config.check().unwrap();
            assert_eq!(read(&config.to_toml().unwrap(), &[]).unwrap().0, config);
        }
    }

    #[test]
    fn another_kind_drops_the_keys_it_does_not_have() {
        let (config, notes) = read(FSQ, &["quantizer.kind=vq", "quantizer.codebook_size=64"]).unwrap();
        assert!(matches!(config.quantizer, QuantizerConfig::Vq(_)));
        assert!(notes.iter().any(|note| note.contains("levels")), "{notes:?}");
        let error = read(FSQ, &["quantizer.kind=vq", "quantizer.codebook_sise=64"]).unwrap_err().to_string();
        assert!(error.contains("codebook_size"), "{error}");
    }

    #[test]
    fn misspelt_keys_and_wrong_types_are_named() {
        for (set, parts) in [
            ("train.stepz=3", ["train.stepz", "steps"]),
            ("train.steps=-3", ["train.steps", "-3"]),
            ("optimizer.lr=fast", ["optimizer.lr", "fast"]),
            ("quantizer.levls=[8]", ["quantizer.levls", "levels"]),
            ("optimizer.schedule={kind=\"cosin\"}", ["optimizer.schedule", "cosine"]),
            ("optimizer.schedule={kind=\"constant\", final_factor=0.1}", ["final_factor", "warmup_steps"]),
            ("task=prior", ["task", "tokenizer"]),
            ("train.precision=fp16", ["train.precision", "bf16"]),
        ] {
            let error = read(FSQ, &[set]).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{set}: {error}");
        }
    }

    #[test]
    fn terms_of_a_whole_batch_are_named() {
        let terms = |sets: &[&str]| read(FSQ, sets).unwrap().0.micro_batch_terms();
        let parts = "train.micro_batches=4";
        let lfq = "quantizer={kind=\"lfq\",bits=4}";
        assert_eq!(terms(&[parts]), None);
        assert_eq!(terms(&[lfq]), None);
        let words = terms(&[parts, lfq]).unwrap();
        assert_eq!(
            words,
            "4 of 8 images; computed over each micro-batch, not over the 32 images of the step: the entropy loss \
             (quantizer.entropy_weight)"
        );
        let adversary = "adversarial={weighting={kind=\"adaptive\"},discriminator={kind=\"stylegan\"}}";
        let words = terms(&[parts, adversary]).unwrap();
        assert!(words.contains("adaptive weight") && words.contains("standard deviation"), "{words}");
    }

    #[test]
    fn what_an_override_sets_is_known() {
        let sets = |argument: &str| overrides_set(&[argument.to_owned()], known::DATA_VAL);
        assert!(sets("data.val=x") && sets(" data . val = x") && sets("data={train=\"x\"}"));
        assert!(
            !sets("data.val_split=x") && !sets("data.value=x") && !sets("train.val=x") && !sets("data.val")
        );
    }

    #[test]
    fn a_best_metric_that_the_images_are_too_small_for_keeps_a_training_from_beginning() {
        let config = |sets: &[&str]| read(FSQ, sets).unwrap().0;
        let small = config(&["data.image_size=[8, 64]", "train.best_metric=ssim"]);
        small.check().unwrap();
        let error = small.check_new_training().unwrap_err().to_string();
        for part in ["train.best_metric is ssim", "11 pixels", "data.image_size is [8, 64]", "psnr_db"] {
            assert!(error.contains(part), "{error}");
        }
        for sets in [
            ["data.image_size=8", "train.best_metric=psnr_db"],
            ["data.image_size=8", "train.best_metric=l1"],
            ["data.image_size=12", "train.best_metric=ssim"],
        ] {
            config(&sets).check_new_training().unwrap();
        }
    }

    #[test]
    fn keys_are_sorted_as_their_dotted_texts() {
        // The digest of a run's settings is over them in this order.
        let adversary = "adversarial={weighting={kind=\"adaptive\"}}";
        let (config, _) = read(FSQ, &[adversary, "optimizer.muon.lr=0.1", "train.ema_decay=0.5"]).unwrap();
        let flat = flattened(&toml::Table::try_from(&config).unwrap());
        let dotted: Vec<String> = flat.keys().map(ToString::to_string).collect();
        assert!(dotted.len() > 30 && dotted.is_sorted(), "{dotted:?}");
    }

    #[test]
    fn a_quantizer_of_another_kind_is_one_difference() {
        let (fsq, _) = read(FSQ, &["model.res_blocks=1"]).unwrap();
        let vq = ["quantizer={kind=\"vq\",codebook_size=64,codebook_dim=4}", "model.res_blocks=3"];
        let (vq, _) = read(FSQ, &vq).unwrap();
        let differences = vq.differences(&fsq).unwrap();
        assert_eq!(differences.len(), 2);
        assert!(differences[0].path.is(known::QUANTIZER) && differences[1].path.is_in(known::MODEL));
        assert!(differences[0].to_string().starts_with("quantizer: { "), "{}", differences[0]);
        assert_eq!(differences[1].to_string(), "model.res_blocks: 1 -> 3");
        assert!(vq.changes(&fsq).unwrap().len() > 3);
    }

    #[test]
    fn changes_that_a_run_may_not_make_matter() {
        let (config, _) = read(FSQ, &[]).unwrap();
        let changed = |set: &str| {
            let (other, _) = read(FSQ, &[set]).unwrap();
            other.changes_that_matter(&config).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(changed("train.steps=900").is_empty());
        assert!(changed("train.collapse.evaluations=9").is_empty());
        assert!(changed("eval.max_images=9").is_empty());
        assert_eq!(changed("optimizer.weight_decay=0.5"), ["optimizer.weight_decay: 0.0001 -> 0.5"]);
        assert!(changed("optimizer.lr=0.5").is_empty(), "it is recorded");
        assert_eq!(changed("train.ema_decay=0.5").len(), 1);
        let digest = |set: &str| read(FSQ, &[set]).unwrap().0.exact_digest().unwrap();
        assert_eq!(digest("train.steps=900"), config.exact_digest().unwrap());
        assert_ne!(digest("optimizer.lr=0.5"), config.exact_digest().unwrap());
    }
}
