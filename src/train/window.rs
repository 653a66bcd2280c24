//! What is gathered between two log rows; tensors stay on the device until the row is made.

use std::time::Instant;

use tch::Tensor;

use super::finite::GroupNumbers;
use super::task::Monitor;

/// The steps since the last log row.
#[derive(Debug)]
pub(super) struct Window {
    /// Of the last step that was read, the model's group first.
    pub numbers: Vec<GroupNumbers>,
    /// Trained on so far.
    pub samples: usize,
    terms: Vec<(String, Tensor)>,
    /// Sum of each monitor, and how many steps had it.
    monitors: Vec<(Monitor, f64)>,
    since: Instant,
}

impl Window {
    pub fn new() -> Self {
        Self { numbers: vec![], samples: 0, terms: vec![], monitors: vec![], since: Instant::now() }
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

    /// Since the last row; time spent on evaluations and checkpoints does not count.
    pub fn samples_per_sec(&self) -> f64 {
        self.samples as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    /// After an interruption of the training: the speed is measured anew.
    pub fn restart_clock(&mut self) {
        self.since = Instant::now();
        self.samples = 0;
    }

    /// The row's values, with the task's `own` among them; waits for the device. The next window
    /// begins. `samples` is what a batch consists of.
    pub fn finish(&mut self, own: Vec<(String, f64)>, samples: &str) -> Vec<(String, f64)> {
        let mut row = vec![];
        for (i, group) in self.numbers.iter().enumerate() {
            if i == 0 {
                row.push(("loss/total".to_owned(), group.loss));
            }
            row.push((of_group("optim/grad_norm", i, group.name), group.grad_norm));
        }
        row.extend(self.terms.drain(..).map(|(name, value)| (name, value.double_value(&[]))));
        row.extend(own);
        let means =
            self.monitors.drain(..).map(|(sum, steps)| (sum.name, sum.value.double_value(&[]) / steps));
        row.extend(means);
        if self.samples > 0 {
            row.push((format!("speed/{samples}_per_sec"), self.samples_per_sec()));
        }
        self.restart_clock();
        row
    }
}

/// The name of a figure of group `i`: the model's, the first, goes without its name.
pub(super) fn of_group(figure: &str, i: usize, name: &str) -> String {
    if i == 0 { figure.to_owned() } else { format!("{figure}_{name}") }
}
