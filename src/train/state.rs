//! What a run needs besides its tensors to go on as if it had never stopped: `state.json`.

use serde::{Deserialize, Serialize};

use super::collapse::CollapseCount;
use super::machine::{DeviceKind, Machine};
use crate::data::{self, Cursor, Difference, Fingerprint};

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
    /// Of all settings that must not change: see `Config::exact_digest` of the root config.
    pub config: String,
    /// libtorch's threads: another count rounds sums differently.
    pub threads: i32,
    /// Where it was trained last.
    pub machine: Machine,
    /// Of the training images.
    pub data: Fingerprint,
    /// Of the validation images.
    pub val_data: Fingerprint,
    /// The weights that the loss takes from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weights: Option<LossWeights>,
}

/// What a run trains under, of which [`State`] has each field.
#[derive(Debug)]
#[allow(missing_docs, reason = "as in State")]
pub struct Circumstances {
    pub config: String,
    pub threads: i32,
    pub machine: Machine,
    pub data: Fingerprint,
    pub val_data: Fingerprint,
    pub loss_weights: Option<LossWeights>,
}

/// A file of weights that the loss needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// Where it was, as an absolute path.
    pub file: String,
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
    /// Of a run that has not begun, under these circumstances.
    #[must_use]
    pub fn new(circumstances: Circumstances) -> Self {
        let Circumstances { config, threads, machine, data, val_data, loss_weights } = circumstances;
        Self {
            step: 0,
            evaluated: 0,
            cursor: Cursor::default(),
            collapse: CollapseCount::default(),
            config,
            threads,
            machine,
            data,
            val_data,
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

    /// Takes over a saved state if a run under `self`'s circumstances, on the images that `data`
    /// names, can continue it; returns what the user should know.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn resume(
        &mut self,
        saved: serde_json::Value,
        accept_inexact: bool,
        data: &data::Config,
    ) -> Result<Vec<String>, StateError> {
        let saved = Self::parse(saved)?;
        let mut notes = vec![];
        notes.extend(check_images(&self.data, &saved.data, &data.train)?);
        if matches!(self.val_data.difference(&saved.val_data), Some(Difference::Names | Difference::Sizes)) {
            notes.push(
                "the validation images are not those that the run began with, so earlier figures, the best checkpoint's among \
                 them, are of other images"
                    .to_owned(),
            );
        }
        let hash = |weights: &Option<LossWeights>| weights.as_ref().map(|weights| weights.blake3.clone());
        if hash(&saved.loss_weights) != hash(&self.loss_weights) {
            return Err(StateError::LossWeights);
        }
        for (then, now, remedy) in self.rounding(&saved) {
            if !accept_inexact {
                return Err(StateError::Inexact { saved: then, now, remedy });
            }
            notes.push(format!("going on with {now} instead of {then}: not bit for bit"));
        }
        let elsewhere = self.machine.differences(&saved.machine);
        if !elsewhere.is_empty() {
            notes.push(format!(
                "another machine or version: {}. Results may differ in the last bits from an uninterrupted run",
                elsewhere.join("; ")
            ));
        }
        *self = State {
            step: saved.step,
            evaluated: saved.evaluated,
            cursor: saved.cursor,
            collapse: saved.collapse,
            ..self.clone()
        };
        Ok(notes)
    }

    /// What rounds differently from `saved`: then, now, and the flag that makes them the same.
    fn rounding(&self, saved: &State) -> Vec<(String, String, String)> {
        let (now, then) = (self.machine.device, saved.machine.device);
        let mut found = vec![];
        // On CUDA the threads only load images.
        if self.threads != saved.threads && (now, then) != (DeviceKind::Cuda, DeviceKind::Cuda) {
            let threads = |state: &State| format!("{} threads", state.threads);
            found.push((threads(saved), threads(self), format!("--threads {}", saved.threads)));
        }
        if now != then {
            found.push((then.to_string(), now.to_string(), format!("--device {then}")));
        }
        found
    }
}

/// Refuses images of `folder` that are not those of the run; a note if they may have changed.
fn check_images(now: &Fingerprint, then: &Fingerprint, folder: &str) -> Result<Option<String>, StateError> {
    let other = |what| StateError::Data { folder: folder.to_owned(), what };
    match now.difference(then) {
        Some(Difference::Names) => Err(other("their list changed")),
        Some(Difference::Sizes) => Err(other("the list is the same, but some sizes differ")),
        Some(Difference::Times) => Ok(Some(format!(
            "files in {folder} have new modification times since the run last used them; names and sizes match, so they are \
             assumed to be the same images"
        ))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(threads: i32, data: &str) -> State {
        let machine = Machine {
            device: DeviceKind::Cpu,
            model: "EPYC".into(),
            instructions: vec![],
            libtorch: "2.13.0".into(),
            pixtok: "1".into(),
        };
        State::new(Circumstances {
            config: "c".into(),
            threads,
            machine,
            data: print(data, "s", "t"),
            val_data: print("val", "s", "t"),
            loss_weights: None,
        })
    }

    fn print(names: &str, sizes: &str, times: &str) -> Fingerprint {
        serde_json::from_value(serde_json::json!({"names": names, "sizes": sizes, "times": times})).unwrap()
    }

    #[test]
    fn other_circumstances_are_refused_or_said() {
        let mut saved = state(2, "a");
        saved.step = 7;
        saved.cursor = Cursor { epoch: 1, position: 32 };
        let resume = |mut now: State, accept: bool| {
            let notes =
                now.resume(serde_json::to_value(&saved).unwrap(), accept, &data::Config::default())?;
            Ok::<_, StateError>((now, notes))
        };
        let (same, notes) = resume(state(2, "a"), false).unwrap();
        assert_eq!((same, notes), (saved.clone(), vec![]));
        assert!(matches!(resume(state(2, "b"), true), Err(StateError::Data { .. })));
        let swollen = State { data: print("a", "other", "t"), ..state(2, "a") };
        assert!(resume(swollen, true).unwrap_err().to_string().contains("some sizes differ"));
        let touched = State { data: print("a", "s", "later"), ..state(2, "a") };
        let (touched, notes) = resume(touched, false).unwrap();
        assert!(notes[0].contains("modification times"), "{notes:?}");
        assert_eq!(touched.data, print("a", "s", "later"));
        let other_val = State { val_data: print("other", "s", "t"), ..state(2, "a") };
        assert!(resume(other_val, false).unwrap().1[0].contains("validation images"));
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
        assert!(
            state(2, "a").resume(serde_json::json!({"step": 1}), false, &data::Config::default()).is_err()
        );
    }
}
