//! `bad_samples.jsonl`: lists every file that could not be used once, with the reason and the step.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::logger::cut_back;
use crate::train::{Surroundings, TrainError};
use pixtok_images::data::{BadSample, BadSamples, DataError};

/// The list of bad samples in a run folder.
pub(super) const BAD_SAMPLES_FILE: &str = "bad_samples.jsonl";

/// The set of images that a bad file belongs to, as in `data.train` and `data.val`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(super) enum Split {
    Train,
    Val,
}

/// The result of [`BadLog::record`].
#[derive(Debug)]
struct Recorded {
    /// The number of files that are new in the list.
    new: usize,
    /// The error if the list could not be written; its rows are written next time.
    unwritten: Option<io::Error>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    step: u64,
    split: Split,
    #[serde(flatten)]
    sample: BadSample,
}

/// The list on disk, and the count of bad files in one split, which is checked against
/// `data.max_bad_fraction`.
#[derive(Debug)]
pub(super) struct BadLog {
    path: PathBuf,
    split: Split,
    counted: BadSamples,
    /// Whether this process writes the list.
    writes: bool,
    /// Validation files that an earlier process listed. The next evaluation reads them again and
    /// counts them if they are still bad.
    listed: HashSet<String>,
    /// Rows that have not been written yet.
    pending: String,
}

impl BadLog {
    /// Cuts an earlier list back to `step` and counts the remaining files. A process that does not
    /// write leaves the list as it is.
    pub fn open(
        run: &Path,
        step: u64,
        split: Split,
        counted: BadSamples,
        writes: bool,
    ) -> Result<Self, TrainError> {
        let path = run.join(BAD_SAMPLES_FILE);
        if writes {
            cut_back(&path, step)?;
        }
        let mut log = Self { path, split, counted, writes, listed: HashSet::new(), pending: String::new() };
        // The list does not exist until a file is bad.
        let text = fs::read_to_string(&log.path).unwrap_or_default();
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
        for row in rows.filter(|row| row.split == split && row.step <= step) {
            match split {
                Split::Train => {
                    log.counted.record(&row.sample);
                }
                Split::Val => {
                    log.listed.insert(row.sample.name);
                }
            }
        }
        Ok(log)
    }

    /// Lists the bad images of all processes at `step` and warns of the new ones. If the list cannot
    /// be written, the training goes on.
    ///
    /// # Errors
    /// When there are too many bad images.
    pub fn note(
        &mut self,
        samples: Vec<BadSample>,
        step: u64,
        around: &mut Surroundings,
    ) -> Result<(), TrainError> {
        let recorded = self.record(step, samples);
        if recorded.new > 0 && self.writes {
            let (new, set): (usize, &str) = (recorded.new, self.split.into());
            around
                .logger
                .warn(&format!("step {step}: skipped {new} bad {set} image(s), see bad_samples.jsonl"));
        }
        if let Some(error) = recorded.unwritten {
            around.logger.warn(&format!("cannot write bad_samples.jsonl: {error}; it will be tried again"));
        }
        Ok(self.counted.check()?)
    }

    /// Writes the new files to the list.
    fn record(&mut self, step: u64, samples: Vec<BadSample>) -> Recorded {
        let mut new = 0;
        for sample in samples {
            if !self.counted.record(&sample) {
                continue;
            }
            new += 1;
            if self.writes && !self.listed.contains(&sample.name) {
                let row = serde_json::to_string(&Row { step, split: self.split, sample });
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
}

/// The bad images that a data error reports.
pub(super) fn bad_of(error: &DataError) -> Vec<BadSample> {
    match error {
        DataError::NoGoodImages { bad, .. }
        | DataError::BatchTooLarge { bad, .. }
        | DataError::ShareTooSmall { bad, .. } => bad.clone(),
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
        let open =
            |step, split| BadLog::open(run.path(), step, split, BadSamples::new(100, 0.02), true).unwrap();
        let mut log = open(0, Split::Train);
        assert_eq!(log.record(1, vec![sample("a"), sample("a")]).new, 1);
        assert_eq!(log.record(5, vec![sample("b"), sample("a")]).new, 1);
        let mut of_validation = open(5, Split::Val);
        assert_eq!(of_validation.record(5, vec![sample("a")]).new, 1);
        log.counted.check().unwrap();
        assert_eq!(log.record(6, vec![sample("c")]).new, 1);
        assert!(log.counted.check().is_err());
        of_validation.counted.check().unwrap();
        let mut resumed = open(5, Split::Train);
        assert_eq!(resumed.record(6, vec![sample("b")]).new, 0);
        let mut again = open(5, Split::Val);
        assert_eq!(again.record(10, vec![sample("a")]).new, 1, "it is counted again, not listed again");
        let listed = fs::read_to_string(run.path().join("bad_samples.jsonl")).unwrap();
        assert_eq!(listed.lines().count(), 3);
        assert!(listed.contains(r#"{"step":1,"split":"train","name":"a","reason":"truncated"}"#));
    }

    #[test]
    fn a_process_that_does_not_write_counts_and_leaves_the_list() {
        let run = tempfile::tempdir().unwrap();
        let open = |step, writes| {
            BadLog::open(run.path(), step, Split::Train, BadSamples::new(100, 0.02), writes).unwrap()
        };
        let mut writer = open(0, true);
        writer.record(1, vec![sample("a")]);
        writer.record(7, vec![sample("b")]);
        let listed = || fs::read_to_string(run.path().join("bad_samples.jsonl")).unwrap();
        let before = listed();
        let mut other = open(5, false);
        let known = other.record(6, vec![sample("a"), sample("b")]);
        assert_eq!(known.new, 1, "what came after the checkpoint is forgotten");
        other.record(6, vec![sample("c")]);
        assert!(other.counted.check().is_err());
        assert_eq!(listed(), before);
    }
}
