//! Which images of an input an export takes: those of a part of a divided job, and those of one of
//! the two sets of `--val-share`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Part;
use super::feed::MIRRORED;
use pixtok_images::data::digest;
use pixtok_tokens::{Division, SPLITS, StatedSplit};

/// One of the two sets into which a share for validation divides an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExportSplit {
    /// Whether it is the set for validation.
    pub val: bool,
    /// The share of the images in the set for validation, above 0 and below 1.
    pub share: f64,
}

impl ExportSplit {
    /// Both sets, first the one for training.
    #[must_use]
    pub fn both(share: f64) -> [Self; 2] {
        [false, true].map(|val| Self { val, share })
    }

    /// The name of the set and of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        SPLITS[usize::from(self.val)]
    }

    /// Whether a sample with this key belongs to the set. An image and its mirror image belong to
    /// the same.
    #[must_use]
    pub fn takes(self, key: &str) -> bool {
        // The salt makes this hash independent of the hash of parts. No key has a NUL byte.
        let hash = digest(&format!("val-share\0{}", key.trim_end_matches(MIRRORED)));
        let uniform = (hash >> (128 - f64::MANTISSA_DIGITS)) as f64 / 2f64.powi(f64::MANTISSA_DIGITS as i32);
        (uniform < self.share) == self.val
    }

    /// What a sidecar states.
    pub(super) fn stated(self) -> StatedSplit {
        StatedSplit { name: self.name().to_owned(), val_share: self.share }
    }
}

/// A part of an input, of all its images or of one of two sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subset {
    /// The part.
    pub part: Part,
    /// How parts are divided. In a division by files, the input itself has only the part's files.
    pub division: Division,
    /// The set; absent: all images.
    pub split: Option<ExportSplit>,
}

impl Subset {
    /// Whether a sample with this key belongs to it.
    #[must_use]
    pub fn takes(self, key: &str) -> bool {
        let in_part = self.division == Division::Files || self.part.takes(key);
        in_part && self.split.is_none_or(|split| split.takes(key))
    }

    /// Whether it is the whole input.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.part.count == 1 && self.split.is_none()
    }

    /// Its folder in the output `out`.
    #[must_use]
    pub fn folder(self, out: &Path) -> PathBuf {
        let set = self.split.map_or_else(|| out.to_owned(), |split| out.join(split.name()));
        self.part.folder().map_or(set.clone(), |part| set.join(part))
    }

    /// The one that a source states.
    pub(super) fn of(part: Option<&str>, division: Division, split: Option<&StatedSplit>) -> Self {
        let part = part.and_then(|part| part.parse().ok()).unwrap_or(Part::ALL);
        let split =
            split.map(|stated| ExportSplit { val: stated.name == SPLITS[1], share: stated.val_share });
        Self { part, division, split }
    }

    /// The one that the description of a job states.
    pub(super) fn of_job(job: &Value) -> Self {
        let source = &job["set"]["source"];
        let split = serde_json::from_value(source["split"].clone()).ok();
        // By keys, where the job states none.
        let division = serde_json::from_value(source["division"].clone()).unwrap_or_default();
        Self::of(source["part"].as_str(), division, split.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export::feed::mirrored;

    #[test]
    fn every_key_is_in_one_set_with_its_mirror_image() {
        let [train, val] = ExportSplit::both(0.125);
        let mut in_val = 0;
        for key in (0..4000).map(|i| format!("folder/{i}")) {
            assert_ne!(train.takes(&key), val.takes(&key), "{key}");
            assert_eq!(val.takes(&key), val.takes(&mirrored(&key)), "{key}");
            in_val += u32::from(val.takes(&key));
        }
        assert!((420..580).contains(&in_val), "{in_val} of 4000");
        let none = ExportSplit { val: true, share: 1e-9 };
        assert!((0..4000).all(|i| !none.takes(&i.to_string())));
    }

    /// With one hash for both, a part would hold the whole of one set and nothing of the other.
    #[test]
    fn parts_divide_each_set() {
        let [_, val] = ExportSplit::both(0.25);
        let counts = [0, 1, 2, 3].map(|index| {
            let division = Division::Keys;
            let subset = Subset { part: Part { index, count: 4 }, division, split: Some(val) };
            (0..4000).filter(|i| subset.takes(&i.to_string())).count()
        });
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
    }

    /// The input has only the files of the part, and all of their images belong to it.
    #[test]
    fn a_part_by_files_takes_every_key() {
        let [_, val] = ExportSplit::both(0.25);
        let part = Part { index: 1, count: 4 };
        let subset = |split| Subset { part, division: Division::Files, split };
        for key in (0..100).map(|i| i.to_string()) {
            assert!(subset(None).takes(&key));
            assert_eq!(subset(Some(val)).takes(&key), val.takes(&key), "{key}");
        }
    }

    #[test]
    fn folders_and_jobs_name_set_and_part() {
        let [train, val] = ExportSplit::both(0.01);
        let subset = |index, count, division, split| Subset { part: Part { index, count }, division, split };
        for (subset, folder) in [
            (subset(0, 1, Division::Keys, None), "out"),
            (subset(0, 1, Division::Keys, Some(train)), "out/train"),
            (subset(1, 3, Division::Keys, Some(val)), "out/val/part-00001-of-00003"),
            (subset(1, 3, Division::Files, None), "out/part-00001-of-00003"),
        ] {
            assert_eq!(subset.folder(Path::new("out")), Path::new(folder));
            let mut source = json!({ "split": subset.split.map(ExportSplit::stated) });
            if subset.division == Division::Files {
                source["division"] = "files".into();
            }
            if subset.part.count > 1 {
                source["part"] = subset.part.to_string().into();
            }
            assert_eq!(Subset::of_job(&json!({ "set": { "source": source } })), subset);
        }
    }
}
