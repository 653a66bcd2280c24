//! Whether each key of a job is one image's, found out before the work.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::feed::mirrored;
use super::{ExportError, Part};
use crate::data::{SampleSet, digest};

/// What a look at all keys of an input shows.
#[derive(Debug)]
pub struct Keys {
    /// Samples of the input, those of other parts included.
    pub samples: u64,
    /// What is passed over in the input, a sentence each.
    pub notes: Vec<String>,
}

impl Keys {
    /// Looks at the keys of `part`, and where each image is followed by its mirror image at the
    /// keys of those. In memory are some 40 bytes for each while it looks.
    ///
    /// # Errors
    /// [`ExportError::KeysClash`] where two samples have one key; when the input cannot be read to
    /// its end.
    pub fn check(set: &SampleSet, part: Part, flip: bool) -> Result<Keys, ExportError> {
        let (mut samples, mut clash) = (0, None);
        let mut taken: HashMap<u128, usize> = HashMap::new();
        let mut files: Vec<PathBuf> = vec![];
        let notes = set.keys(&mut |file: &Path, key: &str| {
            samples += 1;
            if clash.is_some() || !part.takes(key) {
                return;
            }
            if files.last().is_none_or(|last| last != file) {
                files.push(file.to_owned());
            }
            for name in [Some(key.to_owned()), flip.then(|| mirrored(key))].into_iter().flatten() {
                if let Some(earlier) = taken.insert(digest(&name), files.len() - 1) {
                    clash.get_or_insert((name, files[earlier].clone(), file.to_owned()));
                }
            }
        })?;
        match clash {
            Some((key, first, second)) => {
                // Within a tar, or of tars that are named alike, a prefix changes nothing.
                let apart = set.kind() == "webdataset" && first.file_stem() != second.file_stem();
                let remedy = if apart {
                    "give --key-prefix shard, which puts the name of its tar before each key"
                } else {
                    "rename one of them, or export them apart"
                };
                Err(ExportError::KeysClash { key, first, second, remedy })
            }
            None => Ok(Keys { samples, notes }),
        }
    }
}
