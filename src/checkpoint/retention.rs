//! Which checkpoints are kept: the newest few, the best, and those that made tokens.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic::{remove_folder, sibling, write_atomic};
use super::error::Error;
use super::kept;
use super::manifest::{self, FORMAT_VERSION};
use super::run_folder::RunFolder;

const FILE: &str = "best.json";

/// The best checkpoint so far, as stored in `best.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    format_version: u64,
    /// The step of the checkpoint.
    pub step: u64,
    /// The metric that ranks the checkpoints, for instance `psnr_db`.
    pub metric: String,
    /// The value of the metric; finite.
    pub value: f64,
    /// The images on which it was measured. Absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ValidationImages>,
}

/// The images of an evaluation, independent of their location and modification times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationImages {
    /// Hash (blake3, hexadecimal) of their names and sizes. Absent if it is only known that they
    /// differ from the run's present images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// The value of `eval.max_images`; 0 if all images are evaluated.
    pub max_images: usize,
}

/// An evaluated step that may become the best.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The step.
    pub step: u64,
    /// The metric that ranks the checkpoints.
    pub metric: &'a str,
    /// The value of the metric.
    pub value: f64,
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// The images on which it was measured.
    pub images: &'a ValidationImages,
}

impl Best {
    /// Whether the record can be compared with a value of `metric` on these `images`. An older
    /// record without images can; a resume decides whether that still holds.
    #[must_use]
    pub fn compares(&self, metric: &str, images: &ValidationImages) -> bool {
        let same = |own: &ValidationImages| own.blake3.is_some() && own == images;
        self.metric == metric && self.images.as_ref().is_none_or(same)
    }

    /// Writes the record to `best.json`.
    fn write(&self, run: &RunFolder) -> Result<(), Error> {
        let path = run.path().join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|error| Error::SaveFailed {
            path: path.clone(),
            cause: io::Error::from(error).into(),
        })?;
        write_atomic(&path, &json)
    }

    pub(super) fn read(folder: &Path) -> Result<Option<Best>, Error> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => manifest::parse(&bytes, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }
}

/// See [`RunFolder::is_best`].
pub(super) fn is_best(run: &RunFolder, candidate: Candidate) -> Result<bool, Error> {
    let Candidate { step, metric, value, higher_is_better, images } = candidate;
    if !value.is_finite() {
        return Ok(false);
    }
    // A record does not compete if its metric or images differ, if its checkpoint no longer exists,
    // or if it is of the same step.
    let rival = run.best()?.filter(|best| {
        best.compares(metric, images) && best.step != step && run.checkpoint_path(best.step).is_dir()
    });
    Ok(rival.is_none_or(|best| if higher_is_better { value > best.value } else { value < best.value }))
}

/// Records the candidate as best if it is; see [`super::RunWriter::offer_best`].
pub(super) fn offer_best(run: &RunFolder, candidate: Candidate) -> Result<bool, Error> {
    let better = run.checkpoint_path(candidate.step).is_dir() && is_best(run, candidate)?;
    if better {
        let Candidate { step, metric, value, images, .. } = candidate;
        let (metric, images) = (metric.to_owned(), Some(images.clone()));
        Best { format_version: FORMAT_VERSION, step, metric, value, images }.write(run)?;
    }
    Ok(better)
}

/// See [`super::RunWriter::note_images_of_best`].
pub(super) fn note_images_of_best(run: &RunFolder, images: ValidationImages) -> Result<(), Error> {
    match run.best()? {
        Some(best) if best.images.is_none() => Best { images: Some(images), ..best }.write(run),
        _ => Ok(()),
    }
}

/// Deletes all checkpoints except the newest `keep_last`, the best, and those that are marked.
pub(super) fn retain(run: &RunFolder, keep_last: usize) -> Result<(), Error> {
    let best = run.best()?.map(|best| best.step);
    let newest_first = run.checkpoints()?.into_iter().rev();
    for step in newest_first.skip(keep_last.max(1)).filter(|&step| Some(step) != best) {
        let path = run.checkpoint_path(step);
        if !kept::is_kept(&path) {
            delete(&path).map_err(|source| Error::Io { action: "delete", path, source })?;
        }
    }
    Ok(())
}

/// Deletes the checkpoint at `path`, unless an encode marks it before it has lost its name. A
/// checkpoint is whole or absent under its own name, even while it is being deleted.
fn delete(path: &Path) -> io::Result<()> {
    let (aside, doomed) = (sibling(path, "old"), sibling(path, "tmp"));
    remove_folder(&aside)?;
    remove_folder(&doomed)?;
    // Whoever writes a mark from here on finds no checkpoint. One that was written since the caller
    // looked is in the folder.
    fs::rename(path, &aside)?;
    if kept::is_kept(&aside) {
        return fs::rename(&aside, path);
    }
    fs::rename(&aside, &doomed)?;
    remove_folder(&doomed)
}
