//! The format of a comparison's file.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Table;

use crate::quantizer::QuantizerConfig;

/// A comparison's file as it was written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// The config from which all arms start; relative to this file.
    pub base: PathBuf,
    /// The seeds. Each arm is trained once with each seed.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// Changes of the base for all arms. Keys are those of `--set`, dotted or nested.
    #[serde(default)]
    pub set: Table,
    /// Quantizers at several sizes.
    #[serde(default)]
    pub grid: Option<Grid>,
    /// Additional arms.
    #[serde(default)]
    pub arms: Vec<ArmEntry>,
}

/// A grid of arms: every quantizer at every size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Numbers of codes. For FSQ, each must be a power of two with recommended levels, which give
    /// about as many codes.
    pub codebook_sizes: Vec<i64>,
    /// The quantizers, by the name of the series that their sizes form in the plots.
    pub quantizers: std::collections::BTreeMap<String, QuantizerConfig>,
}

/// The entry of an arm.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmEntry {
    /// The name, which must be unique. It also names a folder.
    pub name: String,
    /// The series of the arm: plots over codebook size join the arms of a series. The default is
    /// the quantizer's kind.
    #[serde(default)]
    pub series: Option<String>,
    /// A config for this arm instead of the base; relative to this file.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// Changes of the base or of the arm's own config. Keys are those of `--set`.
    #[serde(default)]
    pub set: Table,
    /// An existing tokenizer instead of a training; relative to this file.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The number K of codes of each codebook that the arm must have, if the comparison depends on
    /// it.
    #[serde(default)]
    pub codebook_size: Option<i64>,
}

fn first_seed() -> Vec<u64> {
    vec![0]
}
