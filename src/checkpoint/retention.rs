//! Which checkpoints stay: the newest few and the best.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic::{remove_folder, sibling, write_atomic};
use super::error::Error;
use super::manifest::{self, FORMAT_VERSION};
use super::run_folder::RunFolder;

const FILE: &str = "best.json";

/// The best checkpoint so far: the content of `best.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    format_version: u64,
    /// Its step.
    pub step: u64,
    /// The metric by which it is best, for instance `psnr_db`.
    pub metric: String,
    /// The metric there; finite.
    pub value: f64,
    /// The images that it was measured on; absent in records of versions that did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ValidationImages>,
}

/// Which images an evaluation used, independent of their location and modification times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationImages {
    /// Hash (blake3, hexadecimal) of their names and sizes; absent when it is only known that they
    /// are not the run's present images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// `eval.max_images`; 0 when all are evaluated.
    pub max_images: usize,
}

/// An evaluated step that may be the best.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its step.
    pub step: u64,
    /// The metric to rank by.
    pub metric: &'a str,
    /// The metric there.
    pub value: f64,
    /// Which way is better.
    pub higher_is_better: bool,
    /// The images that it was measured on.
    pub images: &'a ValidationImages,
}

impl Best {
    /// Whether its value can be compared with a value of `metric` on these `images`. An older
    /// record without images can; a resume decides whether that still holds.
    #[must_use]
    pub fn compares(&self, metric: &str, images: &ValidationImages) -> bool {
        let same = |own: &ValidationImages| own.blake3.is_some() && own == images;
        self.metric == metric && self.images.as_ref().is_none_or(same)
    }

    /// Writes it as the run's best.
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
    // A record does not compete if its metric or images differ, its checkpoint is gone, or it is of
    // this same step.
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

/// Deletes all checkpoints but the newest `keep_last` and the best.
pub(super) fn retain(run: &RunFolder, keep_last: usize) -> Result<(), Error> {
    let best = run.best()?.map(|best| best.step);
    let newest_first = run.checkpoints()?.into_iter().rev();
    for step in newest_first.skip(keep_last.max(1)).filter(|&step| Some(step) != best) {
        let path = run.checkpoint_path(step);
        // Under its own name a checkpoint is whole or absent, also while it is being deleted.
        let doomed = sibling(&path, "tmp");
        remove_folder(&doomed)
            .and_then(|()| fs::rename(&path, &doomed))
            .and_then(|()| remove_folder(&doomed))
            .map_err(|source| Error::Io { action: "delete", path, source })?;
    }
    Ok(())
}
