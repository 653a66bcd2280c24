//! Errors of token files.

use std::io;
use std::path::PathBuf;

use pixtok_base::{Action, Class, Classified};

/// An error of token files.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The system reported an error.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was to be done.
        action: Action,
        /// To what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file differs from what was written.
    #[error("{} is damaged: {reason}; restore it from a copy or export it again; ids that a model generated are decoded with \
        `pixtok decode --tokens FILE --like SET`", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How the damage shows.
        reason: String,
    },
    /// A request that cannot be met as it was made, with the remedy.
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
