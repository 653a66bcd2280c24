//! The results of a comparison: the content of `results.json`, and the additional data of the page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use pixtok_images::data::BadSample;
use pixtok_images::picture::Picture;

/// The version of `results.json` that this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// The content of `results.json`. Two runs of one comparison on one machine differ only in values
/// whose names end in `_per_sec` or `_secs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The version of the format: [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The name of the comparison.
    pub name: String,
    /// The conditions that are equal for all arms, as `(name, value)` in words: images, image size,
    /// steps, batch, seeds, precision.
    pub protocol: Vec<(String, String)>,
    /// Versions, device, threads and processor, as `(name, value)`.
    pub environment: Vec<(String, String)>,
    /// The config that all arms share, with all defaults, as TOML.
    pub base_config: String,
    /// The arms, in the order of the comparison's file.
    pub arms: Vec<Arm>,
    /// Names of figures over a whole set whose images differ between evaluations. These figures are
    /// marked and not ranked.
    #[serde(default)]
    pub of_own_images: Vec<String>,
    /// The differences of every two arms in every figure that ranks. Empty in files of programs that
    /// did not compute them.
    #[serde(default)]
    pub pairs: Vec<Pair>,
}

/// The difference of two arms in a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The name of the figure.
    pub figure: String,
    /// The names of the arms.
    pub arms: [String; 2],
    /// The mean of the first arm minus that of the second, over what both have in common.
    pub difference: f64,
    /// The 95 % interval of the difference. Absent if there is one seed and the figure is not a mean
    /// over images.
    pub interval: Option<Interval>,
}

/// The interval of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// From what it is.
    pub over: Sample,
}

/// What an interval is taken over, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// The seeds that both arms have: Student's t interval of the differences of each seed.
    Seeds(usize),
    /// The images that both evaluations have, for one seed: the paired bootstrap.
    Images(usize),
}

impl Interval {
    /// Whether it holds 0, so that neither arm is ahead.
    #[must_use]
    pub fn holds_zero(&self) -> bool {
        self.low <= 0.0 && 0.0 <= self.high
    }
}

impl Comparison {
    /// The difference of the arms in a figure, as that of `arm` minus `other`.
    #[must_use]
    pub fn difference(&self, figure: &str, arm: &str, other: &str) -> Option<Pair> {
        let pair = self
            .pairs
            .iter()
            .find(|pair| pair.figure == figure && (pair.arms == [arm, other] || pair.arms == [other, arm]))?;
        if pair.arms[0] == arm {
            return Some(pair.clone());
        }
        let turn =
            |interval: Interval| Interval { low: 0.0 - interval.high, high: 0.0 - interval.low, ..interval };
        Some(Pair {
            figure: pair.figure.clone(),
            arms: [arm.to_owned(), other.to_owned()],
            difference: 0.0 - pair.difference,
            interval: pair.interval.map(turn),
        })
    }
}

/// A tokenizer in a comparison, with all its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// The name, unique in the comparison.
    pub name: String,
    /// The series: arms of one series are joined by a line in the plots over codebook size. It is
    /// the quantizer's kind unless the comparison's file sets it.
    pub series: String,
    /// The number of codes of each codebook; absent for arms without tokens (reconstructions from
    /// another program).
    pub codebook_size: Option<i64>,
    /// The number of trained parameters; absent for arms that pixtok did not train.
    pub parameters: Option<i64>,
    /// The differences of its config from the base, as `key: base -> arm`. For an arm that was not
    /// trained here: its origin.
    pub differences: Vec<String>,
    /// The runs, one per seed.
    pub runs: Vec<Run>,
    /// The statistics of each figure over the seeds that have it.
    pub summary: BTreeMap<String, Summary>,
}

/// A training with its evaluation, or only an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The seed; absent if the run was not trained here.
    pub seed: Option<u64>,
    /// The path, relative to the comparison's folder or as the comparison's file gives it.
    pub path: String,
    /// The flat object of `pixtok eval --json`; empty if the run failed. Means are taken over the
    /// images that all evaluations have.
    pub figures: Map<String, Value>,
    /// The reason why there are no figures.
    pub failure: Option<String>,
    /// The images that the evaluation omitted.
    #[serde(default)]
    pub left_out: Vec<BadSample>,
    /// Notes on its figures, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The statistics of a figure over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation (n − 1); absent for one seed.
    pub deviation: Option<f64>,
    /// The number of seeds.
    pub seeds: usize,
}

impl Summary {
    /// The statistics of every figure that is a number in at least one of `runs`, over the runs
    /// that have it.
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

/// The data that the page shows of an arm in addition to its figures.
#[derive(Debug, Clone, Default)]
pub struct Exhibit {
    /// The curves of each run, as logged during training: `loss/total`, `val/psnr_db`, `val/usage`.
    pub curves: Vec<Vec<Curve>>,
    /// The counts of all codes that occur in the first run, in descending order.
    pub code_counts: Vec<i64>,
    /// The first run's reconstructions of the pictures that all arms share, in their order.
    pub reconstructions: Vec<Picture>,
}

/// The values of a figure over training steps.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The name in `metrics.jsonl`.
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
    fn a_difference_has_two_directions() {
        let mut comparison = super::super::fixture::comparison(&[]);
        let interval = Interval { low: -0.5, high: 0.25, over: Sample::Seeds(3) };
        let arms = ["a".to_owned(), "b".to_owned()];
        let pair = Pair { figure: "psnr_db".into(), arms, difference: -0.125, interval: Some(interval) };
        comparison.pairs = vec![pair.clone()];
        assert_eq!(comparison.difference("psnr_db", "a", "b"), Some(pair));
        let turned = comparison.difference("psnr_db", "b", "a").unwrap();
        assert_eq!((turned.difference, turned.interval.unwrap().low), (0.125, -0.25));
        assert!(turned.interval.unwrap().holds_zero() && comparison.difference("l1", "a", "b").is_none());
        let text = serde_json::to_value(&comparison.pairs).unwrap();
        assert_eq!(text[0]["interval"]["over"], json!({"seeds": 3}));
    }

    #[test]
    fn results_of_before_there_were_pairs_are_read() {
        let mut comparison = super::super::fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0})])]);
        comparison.of_own_images = vec![];
        let mut old = serde_json::to_value(&comparison).unwrap();
        old.as_object_mut().unwrap().remove("pairs").unwrap();
        assert_eq!(serde_json::from_value::<Comparison>(old).unwrap(), comparison);
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
