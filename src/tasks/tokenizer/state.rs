//! `state.json`: what a run needs besides its tensors to go on as if it had never stopped.

use serde::{Deserialize, Serialize};

use super::collapse::CollapseCount;
use super::error::CircumstancesError;
use crate::train::{Exactness, Machine, StateError};
use pixtok_images::data::{self, Fingerprint};

/// The task's part of a checkpoint's state: what it counts, and the circumstances of its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Evaluations in a row with a collapsed codebook.
    pub collapse: CollapseCount,
    /// The circumstances of the training since the last start or resume.
    pub circumstances: Circumstances,
}

/// What exact resumption depends on, besides the counters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Circumstances {
    /// What every training depends on.
    pub run: Exactness,
    /// Fingerprint of the training images.
    pub data: Fingerprint,
    /// Fingerprint of the validation images.
    pub val_data: Fingerprint,
    /// The weights that the loss reads from a file.
    pub loss_weights: Option<LossWeights>,
    /// How noise is drawn. Absent if the training draws none, and in checkpoints of earlier
    /// versions, which drew it by micro-batch.
    pub noise: Option<NoiseSource>,
}

/// What the noise of a training is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSource {
    /// The step and the place of the image in its batch.
    Image,
}

/// The circumstances as `state.json` has them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    config: String,
    threads: i32,
    machine: Machine,
    data: Fingerprint,
    val_data: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_weights: Option<LossWeights>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise: Option<NoiseSource>,
}

impl From<Written> for Circumstances {
    fn from(written: Written) -> Self {
        let Written { config, threads, machine, data, val_data, loss_weights, noise } = written;
        Self { run: Exactness { config, threads, machine }, data, val_data, loss_weights, noise }
    }
}

impl From<Circumstances> for Written {
    fn from(circumstances: Circumstances) -> Self {
        let Circumstances { run, data, val_data, loss_weights, noise } = circumstances;
        let Exactness { config, threads, machine } = run;
        Self { config, threads, machine, data, val_data, loss_weights, noise }
    }
}

/// A file of weights that the loss needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// The absolute path of the file.
    pub file: String,
    /// The blake3 hash of its content, hexadecimal.
    pub blake3: String,
}

impl State {
    /// The state of a run that has not started.
    #[must_use]
    pub fn new(circumstances: Circumstances) -> Self {
        Self { collapse: CollapseCount::default(), circumstances }
    }

    /// Parses what [`crate::train::Progress::split`] leaves of a checkpoint's state.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn parse(saved: &serde_json::Value) -> Result<Self, StateError> {
        Ok(Self::deserialize(saved)?)
    }

    /// The fingerprint of the training images in a state saved by this or an older version.
    #[must_use]
    pub fn training_images(saved: &serde_json::Value) -> Option<Fingerprint> {
        // First the current place, then those of earlier versions.
        let places = ["/circumstances/data", "/data", "/data_fingerprint"];
        let found = places.iter().find_map(|place| saved.pointer(place))?;
        serde_json::from_value(found.clone()).ok()
    }

    /// The fingerprint of the validation images in a state saved by this or an older version.
    #[must_use]
    pub fn validation_images(saved: &serde_json::Value) -> Option<Fingerprint> {
        let found = ["/circumstances/val_data", "/val_data"].iter().find_map(|place| saved.pointer(place))?;
        serde_json::from_value(found.clone()).ok()
    }

    /// Takes over a saved state if the run can continue it under the circumstances in `self`.
    /// `data` names the images, for messages. Returns notes for the user.
    ///
    /// # Errors
    /// See [`CircumstancesError`].
    pub fn resume(
        &mut self,
        saved: &Self,
        accept_inexact: bool,
        data: &data::Config,
    ) -> Result<Vec<String>, CircumstancesError> {
        let notes = self.circumstances.check(&saved.circumstances, accept_inexact, data)?;
        self.collapse = saved.collapse;
        Ok(notes)
    }
}

impl Circumstances {
    /// Refuses to go on if the circumstances `then` differ so that it would not be the same run.
    /// Returns notes for the user.
    fn check(
        &self,
        then: &Circumstances,
        accept_inexact: bool,
        data: &data::Config,
    ) -> Result<Vec<String>, CircumstancesError> {
        let mut notes = vec![];
        notes.extend(check_images(&self.data, &then.data, &data.train)?);
        let hash = |weights: &Option<LossWeights>| weights.as_ref().map(|weights| weights.blake3.clone());
        if hash(&then.loss_weights) != hash(&self.loss_weights) {
            return Err(CircumstancesError::LossWeights);
        }
        if self.noise.is_some() && self.noise != then.noise {
            if !accept_inexact {
                return Err(CircumstancesError::Noise);
            }
            notes.push(
                "going on with noise drawn for each image instead of each micro-batch: not bit for bit"
                    .into(),
            );
        }
        notes.extend(self.run.check(&then.run, accept_inexact)?);
        Ok(notes)
    }
}

/// Refuses images of `folder` that are not those of the run. Returns a note if they may have
/// changed.
fn check_images(
    now: &Fingerprint,
    then: &Fingerprint,
    folder: &str,
) -> Result<Option<String>, CircumstancesError> {
    let Some(difference) = now.difference(then) else { return Ok(None) };
    match difference.change() {
        Some(what) => Err(CircumstancesError::Data { folder: folder.to_owned(), what: what.to_owned() }),
        None => Ok(difference.doubt(folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::DeviceKind;
    use pixtok_images::data::Difference;

    fn print(names: &str, sizes: &str, times: &str) -> Fingerprint {
        serde_json::from_value(serde_json::json!({"names": names, "sizes": sizes, "times": times})).unwrap()
    }

    fn began() -> Circumstances {
        Circumstances {
            run: Exactness {
                config: "c".into(),
                threads: 2,
                machine: Machine {
                    device: DeviceKind::Cpu,
                    model: "EPYC".into(),
                    instructions: vec![],
                    libtorch: "2.13.0".into(),
                    pixtok: "1".into(),
                },
            },
            data: print("a", "s", "t"),
            val_data: print("val", "s", "t"),
            loss_weights: None,
            noise: None,
        }
    }

    /// The result of a resume after `change`: the notes or the error.
    fn said(change: impl Fn(&mut Circumstances), accept: bool) -> Result<Vec<String>, CircumstancesError> {
        let mut now = began();
        change(&mut now);
        now.check(&began(), accept, &data::Config::default())
    }

    #[test]
    fn counters_are_taken_over_and_circumstances_are_not() {
        let collapse: CollapseCount = serde_json::from_value(3.into()).unwrap();
        let saved = State { collapse, ..State::new(began()) };
        let mut json = serde_json::to_value(&saved).unwrap();
        json["step"] = 7.into();
        assert!(State::parse(&json).is_err(), "the loop's own keys are taken out before");
        let mut now = State::new(Circumstances { data: print("a", "s", "later"), ..began() });
        let notes = now.resume(&saved, false, &data::Config::default()).unwrap();
        assert_eq!((now.collapse, notes.len()), (collapse, 1));
        assert_eq!(now.circumstances.data, print("a", "s", "later"));
    }

    #[test]
    fn the_images_of_every_version_are_found() {
        let now = serde_json::to_value(State::new(began())).unwrap();
        assert_eq!(State::training_images(&now), Some(began().data));
        assert_eq!(State::validation_images(&now), Some(began().val_data));
        let (data, val_data) = (print("a", "s", "t"), print("val", "s", "t"));
        let older = serde_json::json!({ "step": 1, "data": data, "val_data": val_data });
        assert_eq!(State::training_images(&older), Some(began().data));
        assert_eq!(State::validation_images(&older), Some(began().val_data));
        let names = State::training_images(&serde_json::json!({ "data_fingerprint": "a" })).unwrap();
        assert_eq!(began().data.difference(&names), Some(Difference::Unknown));
        assert_eq!(State::training_images(&serde_json::json!({ "step": 1 })), None);
        assert_eq!(State::validation_images(&serde_json::json!({ "data_fingerprint": "a" })), None);
    }

    #[test]
    fn a_checkpoint_with_the_noise_of_an_earlier_version_is_refused_or_said() {
        let noisy = |now: &mut Circumstances| now.noise = Some(NoiseSource::Image);
        let refused = said(noisy, false).unwrap_err();
        assert!(matches!(refused, CircumstancesError::Noise));
        assert!(refused.to_string().contains("--accept-inexact"), "{refused}");
        let notes = said(noisy, true).unwrap();
        assert!(notes.len() == 1 && notes[0].contains("not bit for bit"), "{notes:?}");
        let mut now = began();
        noisy(&mut now);
        let json = serde_json::to_value(&now).unwrap();
        assert_eq!(json["noise"], "image");
        let saved: Circumstances = serde_json::from_value(json).unwrap();
        assert_eq!(now.check(&saved, false, &data::Config::default()).unwrap(), [""; 0]);
        assert!(serde_json::to_value(began()).unwrap().get("noise").is_none(), "nothing new without noise");
    }

    #[test]
    fn other_circumstances_are_refused_or_said() {
        assert_eq!(said(|_| {}, false).unwrap(), [""; 0]);
        let names = said(|now| now.data = print("b", "s", "t"), true);
        assert!(matches!(names, Err(CircumstancesError::Data { .. })));
        let sizes = said(|now| now.data = print("a", "other", "t"), true);
        assert!(sizes.unwrap_err().to_string().contains("some sizes differ"));
        let times = said(|now| now.data = print("a", "s", "later"), false).unwrap();
        assert!(times[0].contains("modification times"), "{times:?}");
        let then = Circumstances { data: serde_json::from_value("a".into()).unwrap(), ..began() };
        let older = began().check(&then, false, &data::Config::default()).unwrap();
        assert!(older[0].contains("recorded names only"), "{older:?}");
        let weights = |now: &mut Circumstances| {
            now.loss_weights = Some(LossWeights { file: "x".into(), blake3: "b".into() });
        };
        assert!(matches!(said(weights, true), Err(CircumstancesError::LossWeights)));
        assert!(matches!(said(|now| now.run.threads = 1, false), Err(CircumstancesError::Inexact(_))));
        assert_eq!(said(|now| now.run.threads = 1, true).unwrap().len(), 1);
        let elsewhere = said(|now| now.run.machine.model = "Xeon".into(), false).unwrap();
        assert!(elsewhere[0].contains("processor Xeon instead of EPYC"), "{elsewhere:?}");
    }
}
