//! The figures that a run measured with its own weights.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::checkpoint::{Best, RunFolder};
use crate::logger::METRICS_FILE;
use crate::tasks::tokenizer::IMAGES_CHANGED;
use crate::train::Weights;
use pixtok_report::{DEFINITIONS, Definition};

/// The figures of one checkpoint; empty if the run did not evaluate it or there is no run.
#[derive(Default)]
pub(super) struct Validation {
    /// The figures, in the order of the definitions.
    pub figures: Vec<(&'static Definition, f64)>,
    /// The figure by which it is the run's best checkpoint, if it is.
    pub best: Option<Best>,
    /// Whether the figures are of images that the run used before it was resumed with different
    /// ones.
    pub other_images: bool,
}

/// The last evaluation of `step` in the logs of the run folder.
pub(super) fn of(run: &Path, step: Option<u64>, weights: Weights) -> Result<Validation> {
    let Some(step) = step else { return Ok(Validation::default()) };
    let prefix = match weights {
        Weights::Raw => "val",
        Weights::Ema => "val_ema",
    };
    let path = run.join(METRICS_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    // A run that is still training may be in the middle of its last line.
    let rows = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let of_row = |row: Map<String, Value>| -> Vec<(&'static Definition, f64)> {
        let value = |name: &str| row.get(&format!("{prefix}/{name}")).and_then(Value::as_f64);
        DEFINITIONS.iter().filter_map(|definition| Some((definition, value(definition.name)?))).collect()
    };
    let (mut figures, mut other_images) = (vec![], false);
    for row in rows {
        if row.contains_key(IMAGES_CHANGED) {
            // The values measured so far are of different images.
            other_images = true;
        }
        let of_step = row.get("step").and_then(Value::as_u64) == Some(step);
        let measured = if of_step { of_row(row) } else { vec![] };
        if !measured.is_empty() {
            (figures, other_images) = (measured, false);
        }
    }
    let best = RunFolder::open(run)?.best()?.filter(|best| best.step == step && weights == Weights::Raw);
    Ok(Validation { figures, best, other_images })
}
