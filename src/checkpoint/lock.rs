//! One trainer per run folder, one comparison per its own: an advisory lock on a file in it, which the system drops
//! when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::error::Error;

const FILE: &str = ".lock";

/// Held as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `folder` without waiting.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process (or another value in this one) holds it, [`Error::NotWritable`] when
    /// the lock's file cannot be created, [`Error::Io`] when the file system has no locks.
    pub fn take(folder: &Path) -> Result<Lock, Error> {
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| Error::NotWritable { folder: folder.to_owned(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }
}
