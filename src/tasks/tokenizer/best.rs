//! Whether the best checkpoint's figure was measured on the current validation images.

use std::fs;

use serde_json::Value;

use super::State;
use crate::checkpoint::{Error, RunFolder, ValidationImages};
use crate::evaluate;
use crate::logger::METRICS_FILE;
use crate::train::{Surroundings, TrainError};
use pixtok_images::data::{self, Difference, Fingerprint};

/// A key in a log row; its value is always 1. From this step on, the figures under `val/` are
/// measured on different images.
pub const IMAGES_CHANGED: &str = "val/images_changed";

/// The settings of a run's evaluations.
#[derive(Debug, Clone)]
pub struct Validation {
    /// Settings of the images.
    pub data: data::Config,
    /// Settings of the evaluations.
    pub eval: evaluate::Config,
    /// The number of validation images.
    pub total: usize,
}

/// The report that a resumed run evaluates on different images than before.
#[derive(Debug)]
pub struct OtherImages {
    /// The message for the user.
    pub words: String,
    /// Whether they also differ from the images of the checkpoint that the run resumes from.
    changed: bool,
    /// Images to add to the record of the best checkpoint, if it has none.
    of_best: Option<ValidationImages>,
}

impl Validation {
    /// The images of an evaluation, in the form of the record of the best checkpoint.
    pub(super) fn images(&self, fingerprint: &Fingerprint) -> ValidationImages {
        let max_images = self.eval.bound().filter(|&max| max < self.total).unwrap_or(0);
        ValidationImages { blake3: Some(fingerprint.of_images()), max_images }
    }

    /// Reports whether the run in `folder` evaluated on different images before. The run resumes
    /// from the checkpoint `saved` with these settings and with images of this `fingerprint`;
    /// `data` and `eval` are its earlier settings.
    ///
    /// # Errors
    /// When the record of the best checkpoint cannot be read.
    pub fn differs(
        &self,
        folder: &RunFolder,
        (data, eval): (&data::Config, &evaluate::Config),
        saved: &State,
        fingerprint: &Fingerprint,
    ) -> Result<Option<OtherImages>, Error> {
        let moved = self.data.val != data.val || self.data.val_split != data.val_split;
        let of_set = match fingerprint.difference(&saved.circumstances.val_data) {
            Some(Difference::Unknown) if moved => Some("data.val changed"),
            difference => difference.and_then(Difference::change),
        };
        let of_bound = self.eval.images_of(self.total) != eval.images_of(self.total);
        let changed = of_set.is_some() || of_bound;
        let now = self.images(fingerprint);
        let best = folder.best()?;
        let lost = best.as_ref().filter(|best| match &best.images {
            Some(_) => !best.compares(&best.metric, &now),
            None => changed,
        });
        if !changed && lost.is_none() {
            return Ok(None);
        }
        let bound = format!("eval.max_images: {} -> {}", eval.max_images, self.eval.max_images);
        let what: Vec<&str> = of_set.into_iter().chain(of_bound.then_some(&*bound)).collect();
        let what = if what.is_empty() { String::new() } else { format!(" ({})", what.join("; ")) };
        let lost_words = lost.map(|best| {
            format!(
                "the best so far, {} {:.4} at step {}, {}no longer counts, and its checkpoint stays until a \
                 new best is saved",
                best.metric,
                best.value,
                best.step,
                if changed { "" } else { "was measured on other validation images; it " }
            )
        });
        let changed_words = changed.then(|| {
            format!(
                "the validation images are not those that the run evaluated before{what}, so its earlier figures \
                 are of other images"
            )
        });
        let max_images = eval.bound().unwrap_or(0);
        let of_best = lost.filter(|best| best.images.is_none());
        Ok(Some(OtherImages {
            words: changed_words.into_iter().chain(lost_words).collect::<Vec<_>>().join("; "),
            changed,
            of_best: of_best.map(|_| ValidationImages { blake3: None, max_images }),
        }))
    }
}

impl OtherImages {
    /// Reports it: on the terminal, and once in the logs.
    pub(super) fn note(self, around: &mut Surroundings) -> Result<(), TrainError> {
        let step = around.step;
        around.logger.note(&self.words);
        if let Some(images) = self.of_best
            && around.world.writes()
        {
            around.run.note_images_of_best(images)?;
        }
        // A run that stopped before its next evaluation prints the note again.
        if self.changed && !logged(around.run.folder(), step) {
            let row = around.logger.log(step, &[(IMAGES_CHANGED.to_owned(), 1.0)]);
            around.warn_of(row);
            let text = around.logger.text(step, "validation images", &self.words);
            around.warn_of(text);
        }
        Ok(())
    }
}

/// Whether the log has the row of `step`.
fn logged(run: &RunFolder, step: u64) -> bool {
    let text = fs::read_to_string(run.path().join(METRICS_FILE)).unwrap_or_default();
    let rows = text.lines().filter(|line| line.contains(IMAGES_CHANGED));
    let step_of = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64();
    rows.filter_map(step_of).any(|of| of == step)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::RunWriter;

    fn print(names: &str, times: &str) -> Fingerprint {
        serde_json::from_value(json!({ "names": names, "sizes": "s", "times": times })).unwrap()
    }

    /// A state that was validated on the images called `names`.
    fn state(names: &str) -> State {
        let machine = json!({ "device": "cpu", "model": "EPYC", "libtorch": "2", "pixtok": "1" });
        let set = json!({ "names": names, "sizes": "s", "times": "t" });
        let circumstances =
            json!({ "config": "c", "threads": 1, "machine": machine, "data": set, "val_data": set });
        State::new(serde_json::from_value(circumstances).unwrap())
    }

    fn validation(val: &str, max_images: usize) -> Validation {
        let data = data::Config { val: Some(val.to_owned()), ..data::Config::default() };
        Validation { data, eval: evaluate::Config { max_images, ..evaluate::Config::default() }, total: 5 }
    }

    /// The message for a run that evaluated on the images "a" in the folder `val`, with this record
    /// of its best checkpoint.
    fn said(record: &str, now: &Validation, fingerprint: &Fingerprint) -> Option<OtherImages> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("best.json"), record).unwrap();
        let then = validation("val", 0);
        let run = RunFolder::open(folder.path()).unwrap();
        now.differs(&run, (&then.data, &then.eval), &state("a"), fingerprint).unwrap()
    }

    fn record(images: &str) -> String {
        format!("{{\"format_version\":1,\"step\":8,\"metric\":\"psnr_db\",\"value\":21.5{images}}}")
    }

    #[test]
    fn a_best_counts_while_its_images_are_the_same() {
        let of_a = print("a", "t").of_images();
        let held = record(&format!(",\"images\":{{\"blake3\":\"{of_a}\",\"max_images\":0}}"));
        for record in [held, record("")] {
            assert!(said(&record, &validation("val", 0), &print("a", "t")).is_none());
            assert!(said(&record, &validation("moved", 0), &print("a", "later")).is_none(), "moved");
            assert!(said(&record, &validation("val", 9), &print("a", "t")).is_none(), "all five either way");
            for (now, print, part) in [
                (validation("other", 0), print("b", "t"), "(their list changed)"),
                (validation("val", 2), print("a", "t"), "(eval.max_images: 0 -> 2)"),
            ] {
                let words = said(&record, &now, &print).unwrap().words;
                assert!(words.contains(part) && words.contains("psnr_db 21.5000 at step 8"), "{words}");
            }
        }
    }

    #[test]
    fn what_an_older_record_does_not_say_is_written_down() {
        let other = said(&record(""), &validation("val", 2), &print("a", "t")).unwrap();
        assert_eq!(other.of_best, Some(ValidationImages { blake3: None, max_images: 0 }));
        let held = record(",\"images\":{\"max_images\":0}");
        let again = said(&held, &validation("val", 0), &print("a", "t")).unwrap();
        assert!(again.of_best.is_none() && again.words.contains("no longer counts"), "{}", again.words);
        let folder = tempfile::tempdir().unwrap();
        let run = RunWriter::create(folder.path()).unwrap();
        fs::write(folder.path().join(METRICS_FILE), "{\"step\":8,\"val/images_changed\":1.0}\n").unwrap();
        assert!(logged(run.folder(), 8) && !logged(run.folder(), 9));
    }
}
