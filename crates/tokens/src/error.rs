//! Errors of token files.

use std::io;
use std::path::PathBuf;

/// An error of token files.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The system reported an error.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The action as a verb, as in "cannot read".
        action: &'static str,
        /// The path that the action concerned.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file differs from what was written.
    #[error("{} is damaged: {reason}; restore it from a copy or export it again", .path.display())]
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
