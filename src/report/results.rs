//! What a comparison found: the content of `results.json`, and beside it what only the page shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::picture::Picture;

/// The version of `results.json` that this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// `results.json`. Two runs of one comparison on one machine differ in what is named `…_per_sec` and `…_secs` alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The sweep's name.
    pub name: String,
    /// What is the same for all arms, as `(name, value)` in words: images, image size, steps, batch, seeds, precision.
    pub protocol: Vec<(String, String)>,
    /// Versions, device, threads, processor, as `(name, value)`.
    pub environment: Vec<(String, String)>,
    /// The config that all arms have in common, resolved, as TOML.
    pub base_config: String,
    /// In the order of the sweep.
    pub arms: Vec<Arm>,
}

/// One tokenizer of a comparison, with all its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Unique in the comparison.
    pub name: String,
    /// Arms of one series are joined in the plots over the codebook size: the quantizer's kind, or what the sweep says.
    pub series: String,
    /// Codes of each codebook; absent where the arm has no tokens (reconstructions made elsewhere).
    pub codebook_size: Option<i64>,
    /// Trained parameters; absent for what was not trained by us.
    pub parameters: Option<i64>,
    /// How its config differs from the base, as `key: base -> arm`; for what was not trained here, where it comes from.
    pub differences: Vec<String>,
    /// One per seed.
    pub runs: Vec<Run>,
    /// Over the seeds that have the figure.
    pub summary: BTreeMap<String, Summary>,
}

/// One training with its evaluation, or one evaluation of what was there before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Absent for what was not trained here.
    pub seed: Option<u64>,
    /// Relative to the comparison's folder, or as the sweep gives it.
    pub path: String,
    /// The flat object of `pixtok eval --json`; empty when the run failed.
    pub figures: Map<String, Value>,
    /// Why there are no figures.
    pub failure: Option<String>,
}

/// A figure over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Over the seeds.
    pub mean: f64,
    /// Standard deviation of the sample (n − 1); absent with one seed.
    pub deviation: Option<f64>,
    /// Seeds.
    pub seeds: usize,
}

/// What the page shows of an arm beyond its figures.
#[derive(Debug, Clone, Default)]
pub struct Exhibit {
    /// One list of curves per run, as logged while training: `loss/total`, `val/psnr_db`, `val/usage`.
    pub curves: Vec<Vec<Curve>>,
    /// How often each code that occurs was hit, in descending order, in the first run.
    pub code_counts: Vec<i64>,
    /// Reconstructions by the first run of the pictures that all arms share, in their order.
    pub reconstructions: Vec<Picture>,
}

/// A figure over training steps.
#[derive(Debug, Clone)]
pub struct Curve {
    /// As in `metrics.jsonl`.
    pub name: String,
    /// `(step, value)`.
    pub points: Vec<(u64, f64)>,
}
