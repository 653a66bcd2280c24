//! How the images of an input changed since a job started with them.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::skipped::read_skipped;
use super::{ExportError, Subset};
use pixtok_images::data::{SampleSet, digest};
use pixtok_tokens::{SideFiles, TokenSet};

/// The key of a job's description that holds the number of samples in the whole input. It is only
/// for messages: the hash decides whether the list is the same.
pub(super) const SAMPLES: &str = "samples";
/// The number of new keys that a message names.
const SHOWN: usize = 3;

/// How the list of images changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListChange {
    /// For a finished set, whose keys can be compared.
    Known { before: u64, now: u64, gone: u64, new: u64, examples: Vec<String> },
    /// For a part, or one of two sets, in which nothing changed.
    Elsewhere { images: u64 },
    /// For an unfinished set: the number of images before, unless an older version started it, and
    /// now.
    Counted { before: Option<u64>, now: u64 },
}

impl ListChange {
    /// The change between the job in `folder`, which counted `samples`, and `images`, of which it
    /// takes `subset`. Needs about 40 bytes of memory per key.
    ///
    /// # Errors
    /// When the set or the input cannot be read.
    pub fn of(
        folder: &Path,
        samples: &Value,
        images: &SampleSet,
        subset: Subset,
    ) -> Result<Self, ExportError> {
        let (mut now, mut new, mut examples) = (0, 0, vec![]);
        let Some(mut earlier) = keys_in(folder)? else {
            images.keys(&mut |_, _| now += 1)?;
            return Ok(Self::Counted { before: samples.as_u64(), now });
        };
        let before = earlier.len() as u64;
        images.keys(&mut |_, key| {
            if !subset.takes(key) {
                return;
            }
            now += 1;
            if !earlier.remove(&digest(key)) {
                new += 1;
                if examples.len() < SHOWN {
                    examples.push(key.to_owned());
                }
            }
        })?;
        let gone = earlier.len() as u64;
        if !subset.is_whole() && new == 0 && gone == 0 {
            return Ok(Self::Elsewhere { images: now });
        }
        Ok(Self::Known { before, now, gone, new, examples })
    }

    /// Describes the change, and says what to do.
    pub fn words(&self) -> (String, &'static str) {
        let restore = "choose another --out, or restore the list to go on with that one";
        match self {
            Self::Known { before, new: 0, gone: 0, .. } => (
                format!(
                    "its {before} images have the same names, but the list, the archives or what lies beside the images (captions, \
                     labels, metadata) changed"
                ),
                restore,
            ),
            Self::Known { before, now, gone, new, examples } => {
                let more = if *new > examples.len() as u64 { ", …" } else { "" };
                let named =
                    if *new == 0 { String::new() } else { format!(" ({}{more})", examples.join(", ")) };
                let words = format!(
                    "the list of images changed: {new} new{named} and {gone} gone, {before} images before and {now} now"
                );
                let remedy = if *new > 0 && *gone == 0 {
                    "choose another --out; a set of the new images alone, with the same classes, can be joined with this one by `pixtok \
                     merge`"
                } else {
                    restore
                };
                (words, remedy)
            }
            Self::Elsewhere { images } => (
                format!(
                    "the list of images changed, not in the {images} images of this part, but in other parts or sets or beside them"
                ),
                restore,
            ),
            Self::Counted { before: Some(before), now } if before == now => (
                format!(
                    "the list of images changed: {now} before and now, but the names or the captions, labels and metadata differ"
                ),
                restore,
            ),
            Self::Counted { before: Some(before), now } => {
                (format!("the list of images changed: {before} images before and {now} now"), restore)
            }
            Self::Counted { before: None, now } => {
                (format!("the list of images changed, and has {now} images now"), restore)
            }
        }
    }
}

/// The digests of the keys of all images in the set in `folder`, including skipped ones, if the set
/// is finished.
fn keys_in(folder: &Path) -> Result<Option<HashSet<u128>>, ExportError> {
    if SideFiles::of_finished(folder).is_none() {
        return Ok(None);
    }
    let mut keys: HashSet<u128> = read_skipped(folder)?.iter().map(|sample| digest(&sample.key)).collect();
    for set in TokenSet::find(folder)? {
        // Views of one image follow each other; the image itself comes first.
        for row in set.rows().step_by(set.sidecar.views as usize) {
            keys.insert(digest(&row?.key));
        }
    }
    Ok(Some(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_how_many() {
        let known = |before, now, gone, new, examples: &[&str]| ListChange::Known {
            before,
            now,
            gone,
            new,
            examples: examples.iter().map(|key| (*key).to_owned()).collect(),
        };
        let counted = |before, now| ListChange::Counted { before, now };
        for (change, parts) in [
            (
                known(5, 9, 0, 4, &["a", "b", "c"]),
                ["4 new (a, b, c, …) and 0 gone, 5 images before and 9 now", "merge"],
            ),
            (known(5, 5, 1, 1, &["a"]), ["1 new (a) and 1 gone", "restore"]),
            (known(5, 3, 2, 0, &[]), ["0 new and 2 gone", "restore"]),
            (known(5, 5, 0, 0, &[]), ["its 5 images have the same names", "restore"]),
            (ListChange::Elsewhere { images: 5 }, ["not in the 5 images of this part", "restore"]),
            (counted(Some(5), 9), ["list of images changed: 5 images before and 9 now", "restore"]),
            (counted(Some(5), 5), ["list of images changed: 5 before and now", "restore"]),
            (counted(None, 5), ["list of images changed, and has 5 images now", "restore"]),
        ] {
            let (words, remedy) = change.words();
            assert!(words.contains(parts[0]) && remedy.contains(parts[1]), "{words}; {remedy}");
        }
    }
}
