//! Why an export stopped.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::codec::CodecError;
use pixtok_base::{Action, Class, Classified};
use pixtok_images::data::DataError;
use pixtok_tokens::TokensError;

/// A failure of an export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output's folder cannot be used for this job: what is in it, and what to do.
    #[error("{0}")]
    Output(String),
    /// Two samples of one key.
    #[error("two images have the key {key:?}, {}; {remedy}", places(first, second))]
    KeysClash {
        /// The key.
        key: String,
        /// The file or folder of one sample.
        first: PathBuf,
        /// That of the other sample.
        second: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// Not one image can be used.
    #[error("none of the {total} images can be used; for instance {example}")]
    NoImages {
        /// Images that were tried.
        total: u64,
        /// One of them with its reason.
        example: String,
    },
    /// A row that was read back is not what is made of its image now.
    #[error("verification failed: {0}")]
    Differs(String),
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
    /// The input.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The token files.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The tokenizer, on the row named.
    #[error("cannot encode the batch that begins with {key:?}: {source}")]
    Codec {
        /// Of the batch's first row.
        key: String,
        /// Why not.
        source: CodecError,
    },
    /// A file that must be there whole.
    #[error(transparent)]
    Saved(#[from] checkpoint::Error),
}

impl Classified for ExportError {
    fn class(&self) -> Class {
        match self {
            Self::Output(_) | Self::KeysClash { .. } => Class::Misuse,
            Self::NoImages { .. } => Class::BadData,
            Self::Differs(_) => Class::Failed,
            Self::Io { action, .. } => action.class(),
            Self::Data(error) => error.class(),
            Self::Tokens(error) => error.class(),
            Self::Codec { source, .. } => source.class(),
            Self::Saved(error) => error.class(),
        }
    }
}

fn places(first: &Path, second: &Path) -> String {
    if first == second {
        return format!("both in {}", first.display());
    }
    format!("one in {}, one in {}", first.display(), second.display())
}

/// `path` with what the system said of it.
pub(super) fn io_error(action: Action, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Io { action, path, source }
}
