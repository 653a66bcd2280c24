//! `pixtok eval`: figures of a trained tokenizer, as a table and as JSON.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{note, open, print};
use crate::checkpoint::write_atomic;
use crate::cli::EvalArgs;
use crate::data::{BadSamples, Dataset, Loader};
use crate::evaluate::{self, Figures, evaluate};
use crate::train::TrainError;

/// The flat object of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    step: u64,
    weights: &'a str,
}

/// Evaluates, prints the table, writes the JSON.
pub(super) fn run(args: &EvalArgs) -> Result<()> {
    if let Some(parent) = args.json.as_deref().and_then(Path::parent) {
        // Before the long work.
        fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    }
    let opened = open::open(&args.tokenizer)?;
    let (folder, dataset) = match &args.data {
        Some(folder) => (folder.display().to_string(), Dataset::open(folder, crate::data::Split::All)?),
        None => super::train::validation_set(&opened.config)?,
    };
    let dataset = Arc::new(dataset);
    let eval = &opened.config.eval;
    let bound = if args.data.is_some() { None } else { eval.bound() };
    let batch_size = args.batch_size.map_or(eval.batch_size, |size| size as usize);
    let loader = Loader::eval(Arc::clone(&dataset), &opened.config.data, batch_size, bound)?;
    let images = bound.unwrap_or(dataset.len()).min(dataset.len());
    let options =
        evaluate::Options { device: opened.device, precision: args.tokenizer.precision, pictures: 0, images };
    let evaluation = evaluate(&opened.tokenizer, loader, options)?;
    let mut bad = BadSamples::new(images, opened.config.data.max_bad_fraction);
    for sample in &evaluation.bad {
        note(&format!("left out {}: {}", sample.name, sample.reason));
        bad.record(sample);
    }
    bad.check().map_err(TrainError::from)?;
    let figures = &evaluation.figures;
    let weights = args.tokenizer.weights.name();
    let report = Report { figures, step: opened.step, weights };
    let json = serde_json::to_string_pretty(&report)? + "\n";
    if args.json.as_deref() == Some(Path::new("-")) {
        return print(&json);
    }
    let run = args.tokenizer.run.display();
    let heading = format!("{run}, step {}, {weights} weights, on {folder}\n", opened.step);
    print(&(heading + &figures.table()))?;
    let Some(path) = &args.json else { return Ok(()) };
    // A pipe or a device is written to, a file is replaced whole.
    let written = if path.exists() && !path.is_file() {
        fs::write(path, &json).map_err(anyhow::Error::from)
    } else {
        write_atomic(path, json.as_bytes()).map_err(anyhow::Error::from)
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}
