//! Advice for a training whose numbers are no longer finite.

use super::TrainError;
use super::task::{GroupId, Task};
use super::trainer::Trainer;
use crate::checkpoint::DamagedCheckpoint;
use crate::optim;

/// The facts about the failure that the advice depends on.
struct Divergence {
    /// Checkpoints from this step on hold the weights that led to it.
    bad_from: u64,
    /// The group of parameters that it is in.
    group: GroupId,
}

impl<T: Task> Trainer<T> {
    /// Returns `error`, with advice added if its numbers are not finite.
    pub(super) fn with_remedy(&self, error: TrainError) -> TrainError {
        match self.divergence(&error) {
            Some(divergence) => {
                let remedy = self.remedy(&divergence);
                TrainError::Diverged { cause: Box::new(error), remedy }
            }
            None => error,
        }
    }

    fn divergence(&self, error: &TrainError) -> Option<Divergence> {
        match error {
            // The loss is that of the weights before the step.
            TrainError::NotFinite { step, group, .. } => {
                Some(Divergence { bad_from: step - 1, group: *group })
            }
            TrainError::WeightsNotFinite { step, group, .. } => {
                Some(Divergence { bad_from: *step, group: *group })
            }
            // What is evaluated is the model.
            error if error.is_of_evaluated_weights() => {
                Some(Divergence { bad_from: self.around.step, group: 0 })
            }
            _ => None,
        }
    }

    /// The message that names the checkpoint and the settings to go on with.
    fn remedy(&self, divergence: &Divergence) -> String {
        let run = self.around.run.folder();
        let path = run.path().display();
        if divergence.bad_from == 0 {
            return format!(
                "no step came before it, so no learning rate helps; look for a mistake in these {}, and try \
                 train.precision = \"fp32\"",
                T::SAMPLES
            );
        }
        let (mut words, mut left) = (String::new(), None);
        for step in run.checkpoints().unwrap_or_default() {
            if step < divergence.bad_from {
                left = Some(step);
                continue;
            }
            let path = run.checkpoint_path(step);
            let reason = "its weights give numbers that are not finite".to_owned();
            let bad = DamagedCheckpoint { step, path, reason };
            let path = bad.path.display();
            words += &match self.around.world.writes().then(|| self.around.run.set_aside(&bad)) {
                Some(Ok(aside)) => {
                    format!("its weights are those of {path}, which is now {}; ", aside.display())
                }
                Some(Err(error)) => {
                    format!("its weights are those of {path}; remove it first, since {error}; ")
                }
                None => format!("its weights are those of {path}, which process 0 sets aside; "),
            };
        }
        let group = self.groups.get(divergence.group);
        let table = group.map_or("optimizer", |group| group.table);
        let sets = group.map(|group| gentler(&group.config, table)).unwrap_or_default();
        let lower = format!("lower {table}.lr");
        words += &match (left, &self.settings.init_from) {
            (Some(step), _) => format!(
                "the last good checkpoint is {}; to go on from it, {lower}: pixtok train --resume {path}{sets}",
                run.checkpoint_path(step).display()
            ),
            (None, Some(other)) => format!(
                "no checkpoint before it is left; to start again, {lower}, with another --run: --init-from {other}{sets}"
            ),
            (None, None) => format!(
                "no checkpoint before it is left; to start over, {lower}: pixtok train --resume {path} --restart{sets}"
            ),
        };
        words + ". A longer optimizer.schedule.warmup_steps may help too"
    }
}

/// Flags that halve the learning rate (to the default at most) and turn on clipping if it was off.
fn gentler(optimizer: &optim::Config, table: &str) -> String {
    let usual = optim::Config::default();
    let mut sets = format!(" --set {table}.lr={:?}", (optimizer.lr / 2.0).min(usual.lr));
    if let Some(muon) = &optimizer.muon {
        let lr = (muon.lr / 2.0).min(optim::muon::Config::default().lr);
        sets += &format!(" --set {table}.muon.lr={lr:?}");
    }
    if optimizer.clip_norm == 0.0 {
        sets += &format!(" --set {table}.clip_norm={:?}", usual.clip_norm);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_gentler_than_what_failed() {
        let usual = optim::Config::default();
        assert_eq!(gentler(&usual, "optimizer"), " --set optimizer.lr=0.0005");
        let wild = optim::Config { lr: 1e30, clip_norm: 0.0, ..usual.clone() };
        assert_eq!(
            gentler(&wild, "adversarial.optimizer"),
            " --set adversarial.optimizer.lr=0.001 --set adversarial.optimizer.clip_norm=1.0"
        );
        let muon = optim::Config { muon: Some(optim::muon::Config::default()), ..usual };
        assert_eq!(gentler(&muon, "optimizer"), " --set optimizer.lr=0.0005 --set optimizer.muon.lr=0.01");
    }
}
