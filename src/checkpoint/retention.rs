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
}

impl Best {
    pub(super) fn read(folder: &Path) -> Result<Option<Best>, Error> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => manifest::parse(&bytes, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }
}

/// Records `step` as best if it is; see [`super::RunWriter::offer_best`].
pub(super) fn offer_best(
    run: &RunFolder,
    step: u64,
    metric: &str,
    value: f64,
    higher_is_better: bool,
) -> Result<bool, Error> {
    let checkpoints = run.checkpoints()?;
    if !value.is_finite() || !checkpoints.contains(&step) {
        return Ok(false);
    }
    // A record of another metric, of a checkpoint that is gone, or of this very step has nothing to defend.
    let rival = run
        .best()?
        .filter(|best| best.metric == metric && best.step != step && checkpoints.contains(&best.step));
    let better =
        rival.is_none_or(|best| if higher_is_better { value > best.value } else { value < best.value });
    if better {
        let best = Best { format_version: FORMAT_VERSION, step, metric: metric.to_owned(), value };
        let path = run.path().join(FILE);
        let json = serde_json::to_vec_pretty(&best).map_err(|error| Error::SaveFailed {
            path: path.clone(),
            cause: io::Error::from(error).into(),
        })?;
        write_atomic(&path, &json)?;
    }
    Ok(better)
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
