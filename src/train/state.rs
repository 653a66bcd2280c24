//! What a run needs besides its tensors to go on as if it had never stopped: `state.json`.

use serde::{Deserialize, Serialize};

use super::collapse::CollapseCount;
use crate::data::Cursor;

/// The counters of a run, and what exactness depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimizer steps done.
    pub step: u64,
    /// The step of the last evaluation that gave figures.
    pub evaluated: u64,
    /// Where the data goes on.
    pub cursor: Cursor,
    /// Evaluations in a row with a collapsed codebook.
    pub collapse: CollapseCount,
    /// libtorch's threads: another count rounds sums otherwise.
    pub threads: i32,
    /// `cpu` or `cuda`: they round otherwise.
    pub device: String,
    /// Of the training set's file list.
    pub data_fingerprint: String,
    /// Hash of the weights that the loss takes from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weights: Option<String>,
}

/// The saved state belongs to other circumstances.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("the checkpoint's state.json does not fit this version of pixtok: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Another thread count.
    #[error(
        "the run was trained with {saved} and would go on with {now}, which rounds differently; use {remedy}, or \
         --accept-inexact to go on all the same"
    )]
    Inexact {
        /// Then.
        saved: String,
        /// Now.
        now: String,
        /// The flag that makes them the same.
        remedy: String,
    },
    /// Another set of files.
    #[error(
        "the images in {0} are not those that the run began with (their list changed); name the run's own folder \
         with --data and --val-data, restore the files, or start a new run with --init-from"
    )]
    Data(String),
    /// Other weights of the loss.
    #[error(
        "the run began with other weights of loss.network than these; give the file it began with by --lpips-weights, or start a \
         new run with --init-from"
    )]
    LossWeights,
}

impl State {
    /// Of a run that has not begun.
    #[must_use]
    pub fn new(
        threads: i32,
        device: tch::Device,
        data_fingerprint: String,
        loss_weights: Option<String>,
    ) -> Self {
        let device = if device.is_cuda() { "cuda" } else { "cpu" }.to_owned();
        Self {
            step: 0,
            evaluated: 0,
            cursor: Cursor::default(),
            collapse: CollapseCount::default(),
            threads,
            device,
            data_fingerprint,
            loss_weights,
        }
    }

    /// Takes over a saved state if a run under `self`'s circumstances, on the images of `folder`, would continue it
    /// exactly; returns what the user should know.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn resume(
        &mut self,
        saved: serde_json::Value,
        accept_inexact: bool,
        folder: &str,
    ) -> Result<Vec<String>, StateError> {
        let saved: State = serde_json::from_value(saved)?;
        if saved.data_fingerprint != self.data_fingerprint {
            return Err(StateError::Data(folder.to_owned()));
        }
        if saved.loss_weights != self.loss_weights {
            return Err(StateError::LossWeights);
        }
        let mut notes = vec![];
        for (then, now, remedy) in [
            (
                format!("{} threads", saved.threads),
                format!("{} threads", self.threads),
                format!("--threads {}", saved.threads),
            ),
            (saved.device.clone(), self.device.clone(), format!("--device {}", saved.device)),
        ] {
            // On CUDA the threads only load images.
            let idle = then.ends_with("threads") && self.device == "cuda" && saved.device == "cuda";
            if then == now || idle {
                continue;
            }
            if !accept_inexact {
                return Err(StateError::Inexact { saved: then, now, remedy });
            }
            notes.push(format!("going on with {now} instead of {then}: not bit for bit"));
        }
        *self = State { threads: self.threads, device: self.device.clone(), ..saved };
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(threads: i32, data: &str) -> State {
        State::new(threads, tch::Device::Cpu, data.into(), None)
    }

    #[test]
    fn other_circumstances_are_refused() {
        let mut saved = state(2, "a");
        saved.step = 7;
        saved.cursor = Cursor { epoch: 1, position: 32 };
        let json = || serde_json::to_value(&saved).unwrap();
        let mut same = state(2, "a");
        assert!(same.resume(json(), false, "photos").unwrap().is_empty());
        assert_eq!(same, saved);
        assert!(matches!(state(2, "b").resume(json(), true, "photos"), Err(StateError::Data(_))));
        let other = State { loss_weights: Some("b".into()), ..state(2, "a") }.resume(json(), true, "photos");
        assert!(matches!(other, Err(StateError::LossWeights)));
        assert!(matches!(state(1, "a").resume(json(), false, "photos"), Err(StateError::Inexact { .. })));
        let mut accepted = state(1, "a");
        assert_eq!(accepted.resume(json(), true, "photos").unwrap().len(), 1);
        assert_eq!((accepted.threads, accepted.step), (1, 7));
        assert!(state(2, "a").resume(serde_json::json!({"step": 1}), false, "photos").is_err());
    }
}
