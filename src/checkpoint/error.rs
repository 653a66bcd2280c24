//! Errors around a run folder. A caller can match on them, and a user can act on them.

use std::io;
use std::path::PathBuf;

use indicatif::DecimalBytes;
use pixtok_base::{Class, Classified};
use pixtok_torch::TorchError;
use pixtok_torch::tensors::{CopyError, WriteError};

/// An error around a run folder. [`Error::InUse`] and [`Error::SaveFailed`] have their own exit
/// codes. A training may continue after [`Error::SaveFailed`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process trains in the folder.
    #[error("{} is in use by another process; wait for it to end or choose another folder", .folder.display())]
    InUse {
        /// The run folder.
        folder: PathBuf,
    },
    /// A new run was requested in a folder that already holds one.
    #[error("run folder {} already holds a run; to go on with it: pixtok train --resume {} (or --or-resume instead, for jobs that start again); for a new one choose another --run", .folder.display(), .folder.display())]
    Exists {
        /// The run folder.
        folder: PathBuf,
    },
    /// A new run was requested in a folder with the remains of another.
    #[error(
        "{} has checkpoints or logs but no config.toml, so the run cannot be continued; restore that file, or choose \
         another --run",
        .folder.display()
    )]
    Remains {
        /// The run folder.
        folder: PathBuf,
    },
    /// There is no run folder at this path.
    #[error("{} is not a run folder: {reason}; give the folder that `pixtok train` wrote", .folder.display())]
    NotARun {
        /// The path as given.
        folder: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The folder cannot be created, or nothing can be created in it.
    #[error("cannot write to run folder {}; {}", .folder.display(), advice(.source))]
    NotWritable {
        /// The run folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The requested checkpoint does not exist.
    #[error("{} has no checkpoint {wanted:?}; it has {present}", .folder.display())]
    NoCheckpoint {
        /// The run folder.
        folder: PathBuf,
        /// The checkpoint as the user named it.
        wanted: String,
        /// The existing checkpoints, in words.
        present: String,
    },
    /// A checkpoint went while it was read or used.
    #[error(
        "{} was deleted in the meantime, by a training that goes on or by hand; run the command again with a checkpoint \
         that is there, or keep more of them with train.keep_checkpoints",
        .path.display()
    )]
    Gone {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A file differs from what was saved.
    #[error("{} is damaged: {reason}; restore it from a copy or delete it", .path.display())]
    Damaged {
        /// The checkpoint or file.
        path: PathBuf,
        /// How the damage shows.
        reason: String,
    },
    /// A file has a format that this program does not know.
    #[error("{} has format_version {found}, but this pixtok reads {known}; use the pixtok that wrote it", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
        /// The version that this program reads.
        known: u64,
    },
    /// Nothing was saved. Earlier files are untouched.
    #[error("{} was not saved; what was saved before is untouched", .path.display())]
    SaveFailed {
        /// The path that should have been written.
        path: PathBuf,
        /// The reason.
        #[source]
        cause: SaveCause,
    },
    /// Saved tensors do not match the model or optimizer that should take them.
    #[error("{what} does not fit: {differences}; use the config that it was trained with")]
    Mismatch {
        /// The saved file, as the user knows it.
        what: String,
        /// For each kind of difference, a few of the names and the number.
        differences: String,
    },
    /// Averaged weights were requested, but there are none.
    #[error("the checkpoint has no weight average, since its run had train.ema_decay = 0; use --weights raw")]
    NoAverage,
    /// An adversarial run resumes from a checkpoint without a discriminator.
    #[error(
        "the checkpoint has no discriminator, since its run had no [adversarial]; start a new run with --init-from"
    )]
    NoCompanions,
    /// Reading or tidying up failed for a reason outside the files.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The action as a verb, as in "cannot read".
        action: &'static str,
        /// The path that the action concerned.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// libtorch refused a tensor operation.
    #[error("cannot copy tensor {name:?}")]
    Torch {
        /// The name of the tensor.
        name: String,
        /// libtorch's error.
        source: tch::TchError,
    },
}

impl Error {
    /// The error for tensors that were not copied. `what` names the saved ones.
    #[must_use]
    pub fn of_copy(what: &str, error: CopyError) -> Self {
        match error {
            CopyError::Mismatch(differences) => Self::Mismatch { what: what.to_owned(), differences },
            CopyError::Torch { name, source } => Self::Torch { name, source },
        }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::InUse { .. } => Class::InUse,
            Self::SaveFailed { .. } => Class::SaveFailed,
            Self::NotWritable { source, .. } if is_full(source) => Class::SaveFailed,
            Self::Exists { .. }
            | Self::Remains { .. }
            | Self::NotARun { .. }
            | Self::NoCheckpoint { .. }
            | Self::NoAverage
            | Self::Mismatch { .. } => Class::Misuse,
            Self::NotWritable { .. }
            | Self::Gone { .. }
            | Self::Damaged { .. }
            | Self::UnknownFormat { .. }
            | Self::NoCompanions
            | Self::Io { .. }
            | Self::Torch { .. } => Class::Failed,
        }
    }
}

/// Why a save failed.
#[derive(Debug, thiserror::Error)]
pub enum SaveCause {
    /// The disk is full.
    #[error("the disk is full: {} needed{}; free some space or keep fewer checkpoints", DecimalBytes(*.needed_bytes), free_in_words(*.free_bytes))]
    DiskFull {
        /// The size of the whole save.
        needed_bytes: u64,
        /// The free space, if the system reports it.
        free_bytes: Option<u64>,
    },
    /// Any other failure to write.
    #[error("writing failed")]
    Write(#[from] io::Error),
    /// The format lacks the tensor's type, or libtorch cannot hand the tensor out.
    #[error("tensor {name:?} cannot be saved: {reason}")]
    Tensor {
        /// The name of the tensor.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The thread that saved ended early.
    #[error(transparent)]
    Torch(TorchError),
}

impl Classified for SaveCause {
    fn class(&self) -> Class {
        Class::SaveFailed
    }
}

impl From<WriteError> for SaveCause {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(source) => Self::Write(source),
            WriteError::Tensor { name, reason } => Self::Tensor { name, reason },
        }
    }
}

impl SaveCause {
    /// Converts an error to [`SaveCause::DiskFull`] if the disk ran full during a save of
    /// `needed_bytes`.
    pub(super) fn or_disk_full(self, needed_bytes: u64) -> SaveCause {
        match self {
            SaveCause::Write(source) if is_full(&source) => {
                SaveCause::DiskFull { needed_bytes, free_bytes: None }
            }
            other => other,
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    if is_full(error) {
        "free some space"
    } else if error.kind() == io::ErrorKind::NotFound {
        "choose another --run"
    } else {
        "choose another --run or correct its permissions"
    }
}

/// Whether the error means that the disk or a quota is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn free_in_words(free_bytes: Option<u64>) -> String {
    free_bytes.map_or_else(String::new, |free| format!(" and {} free", DecimalBytes(free)))
}
