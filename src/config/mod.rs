//! Root configs: reads files and overrides, and says how two of them differ. Each task defines its
//! own in `tasks`, which nests the configs of the parts and checks everything before a run starts;
//! what a run does with any of them is [`RootConfig`].
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
mod root;
pub mod shipped;

use std::path::Path;
use std::{fs, io};

use serde::de::DeserializeOwned;
use toml::Table;

pub use changes::{CHANGES_FILE, RunChange};
pub use diff::Difference;
use diff::{diff, diff_by_kind};
pub use error::{ConfigError, Origin};
pub use key_path::{KeyPath, KnownKey, known};
pub use root::RootConfig;

pub use crate::tasks::ResolveError;
use crate::tasks::TaskKind;
pub use crate::tasks::tokenizer::Config;
use crate::{optim, train};
use pixtok_base::paths::absence;

/// Keys that a resumed run may change: they do not alter what is computed, only where, how often and how long.
/// `data.train` may move; that it holds the same files is checked by its fingerprint.
const FREE_ON_RESUME: [KnownKey; 22] = [
    known::DATA_TRAIN,
    known::DATA_VAL,
    known::DATA_VAL_SPLIT,
    known::DATA_WORKERS,
    known::DATA_QUEUE,
    known::DATA_DECODE_GIB,
    known::DATA_MAX_BAD_FRACTION,
    known::MODEL_CHECKPOINT_BLOCKS,
    known::ENCODER_CHECKPOINT_BLOCKS,
    known::DECODER_CHECKPOINT_BLOCKS,
    known::TRAIN_STEPS,
    known::TRAIN_SHARD_OPTIMIZER,
    known::TRAIN_TIMEOUT_SECS,
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

impl RootConfig for Config {
    const FREE_ON_RESUME: &'static [KnownKey] = &FREE_ON_RESUME;
    const CHANGEABLE: &'static [KnownKey] = &changes::CHANGEABLE;

    fn resolved(self) -> Self {
        Self::resolved(self)
    }

    fn check(&self) -> Result<(), ResolveError> {
        Self::check(self)
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn train(&self) -> &train::Config {
        &self.train
    }

    fn train_mut(&mut self) -> &mut train::Config {
        &mut self.train
    }

    fn optimizers(&self) -> Vec<(&'static str, &optim::Config, u64)> {
        let adversary = self.adversarial.as_ref();
        let adversary = adversary.map(|own| ("discriminator's ", &own.optimizer, own.start));
        [("", &self.optimizer, 0)].into_iter().chain(adversary).collect()
    }

    fn find_data(&mut self, file: &Path, overrides: &[String]) {
        shipped::find_images(self, file, overrides);
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
        read_config(path, overrides)
    }

    /// Reads the config file of a run or a model exactly as written, without filling in defaults:
    /// absent keys may have had another meaning when it was written.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key.
    pub fn read_as_written(path: &Path) -> Result<Self, ConfigError> {
        read_toml(path)
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
        Ok(diff(&Table::try_from(earlier)?, &Table::try_from(self)?))
    }

    /// The values that differ from `earlier`, in words. A table whose kind differs is listed as one
    /// difference, not once for each of its keys.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn differences(&self, earlier: &Config) -> Result<Vec<Difference>, toml::ser::Error> {
        Ok(diff_by_kind(&Table::try_from(earlier)?, &Table::try_from(self)?))
    }
}

/// The task that a config names. Of a config that cannot be read it is the default: whoever reads
/// it then says what is wrong.
#[must_use]
pub fn task_of(path: &Path, overrides: &[String]) -> TaskKind {
    let task = unchecked(path, overrides).and_then(|mut table| table.remove("task")?.try_into().ok());
    task.unwrap_or_default()
}

/// `train.timeout_secs` of a config that is not checked yet; `None` if it isn't there or can't be
/// read, of which the check says more.
#[must_use]
pub fn timeout_of(path: &Path, overrides: &[String]) -> Option<u64> {
    let table = unchecked(path, overrides)?;
    let seconds = table.get("train")?.get("timeout_secs")?.as_integer()?;
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// A config's table with `overrides`, whatever it holds.
fn unchecked(path: &Path, overrides: &[String]) -> Option<Table> {
    let bytes = fs::read(path).ok()?;
    let mut table: Table = encoding::text(&bytes, "").ok()?.parse().ok()?;
    overrides::apply(&mut table, overrides).ok()?;
    Some(table)
}

/// Whether one of the `overrides`, each `key=value`, sets `key` or a table that contains it.
#[must_use]
pub fn overrides_set(overrides: &[String], key: KnownKey) -> bool {
    let path = KeyPath::from(key);
    let sets = |own: &[String]| path.names().starts_with(own);
    overrides.iter().any(|argument| overrides::key_of(argument).is_some_and(|own| sets(&own)))
}

/// [`Config::read`] for the root config of any task.
///
/// # Errors
/// [`ConfigError`], which names the key.
pub fn read_config<C: RootConfig>(
    path: &Path,
    overrides: &[String],
) -> Result<(C, Vec<String>), ConfigError> {
    let (mut config, notes) = read_layers::<C>(path, overrides)?;
    config.find_data(path, overrides);
    Ok((config.resolved(), notes))
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
    use super::diff::flattened;
    use super::*;
    use crate::quantizer::QuantizerConfig;

    const FSQ: &str = "[quantizer]\nkind = \"fsq\"\nlevels = [8, 5, 5, 5]";

    fn read(text: &str, overrides: &[&str]) -> Result<(Config, Vec<String>), ConfigError> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        layers::read(text, "x.toml", &overrides)
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let vq = "quantizer={kind=\"vq\",codebook_size=64,codebook_update={kind=\"gradient\"}}";
        let pair = "model={kind=\"pair\",encoder={channels=8},decoder={kind=\"vqgan\",channels=32}}";
        for overrides in [&[][..], &[vq], &[pair], &["data.image_size=[32, 64]", "train.ema_decay=0.99"]] {
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
        let pair = "model={kind=\"pair\",encoder={kind=\"vit\",patch=4},decoder={}}";
        let (_, notes) = read(FSQ, &[pair, "model.encoder.kind=cnn"]).unwrap();
        assert!(notes.iter().any(|note| note.contains("model.encoder.patch")), "{notes:?}");
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
            ("model={kind=\"pair\",encoder={chanels=8},decoder={}}", ["model.encoder.chanels", "channels"]),
            (
                "model={kind=\"pair\",encoder={},decoder={channels=\"two\"}}",
                ["model.decoder.channels", "two"],
            ),
            ("model={kind=\"pair\",encoder={kind=\"resnet\"},decoder={}}", ["model.encoder.kind", "cnn"]),
            ("model={kind=\"pair\",encoder={}}", ["model.decoder", "missing"]),
        ] {
            let error = read(FSQ, &[set]).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{set}: {error}");
        }
    }

    #[test]
    fn tail_drop_needs_a_sequence() {
        let said = |set: &str| read(FSQ, &[set]).unwrap_err().to_string();
        for (set, key) in [
            ("model={kind=\"vit\",tail_drop={keep_full=0.5}}", "model.tail_drop"),
            ("model.tail_drop.keep_full=0.5", "model.tail_drop"),
            (
                "model={kind=\"pair\",encoder={},decoder={kind=\"vit\",tail_drop={keep_full=0.5}}}",
                "model.decoder.tail_drop",
            ),
        ] {
            let words = said(set);
            let expected = format!("{key}: it leaves out the last tokens of a sequence");
            assert!(words.contains(&expected), "{words}");
            assert!(words.contains("one-d") && words.contains("quantizer.tail_drop"), "{words}");
        }
        assert!(said("train.tail_drop=1").contains("unknown key"));
        let one_d = "model={kind=\"one-d\",tail_drop={keep_full=0.5}}";
        assert!(read(FSQ, &[one_d]).unwrap().0.model.settings().tail_drop().is_some());
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
        let flat = flattened(&Table::try_from(&config).unwrap());
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
        assert!(changed("train.shard_optimizer=true").is_empty());
        assert!(changed("model.checkpoint_blocks=true").is_empty());
        assert!(changed("eval.max_images=9").is_empty());
        assert_eq!(changed("optimizer.weight_decay=0.5"), ["optimizer.weight_decay: 0.0001 -> 0.5"]);
        assert!(changed("optimizer.lr=0.5").is_empty(), "it is recorded");
        assert_eq!(changed("train.ema_decay=0.5").len(), 1);
        let digest = |set: &str| read(FSQ, &[set]).unwrap().0.exact_digest().unwrap();
        assert_eq!(digest("train.steps=900"), config.exact_digest().unwrap());
        assert_ne!(digest("optimizer.lr=0.5"), config.exact_digest().unwrap());
    }
}
