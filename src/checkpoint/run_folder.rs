//! Reading a run folder, during or after its training.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::kept;
use super::retention::{self, Best, Candidate};
use super::snapshot::{self, Loaded, SavedModel, Snapshot};
use super::which::{Which, step_name, step_of_name};
use pixtok_base::paths::absence;

/// A run folder for reading; [`super::RunWriter`] writes it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// The checkpoint from which a run resumes. Nothing on disk has changed yet.
#[derive(Debug, Default)]
pub struct Resumed {
    /// The newest whole checkpoint, if there is a whole one.
    pub loaded: Option<Loaded>,
    /// The newer checkpoints. All of them are damaged.
    pub damaged: Vec<DamagedCheckpoint>,
}

/// A checkpoint that differs from what was saved.
#[derive(Debug)]
pub struct DamagedCheckpoint {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// How the damage shows.
    pub reason: String,
}

impl RunFolder {
    /// Opens the run folder at `path`, which need not have a checkpoint yet.
    ///
    /// # Errors
    /// [`Error::NotARun`] if there is no folder.
    pub fn open(path: &Path) -> Result<RunFolder, Error> {
        if path.is_dir() {
            return Ok(RunFolder { path: path.to_owned() });
        }
        let reason = if path.exists() { "it is a file".to_owned() } else { format!("it {}", absence(path)) };
        Err(Error::NotARun { folder: path.to_owned(), reason })
    }

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The steps that have a checkpoint, whole or damaged, in ascending order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn checkpoints(&self) -> Result<Vec<u64>, Error> {
        let failed = |source| Error::Io { action: "list", path: self.path.clone(), source };
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let step = entry.file_name().to_str().and_then(step_of_name);
            steps.extend(step.filter(|_| entry.path().is_dir()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// The step that `which` stands for in this run. Loading it shows whether its checkpoint is
    /// whole.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`], which lists the existing ones; those of [`RunFolder::best`].
    pub fn select(&self, which: Which) -> Result<u64, Error> {
        let steps = self.checkpoints()?;
        let wanted = match which {
            Which::Last => steps.last().copied(),
            Which::Best => self.best()?.map(|best| best.step),
            Which::Step(step) => Some(step),
        };
        wanted.filter(|step| steps.contains(step)).ok_or_else(|| {
            let names: Vec<String> = steps.iter().map(|&step| step_name(step)).collect();
            Error::NoCheckpoint {
                folder: self.path.clone(),
                wanted: which.to_string(),
                present: if names.is_empty() { "none yet".to_owned() } else { names.join(", ") },
            }
        })
    }

    /// Reads the checkpoint of `step` and verifies it against its manifest.
    ///
    /// # Errors
    /// [`Error::Damaged`], which says how it differs from what was saved; [`Error::UnknownFormat`],
    /// [`Error::Io`]; [`Error::Gone`] if it was deleted meanwhile.
    pub fn load(&self, step: u64) -> Result<Loaded, Error> {
        let path = self.checkpoint_path(step);
        let snapshot = Snapshot::read_files(&path, step).map_err(|error| unless_gone(error, &path))?;
        Ok(Loaded { step, snapshot })
    }

    /// Reads and verifies only the raw or averaged weights of the checkpoint of `step`. The rest of
    /// a checkpoint is several times as large, and only a training needs it.
    ///
    /// # Errors
    /// Those of [`RunFolder::load`]; [`Error::NoAverage`].
    pub fn load_model(&self, step: u64, averaged: bool) -> Result<SavedModel, Error> {
        let path = self.checkpoint_path(step);
        SavedModel::read(&path, step, averaged).map_err(|error| unless_gone(error, &path))
    }

    /// What the checkpoint of `step` states about its weights, without reading them: the hash of
    /// the raw ones as `model.safetensors`, and whether it has an average.
    ///
    /// # Errors
    /// Those of [`RunFolder::load`].
    pub fn stated_weights(&self, step: u64) -> Result<(Option<String>, bool), Error> {
        let path = self.checkpoint_path(step);
        snapshot::stated_weights(&path, step).map_err(|error| unless_gone(error, &path))
    }

    /// Marks the checkpoint of `step` as the one that made the tokens in the folder `tokens`, so
    /// that training does not delete it. A training that goes on meanwhile has either deleted the
    /// checkpoint before, or keeps it.
    ///
    /// # Errors
    /// [`Error::Gone`] if there is no such checkpoint any more; [`Error::SaveFailed`] if nothing
    /// can be written into it.
    pub fn keep(&self, step: u64, tokens: &Path) -> Result<(), Error> {
        let path = self.checkpoint_path(step);
        kept::keep(&path, tokens).map_err(|error| unless_gone(error, &path))
    }

    /// Loads the newest checkpoint that is whole and has finite weights, and lists the newer ones.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] and [`Error::Io`]. These do not mean damage, so no older checkpoint
    /// is used instead.
    pub fn newest_whole(&self) -> Result<Resumed, Error> {
        let mut damaged = Vec::new();
        for step in self.checkpoints()?.into_iter().rev() {
            let loaded = self.load(step).and_then(|loaded| match loaded.snapshot.not_finite() {
                None => Ok(loaded),
                Some(name) => Err(Error::Damaged {
                    path: self.checkpoint_path(step),
                    reason: format!("it holds numbers that are not finite ({name})"),
                }),
            });
            match loaded {
                Ok(loaded) => return Ok(Resumed { loaded: Some(loaded), damaged }),
                Err(Error::Damaged { path: part, reason }) => {
                    let path = self.checkpoint_path(step);
                    // The error may concern one file of the checkpoint.
                    let file = part.strip_prefix(&path).unwrap_or(Path::new("")).display().to_string();
                    let reason = if file.is_empty() { reason } else { format!("{file}: {reason}") };
                    damaged.push(DamagedCheckpoint { step, path, reason });
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Resumed { loaded: None, damaged })
    }

    /// The state of the newest checkpoint whose state can be read, without its tensors; `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`], [`Error::Io`].
    pub fn newest_state(&self) -> Result<Option<serde_json::Value>, Error> {
        for step in self.checkpoints()?.into_iter().rev() {
            match Snapshot::read_state(&self.checkpoint_path(step), step) {
                Err(Error::Damaged { .. }) => {}
                other => return other.map(Some),
            }
        }
        Ok(None)
    }

    /// The recorded best checkpoint, if there is a record.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::UnknownFormat`], [`Error::Io`].
    pub fn best(&self) -> Result<Option<Best>, Error> {
        Best::read(&self.path)
    }

    /// Whether the candidate is better than the recorded best. A value that is not finite never is.
    /// A record of another metric, of other images or of a missing checkpoint always loses.
    ///
    /// # Errors
    /// Those of [`RunFolder::best`].
    pub fn is_best(&self, candidate: Candidate) -> Result<bool, Error> {
        retention::is_best(self, candidate)
    }

    /// The folder of the checkpoint of `step`.
    #[must_use]
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join(step_name(step))
    }
}

/// The error of an access to a checkpoint, or that there is no such checkpoint any more.
fn unless_gone(error: Error, path: &Path) -> Error {
    if path.exists() { error } else { Error::Gone { path: path.to_owned() } }
}
