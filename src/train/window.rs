//! What is gathered between two log rows; tensors stay on the device until the row is made.

use std::time::Instant;

use tch::Tensor;

use super::finite::StepNumbers;
use crate::metrics::CodebookUse;
use crate::quantizer::{CodebookShape, Monitor};

/// The steps since the last log row.
#[derive(Debug)]
pub(super) struct Window {
    /// Of the last step that was read.
    pub numbers: Option<StepNumbers>,
    /// Of the last step.
    pub monitors: Vec<Monitor>,
    /// Of all steps.
    pub indices: Vec<Tensor>,
    /// Trained on so far.
    pub images: usize,
    terms: Vec<(String, Tensor)>,
    since: Instant,
}

impl Window {
    pub fn new() -> Self {
        Self {
            numbers: None,
            monitors: vec![],
            indices: vec![],
            images: 0,
            terms: vec![],
            since: Instant::now(),
        }
    }

    /// Forgets the terms of the step before: a row shows the last step's.
    pub fn begin_step(&mut self) {
        self.terms.clear();
    }

    /// Adds one of `micro_batches` equal parts of a step.
    pub fn add_terms(&mut self, terms: Vec<(String, Tensor)>, micro_batches: f64) {
        for (name, value) in terms {
            let share = value / micro_batches;
            match self.terms.iter_mut().find(|(found, _)| *found == name) {
                Some((_, sum)) => *sum += share,
                None => self.terms.push((name, share)),
            }
        }
    }

    /// Since the last row; time spent on evaluations and checkpoints does not count.
    pub fn images_per_sec(&self) -> f64 {
        self.images as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    /// After an interruption of the training: the speed is measured anew.
    pub fn restart_clock(&mut self) {
        self.since = Instant::now();
        self.images = 0;
    }

    /// The row's values; waits for the device. The next window begins.
    pub fn finish(&mut self, codebook: &CodebookShape) -> Vec<(String, f64)> {
        let mut row = vec![];
        if let Some(numbers) = self.numbers {
            row.push(("loss/total".to_owned(), numbers.loss));
            row.push(("optim/grad_norm".to_owned(), numbers.grad_norm));
        }
        row.extend(self.terms.drain(..).map(|(name, value)| (name, value.double_value(&[]))));
        let mut used = CodebookUse::new(codebook.codebooks, codebook.size);
        for indices in self.indices.drain(..) {
            used.add(&indices);
        }
        let figures = used.figures();
        row.push(("codebook/usage".to_owned(), figures.usage));
        row.push(("codebook/perplexity".to_owned(), figures.perplexity));
        row.extend(self.monitors.drain(..).map(|monitor| (monitor.name, monitor.value.double_value(&[]))));
        if self.images > 0 {
            row.push(("speed/images_per_sec".to_owned(), self.images_per_sec()));
        }
        self.restart_clock();
        row
    }
}
