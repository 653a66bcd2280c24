//! What a comparison found: the content of `results.json`, and beside it what only the page shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use pixtok_images::data::BadSample;
use pixtok_images::picture::Picture;

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
    /// Figures of whole sets, if the evaluations' own images differ. They are marked and rank
    /// nothing.
    #[serde(default)]
    pub of_own_images: Vec<String>,
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
    /// The flat object of `pixtok eval --json`; empty when the run failed. Means over images are
    /// taken over the images that all evaluations have.
    pub figures: Map<String, Value>,
    /// Why there are no figures.
    pub failure: Option<String>,
    /// Images that its evaluation left out.
    #[serde(default)]
    pub left_out: Vec<BadSample>,
    /// Notes on its figures, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
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

impl Summary {
    /// Every figure that is a number in at least one of `runs`, over the runs that have it.
    #[must_use]
    pub fn of(runs: &[Run]) -> BTreeMap<String, Self> {
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, value) in runs.iter().flat_map(|run| &run.figures) {
            if let Some(value) = value.as_f64() {
                values.entry(name).or_default().push(value);
            }
        }
        values.into_iter().map(|(name, values)| (name.to_owned(), Self::over(&values))).collect()
    }

    fn over(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { mean, deviation, seeds: values.len() }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(figures: &Value) -> Run {
        let figures = figures.as_object().unwrap().clone();
        Run { seed: None, path: String::new(), figures, failure: None, left_out: vec![], notes: vec![] }
    }

    #[test]
    fn a_summary_is_over_the_runs_that_have_the_figure() {
        let runs = [
            run(&json!({"psnr_db": 27.0, "usage": 0.5, "ms_ssim": null, "ms_ssim_note": "too small"})),
            run(&json!({"psnr_db": 28.0, "usage": null})),
            run(&json!({"psnr_db": 29.0})),
            run(&json!({})),
        ];
        let summary = Summary::of(&runs);
        assert_eq!(summary["psnr_db"], Summary { mean: 28.0, deviation: Some(1.0), seeds: 3 });
        assert_eq!(summary["usage"], Summary { mean: 0.5, deviation: None, seeds: 1 });
        assert_eq!(summary.len(), 2);
    }
}
