//! What can go wrong with a run folder, told so that a caller can match on it and a user can mend it.

use std::io;
use std::path::PathBuf;

use indicatif::DecimalBytes;
use pixtok_base::{Class, Classified};
use pixtok_torch::tensors::WriteError;

/// A failure around a run folder. Variants that a caller treats specially: [`Error::InUse`] and
/// [`Error::SaveFailed`], which have exit codes of their own and the latter of which need not end a training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process trains in the folder.
    #[error("{} is in use by another process; wait for it to end or choose another folder", .folder.display())]
    InUse {
        /// The run folder.
        folder: PathBuf,
    },
    /// A new run was asked for where there is one already.
    #[error("run folder {} already holds a run; continue it with --resume {}, or choose another --run", .folder.display(), .folder.display())]
    Exists {
        /// The run folder.
        folder: PathBuf,
    },
    /// A new run was requested in a folder with the remains of one.
    #[error(
        "{} has checkpoints or logs but no config.toml, so they belong to no run that could go on; put the file back, or choose \
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
        /// What was given.
        folder: PathBuf,
        /// Why it is none.
        reason: String,
    },
    /// The folder cannot be created, or nothing can be created in it.
    #[error("cannot write to run folder {}; {}", .folder.display(), advice(.source))]
    NotWritable {
        /// The run folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint that was asked for is not there.
    #[error("{} has no checkpoint {wanted:?}; it has {present}", .folder.display())]
    NoCheckpoint {
        /// The run folder.
        folder: PathBuf,
        /// As the user names it.
        wanted: String,
        /// Those there are, in words.
        present: String,
    },
    /// A file is not what was saved.
    #[error("{} is damaged: {reason}; restore it from a copy or delete it", .path.display())]
    Damaged {
        /// The checkpoint or file.
        path: PathBuf,
        /// How one can tell.
        reason: String,
    },
    /// A file is of a format that this program does not know.
    #[error("{} has format_version {found}, and this pixtok reads {known}; use the pixtok that wrote it", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// As written there.
        found: u64,
        /// The one that this program reads.
        known: u64,
    },
    /// Nothing was saved; what was there before is untouched.
    #[error("{} was not saved; what was saved before is untouched", .path.display())]
    SaveFailed {
        /// What should have been written.
        path: PathBuf,
        /// Why it was not.
        #[source]
        cause: SaveCause,
    },
    /// Saved tensors are not those of the model or optimizer they should go into.
    #[error("{what} does not fit: {differences}; use the config that it was trained with")]
    Mismatch {
        /// What was read, as the user knows it.
        what: String,
        /// A few of the names and a count, for each way to differ.
        differences: String,
    },
    /// Averaged weights were asked for where there are none.
    #[error("the checkpoint has no weight average, since its run had train.ema_decay = 0; use --weights raw")]
    NoAverage,
    /// An adversarial run goes on from a checkpoint of one without an adversary.
    #[error(
        "the checkpoint has no discriminator, since its run had no [adversarial]; start a new run with --init-from"
    )]
    NoCompanions,
    /// Reading or tidying failed for a reason outside the files.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// A verb, as in "cannot read".
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// libtorch refused a tensor operation.
    #[error("cannot copy tensor {name:?}")]
    Torch {
        /// The tensor.
        name: String,
        /// What libtorch said.
        source: tch::TchError,
    },
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
    /// No room.
    #[error("the disk is full: {} needed{}; free some space or keep fewer checkpoints", DecimalBytes(*.needed_bytes), free_in_words(*.free_bytes))]
    DiskFull {
        /// Of the whole save.
        needed_bytes: u64,
        /// Where the system told.
        free_bytes: Option<u64>,
    },
    /// Any other failure to write.
    #[error("writing failed")]
    Write(#[from] io::Error),
    /// A tensor of a type that the format lacks, or that libtorch cannot hand out.
    #[error("tensor {name:?} cannot be saved: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Why not.
        reason: String,
    },
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
    /// Says plainly when `self` is a disk that ran full during a save of `needed_bytes`.
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
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn free_in_words(free_bytes: Option<u64>) -> String {
    free_bytes.map_or_else(String::new, |free| format!(" and {} free", DecimalBytes(free)))
}
