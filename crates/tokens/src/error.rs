//! What can go wrong with token files.

use std::io;
use std::path::PathBuf;

use pixtok_base::{Action, Class, Classified};

/// A failure around token files.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was to be done.
        action: Action,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{} is damaged: {reason}; restore it from a copy or export it again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How one can tell.
        reason: String,
    },
    /// A request that cannot be met as it was made: what, and what to do instead.
    #[error("{0}")]
    Unsuitable(String),
}

impl Classified for TokensError {
    fn class(&self) -> Class {
        match self {
            Self::Io { action, .. } => action.class(),
            Self::Damaged { .. } => Class::Failed,
            Self::Unsuitable(_) => Class::Misuse,
        }
    }
}
