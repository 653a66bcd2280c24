//! Advisory locks on a file in a folder, so that only one trainer works in a run folder and only
//! one process in the folder of a comparison. The system drops the lock when the process ends, in
//! whatever way.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::error::Error;

const FILE: &str = ".lock";

/// A lock, held as long as this value lives.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of `folder` without waiting.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process (or another value in this process) holds it,
    /// [`Error::NotWritable`] if the lock file cannot be created, [`Error::Io`] if the file system
    /// has no locks.
    pub fn take(folder: &Path) -> Result<Lock, Error> {
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| Error::NotWritable { folder: folder.to_owned(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { path, _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }

    /// Removes the lock's file. If that fails, it stays and does no harm.
    pub fn remove_file(self) {
        let _ = fs::remove_file(&self.path);
    }
}
