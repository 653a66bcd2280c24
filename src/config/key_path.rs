//! The place of a setting in a config, as names rather than text: `optimizer.lr` is `optimizer`,
//! `lr`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The names from the root of a config to a key or a table. As text, dots separate them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct KeyPath(Vec<String>);

/// A key or a table that the code names: see [`known`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKey(&'static str);

impl KeyPath {
    /// The path of `name` in the table at this path.
    #[must_use]
    pub(super) fn child(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    /// The root of a config.
    #[must_use]
    pub(super) fn root() -> Self {
        Self(vec![])
    }

    /// The names from the root on.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The last name, which identifies it within its table; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// Whether it is this key.
    #[must_use]
    pub fn is(&self, key: KnownKey) -> bool {
        self.0.iter().map(String::as_str).eq(key.names())
    }

    /// Whether it is this key or table, or lies within this table.
    #[must_use]
    pub fn is_in(&self, table: KnownKey) -> bool {
        let mut own = self.0.iter();
        table.names().all(|name| own.next().is_some_and(|own| own == name))
    }

    /// Whether it lies within the table at `table`.
    #[must_use]
    pub fn is_below(&self, table: &KeyPath) -> bool {
        self.0.len() > table.0.len() && self.0.starts_with(&table.0)
    }

    /// The table whose kind this key states, if it is such a key.
    #[must_use]
    pub fn table_of_kind(&self) -> Option<KeyPath> {
        let (last, table) = self.0.split_last()?;
        (last == super::overrides::KIND && !table.is_empty()).then(|| Self(table.to_vec()))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl From<String> for KeyPath {
    fn from(dotted: String) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }
}

impl From<KeyPath> for String {
    fn from(path: KeyPath) -> Self {
        path.to_string()
    }
}

impl From<KnownKey> for KeyPath {
    fn from(key: KnownKey) -> Self {
        Self(key.names().map(str::to_owned).collect())
    }
}

impl KnownKey {
    fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.split('.')
    }
}

impl fmt::Display for KnownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The keys and tables that the code asks a [`KeyPath`] for, one constant each. A test reads a
/// config with each of them, so that none is forgotten when a key is renamed.
pub mod known {
    use super::KnownKey;

    macro_rules! known_keys {
        ($($name:ident = $key:literal;)*) => {
            $(
                #[doc = concat!("`", $key, "`")]
                pub const $name: KnownKey = KnownKey($key);
            )*

            /// All known keys and tables.
            #[cfg(test)]
            pub(super) const ALL: &[KnownKey] = &[$($name),*];
        };
    }

    known_keys! {
        SEED = "seed";
        DATA = "data";
        DATA_TRAIN = "data.train";
        DATA_VAL = "data.val";
        DATA_SPLIT = "data.split";
        DATA_VAL_SPLIT = "data.val_split";
        DATA_IMAGE_COLUMN = "data.image_column";
        DATA_IMAGE_SIZE = "data.image_size";
        DATA_RESIZE = "data.resize";
        DATA_FILTER = "data.filter";
        DATA_BACKGROUND = "data.background";
        DATA_LENIENT_JPEG = "data.lenient_jpeg";
        DATA_WORKERS = "data.workers";
        DATA_QUEUE = "data.queue";
        DATA_DECODE_GIB = "data.decode_gib";
        DATA_MAX_BAD_FRACTION = "data.max_bad_fraction";
        MODEL = "model";
        MODEL_CHECKPOINT_BLOCKS = "model.checkpoint_blocks";
        ENCODER_CHECKPOINT_BLOCKS = "model.encoder.checkpoint_blocks";
        DECODER_CHECKPOINT_BLOCKS = "model.decoder.checkpoint_blocks";
        QUANTIZER = "quantizer";
        OPTIMIZER_LR = "optimizer.lr";
        OPTIMIZER_CLIP_NORM = "optimizer.clip_norm";
        OPTIMIZER_WARMUP_STEPS = "optimizer.schedule.warmup_steps";
        OPTIMIZER_MUON_LR = "optimizer.muon.lr";
        ADVERSARIAL_LR = "adversarial.optimizer.lr";
        ADVERSARIAL_CLIP_NORM = "adversarial.optimizer.clip_norm";
        ADVERSARIAL_WARMUP_STEPS = "adversarial.optimizer.schedule.warmup_steps";
        TRAIN_STEPS = "train.steps";
        TRAIN_BATCH_SIZE = "train.batch_size";
        TRAIN_PRECISION = "train.precision";
        TRAIN_SHARD_OPTIMIZER = "train.shard_optimizer";
        TRAIN_TIMEOUT_SECS = "train.timeout_secs";
        TRAIN_LOG_EVERY = "train.log_every";
        TRAIN_EVAL_EVERY = "train.eval_every";
        TRAIN_CHECKPOINT_EVERY = "train.checkpoint_every";
        TRAIN_KEEP_CHECKPOINTS = "train.keep_checkpoints";
        TRAIN_BEST_METRIC = "train.best_metric";
        TRAIN_KEEPS_TOKENS_OF = "train.keeps_tokens_of";
        TRAIN_INIT_FROM = "train.init_from";
        TRAIN_COLLAPSE = "train.collapse";
        EVAL = "eval";
        EVAL_BATCH_SIZE = "eval.batch_size";
    }

    /// The table of networks whose tokens form a sequence.
    pub const TAIL_DROP: &str = "tail_drop";

    /// The key of the search's memory budget in every quantizer's own table.
    pub const MEMORY_BUDGET: &str = "memory_budget";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, layers};

    fn path(dotted: &str) -> KeyPath {
        KeyPath::from(dotted.to_owned())
    }

    #[test]
    fn names_are_compared_whole() {
        assert!(path("data.val").is(known::DATA_VAL) && path("data.val").is_in(known::DATA_VAL));
        assert!(
            !path("data.val_split").is(known::DATA_VAL) && !path("data.val_split").is_in(known::DATA_VAL)
        );
        assert!(path("data.val_split").is_in(known::DATA) && !path("data.val_split").is(known::DATA));
        assert!(path("data").is_in(known::DATA) && !path("data").is_in(known::DATA_VAL));
        assert!(!path("dataset.val").is_in(known::DATA) && !path("train.data").is_in(known::DATA));
    }

    #[test]
    fn what_lies_in_a_table_is_below_it() {
        let (table, other) = (path("quantizer.codebook_update"), path("quantizer.codebook"));
        let key = path("quantizer.codebook_update.decay");
        assert!(key.is_below(&table) && !key.is_below(&other) && !table.is_below(&table));
        assert!(key.is_below(&KeyPath::root()) && table.child("decay") == key);
        assert_eq!((key.name(), KeyPath::root().name()), ("decay", ""));
    }

    #[test]
    fn a_kind_is_of_the_table_that_it_stands_in() {
        assert_eq!(path("adversarial.weighting.kind").table_of_kind(), Some(path("adversarial.weighting")));
        for other in ["kind", "quantizer.kinds", "quantizer.kind.levels", "quantizer.mankind"] {
            assert_eq!(path(other).table_of_kind(), None, "{other}");
        }
    }

    #[test]
    fn paths_are_dotted_in_files() {
        let written = serde_json::to_string(&path("optimizer.lr")).unwrap();
        assert_eq!(written, "\"optimizer.lr\"");
        assert_eq!(serde_json::from_str::<KeyPath>(&written).unwrap(), known::OPTIMIZER_LR.into());
    }

    #[test]
    fn every_known_key_is_one_of_a_config() {
        let text = "[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n[optimizer.muon]\n[optimizer.schedule]\nkind = \"wsd\"\ndecay_steps = 7\n\
                    [adversarial.optimizer.schedule]\nkind = \"cosine\"\n";
        // Some are of a network with two tables.
        let pair = format!("{text}[model]\nkind = \"pair\"\n[model.encoder]\n[model.decoder]\n");
        let is_unknown = |key: &dyn fmt::Display| {
            let overrides = [format!("{key}=nonsense")];
            [text, &pair].into_iter().all(|text| {
                let read = layers::read::<Config>(text, "x.toml", &overrides);
                matches!(read, Err(ConfigError::UnknownKey { .. }))
            })
        };
        for key in known::ALL {
            assert!(!is_unknown(key), "{key}");
        }
        assert!(is_unknown(&"train.stepz"), "the test would not see an unknown key");
        let budget = format!("{}.{}", known::QUANTIZER, known::MEMORY_BUDGET);
        let vq = "[quantizer]\nkind = \"vq\"\ncodebook_size = 64\n";
        let read = layers::read::<Config>(vq, "x.toml", &[format!("{budget}=nonsense")]);
        assert!(matches!(read, Err(ConfigError::Invalid { .. } | ConfigError::WrongType { .. })), "{read:?}");
    }
}
