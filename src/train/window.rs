//! What is gathered between two log rows; tensors stay on the device until the row is made.

use std::time::Instant;

use tch::Tensor;

use super::finite::GroupNumbers;
use crate::metrics::{CodebookFigures, CodebookUse};
use crate::quantizer::{CodebookShape, Monitor};
use pixtok_torch::no_grad;

/// The steps since the last log row.
#[derive(Debug)]
pub(super) struct Window {
    /// Of the last step that was read, the tokenizer's first.
    pub numbers: Vec<GroupNumbers>,
    /// Trained on so far.
    pub images: usize,
    terms: Vec<(String, Tensor)>,
    /// Sum of each monitor, and how many steps had it.
    monitors: Vec<(Monitor, f64)>,
    /// Of the tokens since the last row, or since the process began.
    used: CodebookUse,
    codebook: CodebookShape,
    since: Instant,
}

impl Window {
    pub fn new(codebook: &CodebookShape) -> Self {
        Self {
            numbers: vec![],
            images: 0,
            terms: vec![],
            monitors: vec![],
            used: CodebookUse::new(codebook.codebooks, codebook.size),
            codebook: codebook.clone(),
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

    /// Adds a step's monitors, of which a row shows the mean over its steps.
    pub fn add_monitors(&mut self, monitors: Vec<Monitor>) {
        for monitor in monitors {
            match self.monitors.iter_mut().find(|(found, _)| found.name == monitor.name) {
                Some((sum, steps)) => {
                    sum.value = &sum.value + monitor.value;
                    *steps += 1.0;
                }
                None => self.monitors.push((monitor, 1.0)),
            }
        }
    }

    /// Counts the tokens of a micro-batch, on their device.
    pub fn add_indices(&mut self, indices: &Tensor) {
        no_grad(|| self.used.add(indices));
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

    /// The row's values and the use of the codebook; waits for the device. The next window begins.
    pub fn finish(&mut self) -> (Vec<(String, f64)>, CodebookFigures) {
        let mut row = vec![];
        for (i, group) in self.numbers.iter().enumerate() {
            if i == 0 {
                row.push(("loss/total".to_owned(), group.loss));
            }
            row.push((of_group("optim/grad_norm", i, group.name), group.grad_norm));
        }
        row.extend(self.terms.drain(..).map(|(name, value)| (name, value.double_value(&[]))));
        let fresh = CodebookUse::new(self.codebook.codebooks, self.codebook.size);
        let figures = std::mem::replace(&mut self.used, fresh).figures();
        row.extend(figures.named().into_iter().map(|(name, value)| (format!("codebook/{name}"), value)));
        let means =
            self.monitors.drain(..).map(|(sum, steps)| (sum.name, sum.value.double_value(&[]) / steps));
        row.extend(means);
        if self.images > 0 {
            row.push(("speed/images_per_sec".to_owned(), self.images_per_sec()));
        }
        self.restart_clock();
        (row, figures)
    }
}

/// The name of a figure of group `i`: the tokenizer's, the first, goes without its name.
pub(super) fn of_group(figure: &str, i: usize, name: &str) -> String {
    if i == 0 { figure.to_owned() } else { format!("{figure}_{name}") }
}
