//! Writing a run folder: one process at a time, and only whole checkpoints.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::atomic::{clean_leftovers, remove_folder, replace_folder, sibling};
use super::error::{Error, SaveCause};
use super::kept;
use super::lock::Lock;
use super::retention::{self, Candidate, ValidationImages};
use super::run_folder::{DamagedCheckpoint, RunFolder};
use super::snapshot::Snapshot;
use super::which::step_name;
use pixtok_base::paths::{make_folder, mark_output};

/// A run folder that this process has locked, or that process 0 of several has.
#[derive(Debug)]
pub struct RunWriter {
    folder: RunFolder,
    /// None in a process that leaves all writing to process 0.
    _lock: Option<Lock>,
}

impl RunWriter {
    /// Creates a run folder at `path`, or takes a folder there that holds no run. On return it is
    /// known to be writable.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::InUse`], [`Error::Exists`], [`Error::Remains`].
    pub fn create(path: &Path) -> Result<RunWriter, Error> {
        let failed = |source| Error::NotWritable { folder: path.to_owned(), source };
        make_folder(path).map_err(failed)?;
        let run = RunWriter::lock(path)?;
        if path.join("config.toml").exists() {
            return Err(Error::Exists { folder: path.to_owned() });
        }
        if path.join("metrics.jsonl").exists() || !run.folder.checkpoints()?.is_empty() {
            return Err(Error::Remains { folder: path.to_owned() });
        }
        mark_output(path).map_err(failed)?;
        Ok(run)
    }

    /// Takes an existing run folder and removes what a killed trainer left half written.
    ///
    /// # Errors
    /// [`Error::NotARun`], [`Error::NotWritable`], [`Error::InUse`], [`Error::Damaged`] for a bad
    /// `best.json`.
    pub fn resume(path: &Path) -> Result<RunWriter, Error> {
        RunFolder::open(path)?;
        let run = RunWriter::lock(path)?;
        clean_leftovers(path).map_err(|source| Error::Io {
            action: "tidy",
            path: path.to_owned(),
            source,
        })?;
        run.folder.best()?;
        Ok(run)
    }

    /// The folder as seen by a process that leaves all writing to process 0, which has created or
    /// locked it.
    ///
    /// # Errors
    /// [`Error::NotARun`].
    pub fn beside(path: &Path) -> Result<RunWriter, Error> {
        Ok(RunWriter { folder: RunFolder::open(path)?, _lock: None })
    }

    fn lock(path: &Path) -> Result<RunWriter, Error> {
        let lock = Lock::take(path)?;
        // An existing lock file may open although no new file can be created. So this is tried too.
        let probe = sibling(&path.join("probe"), "tmp");
        let written = fs::write(&probe, b"probe");
        let removed = fs::remove_file(&probe);
        written.and(removed).map_err(|source| Error::NotWritable { folder: path.to_owned(), source })?;
        Ok(RunWriter { folder: RunFolder::open(path)?, _lock: Some(lock) })
    }

    /// The folder, for reading.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Renames a damaged checkpoint to `damaged-step-N`, so that the run can save this step again
    /// and the checkpoint does not count as a kept one. Returns its new path.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_aside(&self, damaged: &DamagedCheckpoint) -> Result<PathBuf, Error> {
        let name = format!("damaged-{}", step_name(damaged.step));
        let names = (2..).map(|count| format!("{name}-{count}"));
        let places = [name.clone()].into_iter().chain(names).map(|name| self.folder.path().join(name));
        // Earlier damaged checkpoints of the same step are kept too.
        let aside = places.into_iter().find(|place| !place.exists()).unwrap_or_default();
        fs::rename(&damaged.path, &aside).map_err(|source| Error::Io {
            action: "set aside",
            path: damaged.path.clone(),
            source,
        })?;
        Ok(aside)
    }

    /// Saves a checkpoint and returns its folder. An existing checkpoint of this step is replaced
    /// once the new one is whole. On return the checkpoint is on the disk, not only in its cache.
    ///
    /// # Errors
    /// [`Error::SaveFailed`]. Then this checkpoint does not exist and all others are unchanged, so
    /// a training may continue.
    pub fn save(&self, step: u64, snapshot: &Snapshot) -> Result<PathBuf, Error> {
        self.save_through(step, snapshot, &|path| File::create(path))
    }

    /// [`RunWriter::save`] with a function that opens files, for tests of full disks.
    fn save_through(
        &self,
        step: u64,
        snapshot: &Snapshot,
        create: &dyn Fn(&Path) -> io::Result<File>,
    ) -> Result<PathBuf, Error> {
        let path = self.folder.checkpoint_path(step);
        let temporary = sibling(&path, "tmp");
        let needed_bytes = snapshot.needed_bytes();
        let saved = check_space(self.folder.path(), needed_bytes)
            .and_then(|()| Ok(remove_folder(&temporary)?))
            .and_then(|()| Ok(fs::create_dir(&temporary)?))
            .and_then(|()| Ok(kept::hand_on(&path, &temporary)?))
            .and_then(|()| snapshot.write_files(&temporary, step, create))
            .and_then(|()| Ok(replace_folder(&temporary, &path)?));
        match saved {
            Ok(()) => Ok(path),
            Err(cause) => {
                // The save's own error is reported. A leftover is removed at the next resume.
                let _ = remove_folder(&temporary);
                Err(Error::SaveFailed { path, cause: cause.or_disk_full(needed_bytes) })
            }
        }
    }

    /// Records the candidate's saved checkpoint as the best if [`RunFolder::is_best`] says so, and
    /// returns whether it does. A step without a checkpoint never is the best, so save first.
    ///
    /// # Errors
    /// [`Error::SaveFailed`]; those of [`RunFolder::best`].
    pub fn offer_best(&self, candidate: Candidate) -> Result<bool, Error> {
        retention::offer_best(&self.folder, candidate)
    }

    /// Adds the images of the best checkpoint's value to a record that lacks them.
    ///
    /// # Errors
    /// [`Error::SaveFailed`]; those of [`RunFolder::best`].
    pub fn note_images_of_best(&self, images: ValidationImages) -> Result<(), Error> {
        retention::note_images_of_best(&self.folder, images)
    }

    /// Deletes all checkpoints except the newest `keep_last` (at least one), the best, and those
    /// that [`RunFolder::keep`] marked. Call it after a successful save, so that a whole checkpoint
    /// is newer than the deleted ones.
    ///
    /// # Errors
    /// [`Error::Io`]; those of [`RunFolder::best`].
    pub fn retain(&self, keep_last: usize) -> Result<(), Error> {
        retention::retain(&self.folder, keep_last)
    }
}

/// Refuses a save that cannot fit, before it fills the disk for everyone. If the system does not
/// report the free space, the write itself will fail.
fn check_space(folder: &Path, needed_bytes: u64) -> Result<(), SaveCause> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if disk.f_blocks > 0 && free_bytes < needed_bytes {
        return Err(SaveCause::DiskFull { needed_bytes, free_bytes: Some(free_bytes) });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
