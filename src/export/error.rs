//! Why an export stopped.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::codec::CodecError;
use pixtok_base::{Action, Class, Classified};
use pixtok_images::data::DataError;
use pixtok_tokens::TokensError;
use serde_json::Value;

/// An error of an export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output folder cannot be used for this job. The text says what is in it and what to do.
    #[error("{0}")]
    Output(String),
    /// Two samples have the same key.
    #[error("two images have the key {key:?}, {}; {remedy}", places(first, second))]
    KeysClash {
        /// The key.
        key: String,
        /// The file or folder of one sample.
        first: PathBuf,
        /// The file or folder of the other sample.
        second: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The folder holds a job that differs only in the weights of its tokenizer.
    #[error(
        "{folder} holds another job: its tokenizer had other weights; choose another --out, or the same settings to go on with that one"
    )]
    OtherWeights {
        /// The folder.
        folder: String,
        /// What that job states about its tokenizer.
        job: Box<Value>,
    },
    /// No image can be used.
    #[error("none of the {total} images can be used; for instance {example}")]
    NoImages {
        /// The number of images that were tried.
        total: u64,
        /// One of them, with the reason.
        example: String,
    },
    /// A row that was read back differs from what its image gives now.
    #[error("verification failed: {0}")]
    Differs(String),
    /// The system refused a file operation.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The operation.
        action: Action,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The input cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The token files cannot be read or written.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The tokenizer failed at the named row.
    #[error("cannot encode the batch that begins with {key:?}: {source}")]
    Codec {
        /// The key of the batch's first row.
        key: String,
        /// The tokenizer's error.
        source: CodecError,
    },
    /// A file could not be written as a whole.
    #[error(transparent)]
    Saved(#[from] checkpoint::Error),
}

impl Classified for ExportError {
    fn class(&self) -> Class {
        match self {
            Self::Output(_) | Self::OtherWeights { .. } | Self::KeysClash { .. } => Class::Misuse,
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

/// Makes an error from `path` and the system's error.
pub(super) fn io_error(action: Action, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Io { action, path, source }
}
