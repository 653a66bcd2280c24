//! `bad_samples.jsonl`: every file that could not be used, once, with its reason and the step that met it.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::TrainError;
use crate::logger::cut_back;
use pixtok_images::data::{BadSample, BadSamples, DataError, TooManyBad};

/// The list of bad samples in a run folder.
pub(super) const BAD_SAMPLES_FILE: &str = "bad_samples.jsonl";

/// Which images a bad file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(super) enum Part {
    Train,
    Val,
}

impl Part {
    /// As in `data.train` and `data.val`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What [`BadLog::record`] did.
#[derive(Debug)]
pub(super) struct Recorded {
    /// Files that had not been met before.
    pub new: usize,
    /// Why the list could not be written; the rows wait for the next time.
    pub unwritten: Option<io::Error>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    step: u64,
    split: Part,
    #[serde(flatten)]
    sample: BadSample,
}

/// The list on disk and the counts that are checked against `data.max_bad_fraction`.
#[derive(Debug)]
pub(super) struct BadLog {
    path: PathBuf,
    train: BadSamples,
    val: BadSamples,
    /// Validation files in the list of an earlier process. They are met again at the next evaluation and count then,
    /// if they are still bad.
    listed_val: HashSet<String>,
    /// Rows that are not written yet.
    pending: String,
}

impl BadLog {
    /// Cuts an earlier list back to `step` and counts what is left of it.
    pub fn open(run: &Path, step: u64, train: BadSamples, val: BadSamples) -> Result<Self, TrainError> {
        let path = run.join(BAD_SAMPLES_FILE);
        cut_back(&path, step)?;
        let mut log = Self { path, train, val, listed_val: HashSet::new(), pending: String::new() };
        // Missing until a file is bad.
        for line in fs::read_to_string(&log.path).unwrap_or_default().lines() {
            if let Ok(row) = serde_json::from_str::<Row>(line) {
                match row.split {
                    Part::Train => {
                        log.train.record(&row.sample);
                    }
                    Part::Val => {
                        log.listed_val.insert(row.sample.name);
                    }
                }
            }
        }
        Ok(log)
    }

    fn of(&mut self, part: Part) -> &mut BadSamples {
        match part {
            Part::Train => &mut self.train,
            Part::Val => &mut self.val,
        }
    }

    /// Writes down the files that are new.
    pub fn record(&mut self, step: u64, part: Part, samples: Vec<BadSample>) -> Recorded {
        let mut new = 0;
        for sample in samples {
            if !self.of(part).record(&sample) {
                continue;
            }
            new += 1;
            if part == Part::Train || !self.listed_val.contains(&sample.name) {
                let row = serde_json::to_string(&Row { step, split: part, sample });
                self.pending.extend(row.ok().map(|row| row + "\n"));
            }
        }
        Recorded { new, unwritten: self.write_pending().err() }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(self.pending.as_bytes())?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Whether the run may go on.
    pub fn check(&self, part: Part) -> Result<(), TooManyBad> {
        match part {
            Part::Train => self.train.check(),
            Part::Val => self.val.check(),
        }
    }
}

/// The bad images that a data error was about.
pub(super) fn bad_of(error: &DataError) -> Vec<BadSample> {
    match error {
        DataError::NoGoodImages { bad, .. } | DataError::BatchTooLarge { bad, .. } => bad.clone(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> BadSample {
        BadSample { name: name.into(), reason: "truncated".into() }
    }

    #[test]
    fn files_are_listed_once_and_a_resume_forgets_what_came_after() {
        let run = tempfile::tempdir().unwrap();
        let open = |step| {
            BadLog::open(run.path(), step, BadSamples::new(100, 0.02), BadSamples::new(100, 0.02)).unwrap()
        };
        let mut log = open(0);
        assert_eq!(log.record(1, Part::Train, vec![sample("a"), sample("a")]).new, 1);
        assert_eq!(log.record(5, Part::Train, vec![sample("b"), sample("a")]).new, 1);
        assert_eq!(log.record(5, Part::Val, vec![sample("a")]).new, 1);
        log.check(Part::Train).unwrap();
        assert_eq!(log.record(6, Part::Train, vec![sample("c")]).new, 1);
        assert!(log.check(Part::Train).is_err());
        log.check(Part::Val).unwrap();
        let mut resumed = open(5);
        assert_eq!(resumed.record(6, Part::Train, vec![sample("b")]).new, 0);
        let listed = fs::read_to_string(run.path().join("bad_samples.jsonl")).unwrap();
        assert_eq!(listed.lines().count(), 3);
        assert!(listed.contains(r#"{"step":1,"split":"train","name":"a","reason":"truncated"}"#));
    }
}
