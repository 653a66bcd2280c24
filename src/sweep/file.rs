//! What stands in a sweep's file.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Table;

use crate::quantizer::QuantizerConfig;

/// The file, as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// The config that all arms start from; relative to the sweep's file.
    pub base: PathBuf,
    /// Each arm is trained once with each.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// Changes of the base, for every arm: keys as of `--set`, dotted or nested.
    #[serde(default)]
    pub set: Table,
    /// Quantizers at several sizes.
    #[serde(default)]
    pub grid: Option<Grid>,
    /// Further arms, one by one.
    #[serde(default)]
    pub arms: Vec<ArmEntry>,
}

/// Every quantizer at every size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// How many codes; for FSQ a power of two that it has recommended levels for, which make about as many.
    pub codebook_sizes: Vec<i64>,
    /// By the name of the series that the sizes of a quantizer make in the plots.
    pub quantizers: std::collections::BTreeMap<String, QuantizerConfig>,
}

/// One tokenizer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmEntry {
    /// Unique; names a folder.
    pub name: String,
    /// Which arms are joined in the plots over the codebook size; absent: the quantizer's kind.
    #[serde(default)]
    pub series: Option<String>,
    /// A config of its own in place of the base; relative to the sweep's file.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// Changes of the base or of its own config, keys as of `--set`.
    #[serde(default)]
    pub set: Table,
    /// A tokenizer that is there already, in place of a training; relative to the sweep's file.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// K, of each codebook, that the arm must have, where that is the point of the comparison.
    #[serde(default)]
    pub codebook_size: Option<i64>,
}

fn first_seed() -> Vec<u64> {
    vec![0]
}
