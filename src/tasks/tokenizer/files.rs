//! The list of training files that a run keeps, so that an error can name a changed file.

use std::fs;
use std::path::Path;

use super::error::CircumstancesError;
use crate::checkpoint::write_atomic;
use crate::train::TrainError;
use pixtok_images::data::{Dataset, FileList};

/// The file with the list, in the run folder.
const FILES: &str = "train-files.jsonl.zst";

/// Writes the list into the run folder.
pub(super) fn keep(run: &Path, images: &Dataset) -> Result<(), TrainError> {
    let path = run.join(FILES);
    let bytes = images
        .file_list()
        .to_bytes()
        .map_err(|source| TrainError::Write { path: path.display().to_string(), source })?;
    Ok(write_atomic(&path, &bytes)?)
}

/// What changed in the training images since the run in the folder `run` listed their files, in
/// words.
#[must_use]
pub fn changed_files(run: &Path, images: &Dataset) -> String {
    let kept = fs::read(run.join(FILES)).ok().and_then(|bytes| FileList::from_bytes(&bytes).ok());
    images.changes_since(kept.as_ref())
}

impl CircumstancesError {
    /// The same error; for changed training images, it adds [`changed_files`].
    #[must_use]
    pub fn with_changes(self, run: &Path, images: &Dataset) -> Self {
        let Self::Data { folder, what } = self else { return self };
        Self::Data { folder, what: format!("{what}: {}", changed_files(run, images)) }
    }
}
