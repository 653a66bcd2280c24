//! What a run needs besides its tensors to go on as if it had never stopped: `state.json`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::collapse::CollapseCount;
use super::machine::Machine;
use crate::data::{Cursor, Difference, Fingerprint};

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
    /// libtorch's threads: another count rounds sums differently.
    pub threads: i32,
    /// Where it was trained last.
    pub machine: Machine,
    /// Of the training set.
    pub data: Fingerprint,
    /// The weights that the loss takes from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weights: Option<LossWeights>,
}

/// A file of weights that the loss needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// Where it was.
    pub file: PathBuf,
    /// Hash of its content, hexadecimal.
    pub blake3: String,
}

/// The saved state belongs to other circumstances.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error(
        "the checkpoint's state.json does not fit this version of pixtok ({0}); go on with the version that wrote it, or start a new run \
         with --init-from"
    )]
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
    /// Other images.
    #[error(
        "the images in {folder} are not those that the run began with ({what}); name the run's own folder with --data and \
         --val-data, restore the files, or start a new run with --init-from"
    )]
    Data {
        /// Where they are.
        folder: String,
        /// What differs.
        what: &'static str,
    },
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
    pub fn new(threads: i32, machine: Machine, data: Fingerprint, loss_weights: Option<LossWeights>) -> Self {
        Self {
            step: 0,
            evaluated: 0,
            cursor: Cursor::default(),
            collapse: CollapseCount::default(),
            threads,
            machine,
            data,
            loss_weights,
        }
    }

    /// As a checkpoint has it.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn parse(saved: serde_json::Value) -> Result<Self, StateError> {
        Ok(serde_json::from_value(saved)?)
    }

    /// Takes over a saved state if a run under `self`'s circumstances, on the images of `folder`, can continue it; returns
    /// what the user should know.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn resume(
        &mut self,
        saved: serde_json::Value,
        accept_inexact: bool,
        folder: &str,
    ) -> Result<Vec<String>, StateError> {
        let saved = Self::parse(saved)?;
        let mut notes = vec![];
        let what = match self.data.difference(&saved.data) {
            Some(Difference::Names) => Some("their list changed"),
            Some(Difference::Sizes) => Some("the list is the same, but files have other sizes"),
            Some(Difference::Times) => {
                notes.push(format!(
                    "files in {folder} were written again since the run last used them; names and sizes are the same, so they \
                     are taken for the same images"
                ));
                None
            }
            None => None,
        };
        if let Some(what) = what {
            return Err(StateError::Data { folder: folder.to_owned(), what });
        }
        let hash = |weights: &Option<LossWeights>| weights.as_ref().map(|weights| weights.blake3.clone());
        if hash(&saved.loss_weights) != hash(&self.loss_weights) {
            return Err(StateError::LossWeights);
        }
        let (now, then) = (&self.machine, &saved.machine);
        for (then, now, remedy) in [
            (
                format!("{} threads", saved.threads),
                format!("{} threads", self.threads),
                format!("--threads {}", saved.threads),
            ),
            (then.device.clone(), now.device.clone(), format!("--device {}", then.device)),
        ] {
            // On CUDA the threads only load images.
            let idle =
                then.ends_with("threads") && self.machine.device == "cuda" && saved.machine.device == "cuda";
            if then == now || idle {
                continue;
            }
            if !accept_inexact {
                return Err(StateError::Inexact { saved: then, now, remedy });
            }
            notes.push(format!("going on with {now} instead of {then}: not bit for bit"));
        }
        let elsewhere = self.machine.differences(&saved.machine);
        if !elsewhere.is_empty() {
            notes.push(format!(
                "going on with {}: results may differ in their last bits from those of a run that was never moved",
                elsewhere.join("; ")
            ));
        }
        *self = State {
            threads: self.threads,
            machine: self.machine.clone(),
            data: self.data.clone(),
            loss_weights: self.loss_weights.clone(),
            ..saved
        };
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(threads: i32, data: &str) -> State {
        let machine = Machine {
            device: "cpu".into(),
            model: "EPYC".into(),
            instructions: vec![],
            libtorch: "2.13.0".into(),
            pixtok: "1".into(),
        };
        let print = serde_json::json!({"names": data, "sizes": "s", "times": "t"});
        State::new(threads, machine, serde_json::from_value(print).unwrap(), None)
    }

    fn data(names: &str, sizes: &str, times: &str) -> Fingerprint {
        serde_json::from_value(serde_json::json!({"names": names, "sizes": sizes, "times": times})).unwrap()
    }

    #[test]
    fn other_circumstances_are_refused_or_said() {
        let mut saved = state(2, "a");
        saved.step = 7;
        saved.cursor = Cursor { epoch: 1, position: 32 };
        let resume = |mut now: State, accept: bool| {
            let notes = now.resume(serde_json::to_value(&saved).unwrap(), accept, "photos")?;
            Ok::<_, StateError>((now, notes))
        };
        let (same, notes) = resume(state(2, "a"), false).unwrap();
        assert_eq!((same, notes), (saved.clone(), vec![]));
        assert!(matches!(resume(state(2, "b"), true), Err(StateError::Data { .. })));
        let swollen = State { data: data("a", "other", "t"), ..state(2, "a") };
        assert!(resume(swollen, true).unwrap_err().to_string().contains("other sizes"));
        let touched = State { data: data("a", "s", "later"), ..state(2, "a") };
        let (touched, notes) = resume(touched, false).unwrap();
        assert!(notes[0].contains("written again"), "{notes:?}");
        assert_eq!(touched.data, data("a", "s", "later"));
        let weights = Some(LossWeights { file: "x".into(), blake3: "b".into() });
        let other = State { loss_weights: weights, ..state(2, "a") };
        assert!(matches!(resume(other, true), Err(StateError::LossWeights)));
        assert!(matches!(resume(state(1, "a"), false), Err(StateError::Inexact { .. })));
        let (accepted, notes) = resume(state(1, "a"), true).unwrap();
        assert_eq!((accepted.threads, accepted.step, notes.len()), (1, 7, 1));
        let mut elsewhere = state(2, "a");
        elsewhere.machine.model = "Xeon".into();
        let (elsewhere, notes) = resume(elsewhere, false).unwrap();
        assert!(notes[0].contains("processor Xeon instead of EPYC"), "{notes:?}");
        assert_eq!(elsewhere.machine.model, "Xeon");
        assert!(state(2, "a").resume(serde_json::json!({"step": 1}), false, "photos").is_err());
    }
}
