//! The description of a job that a comparison hands to a child process.

use std::io::{self, Read};
use std::process;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::inference::{EvaluateOptions, SpeedOptions};
use crate::run::TrainOptions;
use pixtok_base::Misuse;

/// The hidden command of the program, which reads an [`Assignment`] from standard input.
pub const WORK_COMMAND: &str = "work";

/// A training, an evaluation, or the speeds of all arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// A training.
    Train(TrainOptions),
    /// An evaluation.
    Evaluate(EvaluateOptions),
    /// A measurement of speeds.
    Speeds(SpeedOptions),
}

/// A job of a comparison, passed as JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The process id of the comparison.
    parent: u32,
    /// What to do.
    pub work: Work,
}

impl Work {
    /// What it does, for people to read.
    pub(super) fn words(&self) -> String {
        let (what, options) = match self {
            Self::Train(options) => ("pixtok train", serde_json::to_string(options)),
            Self::Evaluate(options) => ("pixtok eval", serde_json::to_string(options)),
            Self::Speeds(options) => ("a measurement of speeds", serde_json::to_string(options)),
        };
        format!("{what} with the options {}", options.unwrap_or_default())
    }
}

impl Assignment {
    /// An assignment from this process.
    pub(super) fn new(work: Work) -> Self {
        Self { parent: process::id(), work }
    }

    /// The assignment as it is passed.
    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads an assignment from all of `input`.
    ///
    /// # Errors
    /// [`Misuse`] if the input is not an assignment.
    pub fn read(input: impl Read) -> Result<Self> {
        let text = io::read_to_string(input)?;
        Ok(serde_json::from_str(&text).map_err(|error| {
            Misuse(format!(
                "standard input holds no work of a comparison ({error}); pixtok compare starts this \
                 command itself, use pixtok train or pixtok eval"
            ))
        })?)
    }

    /// Asks the system to end this process as SIGTERM does when the comparison that started it
    /// ends, so that no training continues unnoticed. Only Linux offers this. Returns false if the
    /// comparison has ended already.
    #[must_use]
    pub fn follow_parent(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Signal, getppid, set_parent_process_death_signal};

            // Without this, a training whose comparison has ended runs to its end, which does no
            // harm.
            let _ = set_parent_process_death_signal(Some(Signal::TERM));
            let found = getppid().map(|pid| pid.as_raw_pid().cast_unsigned());
            if found != Some(self.parent) {
                // The comparison ended before the request.
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Metric;
    use crate::inference::{AbsentPrefix, MeasureOptions};
    use crate::run::{Compute, ModelChoice, Pick};
    use pixtok_torch::DeviceChoice;

    #[test]
    fn an_assignment_comes_back_as_it_was_handed_over() {
        let compute = Compute { device: DeviceChoice::Cuda(1), threads: Some(2) };
        let pick = Pick { split: Some("test".into()), image_column: None };
        let train = TrainOptions {
            config: Some("arms/a/seed-0.toml".into()),
            overrides: vec!["train.steps=3".into()],
            data: None,
            val_data: None,
            pick: pick.clone(),
            val_split: None,
            run: Some("arms/a/seed-0".into()),
            resume: None,
            restart: true,
            accept_inexact: false,
            or_resume: false,
            init_from: None,
            lpips_weights: Some("lpips-vgg.safetensors".into()),
            check_data: false,
            overlap_told: true,
            compute,
        };
        let evaluate = EvaluateOptions {
            tokenizer: "arms/a/seed-0".into(),
            choice: ModelChoice::default(),
            compute,
            data: None,
            pick,
            protocol: Some("protocol.toml".into()),
            batch_size: None,
            background: Some([1, 2, 3]),
            measures: MeasureOptions {
                metrics: Metric::ALL.to_vec(),
                stability: true,
                prefixes: vec![2, 8],
                ..Default::default()
            },
            absent_prefixes: AbsentPrefix::LeaveOut,
            trained_on: Some(vec!["1 of 3 images".into()]),
            json: Some("figures.json".into()),
            per_image: None,
            code_counts: None,
            pictures: None,
        };
        let speeds = SpeedOptions {
            tokenizers: vec!["arms/a/seed-0".into(), "cosmos.toml".into()],
            protocol: "protocol.toml".into(),
            compute,
            fingerprint: "f".into(),
            out: "speeds.json".into(),
        };
        for work in [Work::Train(train), Work::Evaluate(evaluate), Work::Speeds(speeds)] {
            let handed = Assignment::new(work);
            assert_eq!(Assignment::read(&*handed.to_json().unwrap()).unwrap(), handed);
        }
        for wrong in ["", "{}", "{\"parent\": 1, \"work\": {\"train\": {}}}"] {
            let error = Assignment::read(wrong.as_bytes()).unwrap_err();
            assert!(error.is::<Misuse>() && error.to_string().contains("pixtok compare"), "{error}");
        }
    }
}
