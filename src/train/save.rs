//! The trainer's checkpoints.

use std::path::PathBuf;

use super::persist::Live;
use super::trainer::Trainer;
use super::{BestMetric, TrainError};
use crate::evaluate;

impl Trainer {
    /// Whether these figures beat the best checkpoint's.
    pub(super) fn is_best(&self, figures: &evaluate::Figures) -> bool {
        let metric = self.parts.train.best_metric;
        let Some(value) = value_of(figures, metric) else { return false };
        // An unreadable record was reported when the run was opened; a save will say so again.
        let folder = self.parts.run.folder();
        let best = folder
            .best()
            .ok()
            .flatten()
            .filter(|best| best.metric == metric.name() && folder.checkpoint_path(best.step).is_dir());
        best.is_none_or(
            |best| {
                if metric.higher_is_better() { value > best.value } else { value < best.value }
            },
        )
    }

    /// Saves; a failure ends the training only when this was the last chance to save.
    pub(super) fn save(
        &mut self,
        figures: Option<evaluate::Figures>,
        last_chance: bool,
    ) -> Result<Option<PathBuf>, TrainError> {
        self.finite.finish()?;
        let parts = &self.parts;
        let live =
            Live { objective: &*parts.objective, groups: &self.groups, average: self.average.as_ref() };
        let snapshot = live.snapshot(&self.state)?;
        let step = self.state.step;
        let metric = parts.train.best_metric;
        let value = figures.and_then(|figures| value_of(&figures, metric));
        let saved = parts.run.save(step, &snapshot);
        // The checkpoint is whole: what follows only keeps the folder tidy.
        let tidied = saved.as_ref().ok().map(|_| {
            let best = value.map_or(Ok(false), |value| {
                parts.run.offer_best(step, metric.name(), value, metric.higher_is_better())
            });
            let kept = parts.run.retain(parts.train.keep_checkpoints);
            best.map(|_| ()).and(kept)
        });
        if let Some(Err(error)) = tidied {
            self.logger.warn(&format!("step {step}: {}", chain(&error)));
        }
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

fn value_of(figures: &evaluate::Figures, metric: BestMetric) -> Option<f64> {
    figures.watched().into_iter().find(|(name, _)| *name == metric.name()).map(|(_, value)| value)
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
