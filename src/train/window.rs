//! Gathers the values of the steps between two log rows. Tensors stay on the device until the row
//! is made.

use std::time::{Duration, Instant};

use tch::Tensor;

use super::finite::GroupNumbers;
use super::task::Monitor;
use crate::world::{World, WorldError};

/// A log row, and the one that is this process's own.
#[derive(Debug)]
pub(super) struct Row {
    pub row: Vec<(String, f64)>,
    pub of_process: Vec<(String, f64)>,
}

/// The steps since the last log row.
#[derive(Debug)]
pub(super) struct Window {
    /// The numbers of the last step that was read, the model's group first.
    pub numbers: Vec<GroupNumbers>,
    /// The number of samples trained on since the last row.
    pub samples: usize,
    terms: Vec<(String, Tensor)>,
    /// The sum of each monitor, and the number of steps that had it.
    monitors: Vec<(Monitor, f64)>,
    since: Instant,
    /// How long this process had waited for exchanges by then.
    waited: Duration,
}

impl Window {
    pub fn new() -> Self {
        Self {
            numbers: vec![],
            samples: 0,
            terms: vec![],
            monitors: vec![],
            since: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// Drops the terms of the previous step: a row shows only the last step's.
    pub fn begin_step(&mut self) {
        self.terms.clear();
    }

    /// Adds the terms of one of `micro_batches` equal parts of a step.
    pub fn add_terms(&mut self, terms: Vec<(String, Tensor)>, micro_batches: f64) {
        for (name, value) in terms {
            let share = value / micro_batches;
            match self.terms.iter_mut().find(|(found, _)| *found == name) {
                Some((_, sum)) => *sum += share,
                None => self.terms.push((name, share)),
            }
        }
    }

    /// Adds a step's monitors. A row shows their mean over its steps.
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

    /// The speed since the last row, without the time of evaluations and checkpoints.
    pub fn samples_per_sec(&self) -> f64 {
        self.samples as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    /// Restarts the measurement of the speed and of the waiting, after the training was interrupted.
    pub fn restart_clock(&mut self, world: &World) {
        self.since = Instant::now();
        self.waited = world.waited().unwrap_or_default();
        self.samples = 0;
    }

    /// Returns the row's values, including the task's `own`, and starts the next window. Waits for
    /// the device. `samples` is what a batch consists of. Terms and monitors are means over all
    /// processes; the speed is that of all together.
    pub fn finish(
        &mut self,
        own: Vec<(String, f64)>,
        samples: &str,
        world: &World,
    ) -> Result<Row, WorldError> {
        let mut row = vec![];
        for (i, group) in self.numbers.iter().enumerate() {
            if i == 0 {
                row.push(("loss/total".to_owned(), group.loss));
            }
            row.push((of_group("optim/grad_norm", i, group.name), group.grad_norm));
        }
        let terms: Vec<(String, f64)> =
            self.terms.drain(..).map(|(name, value)| (name, value.double_value(&[]))).collect();
        let means = self.monitors.drain(..);
        let means: Vec<(String, f64)> =
            means.map(|(sum, steps)| (sum.name, sum.value.double_value(&[]) / steps)).collect();
        let mut of_process = vec![];
        if self.samples > 0 {
            of_process.push((format!("speed/{samples}_per_sec"), self.samples_per_sec()));
        }
        let share_of = |waited: Duration| {
            waited.saturating_sub(self.waited).as_secs_f64() / self.since.elapsed().as_secs_f64().max(1e-9)
        };
        of_process.extend(world.waited().map(|waited| ("speed/waiting_share".to_owned(), share_of(waited))));
        let [terms, means, mut speeds] = means_of_all([terms, means, of_process.clone()], world)?;
        if let Some((_, per_sec)) = speeds.first_mut().filter(|_| self.samples > 0) {
            *per_sec *= f64::from(world.size());
        }
        row.extend(terms);
        row.extend(own);
        row.extend(means);
        row.extend(speeds);
        self.restart_clock(world);
        Ok(Row { row, of_process })
    }
}

/// The means over all processes of named values, which have the same names in each of them.
fn means_of_all<const N: usize>(
    lists: [Vec<(String, f64)>; N],
    world: &World,
) -> Result<[Vec<(String, f64)>; N], WorldError> {
    if world.size() == 1 {
        return Ok(lists);
    }
    let values: Vec<f64> = lists.iter().flatten().map(|(_, value)| *value).collect();
    let means = world.mean(&Tensor::from_slice(&values))?;
    let mut place = 0;
    Ok(lists.map(|list| {
        let mut mean = |(name, _)| {
            place += 1;
            (name, means.double_value(&[place - 1]))
        };
        list.into_iter().map(&mut mean).collect()
    }))
}

/// The logged name of a figure of group `i`. The first group, the model's, has no prefix.
pub(super) fn of_group(figure: &str, i: usize, name: &str) -> String {
    if i == 0 { figure.to_owned() } else { format!("{figure}_{name}") }
}
