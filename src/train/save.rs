//! The trainer's checkpoints.

use std::path::PathBuf;

use super::TrainError;
use super::error::chain;
use super::persist::Live;
use super::trainer::Trainer;
use crate::evaluate;

impl Trainer {
    /// Saves; a failure ends the training only when this was the last chance to save. Non-finite
    /// weights are never saved, and always end the training.
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
        if let Some(name) = snapshot.not_finite() {
            let of_companion = !snapshot.model.contains_key(name);
            return Err(TrainError::WeightsNotFinite { step, name: name.to_owned(), of_companion });
        }
        let saved = parts.run.save(step, &snapshot);
        // The checkpoint is whole: what follows only keeps the folder tidy.
        let tidied = saved.as_ref().ok().map(|_| {
            let best = figures.as_ref().map_or(Ok(()), |figures| self.offer_best(figures));
            let kept = parts.run.retain(parts.train.keep_checkpoints);
            best.and(kept)
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
