//! Checks in advance that no two images of a job have the same key.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::feed::mirrored;
use super::{ExportError, Subset};
use pixtok_images::data::{SampleSet, digest};

/// Checks the keys of `subset`. With `flip`, each image is followed by its mirror image, whose key
/// is checked too. Takes about 40 bytes of memory per key while it runs. Returns the number of
/// samples in `set`, whether or not they are in the subset.
///
/// # Errors
/// [`ExportError::KeysClash`] when two samples have the same key. Also when the input cannot be
/// read to its end.
pub fn check_keys(set: &SampleSet, subset: Subset, flip: bool) -> Result<u64, ExportError> {
    let (mut samples, mut clash) = (0, None);
    let mut taken: HashMap<u128, usize> = HashMap::new();
    let mut files: Vec<PathBuf> = vec![];
    set.keys(&mut |file: &Path, key: &str| {
        samples += 1;
        if clash.is_some() || !subset.takes(key) {
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
            // A prefix does not help within one tar, or between tars with the same name.
            let apart = set.kind() == "webdataset" && first.file_stem() != second.file_stem();
            let remedy = if apart {
                "give --key-prefix shard, which puts the name of its tar before each key"
            } else {
                "rename one of them, or export them separately"
            };
            Err(ExportError::KeysClash { key, first, second, remedy })
        }
        None => Ok(samples),
    }
}
