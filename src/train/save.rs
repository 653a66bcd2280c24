//! The trainer's checkpoints.

use std::path::PathBuf;

use super::TrainError;
use super::persist::Live;
use super::trainer::Trainer;
use crate::evaluate;

impl Trainer {
    /// Saves; a failure ends the training only when this was the last chance to save.
    pub(super) fn save(
        &mut self,
        figures: Option<evaluate::Figures>,
        last_chance: bool,
    ) -> Result<Option<PathBuf>, TrainError> {
        self.finite.finish()?;
        let parts = &self.parts;
        let live = Live {
            objective: &*parts.objective,
            optimizers: &self.optimizers,
            average: self.average.as_ref(),
        };
        let snapshot = live.snapshot(&self.state)?;
        let step = self.state.step;
        let metric = parts.train.best_metric;
        let value = figures.and_then(|figures| {
            figures.named().into_iter().find(|(name, _)| *name == metric.name()).map(|(_, value)| value)
        });
        let saved = parts.run.save(step, &snapshot).and_then(|path| {
            if let Some(value) = value {
                parts.run.offer_best(step, metric.name(), value, metric.higher_is_better())?;
            }
            parts.run.retain(parts.train.keep_checkpoints)?;
            Ok(path)
        });
        self.window.restart_clock();
        match saved {
            Ok(path) => Ok(Some(path)),
            Err(error) if last_chance => Err(error.into()),
            Err(error) => {
                self.logger.warn(&format!("step {step}: {}; training goes on", chain(&error)));
                Ok(None)
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
