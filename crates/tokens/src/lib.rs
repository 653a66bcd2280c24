//! Tokens as data: what a token file is, in every format that training stacks read.
//!
//! A set of tokens is a folder with a sidecar, `tokens.json`, that says what the numbers in its other files are. One file
//! here per format, with its byte layout; writers and readers stream, none holds a data set in memory. Rows come in order,
//! by [`TokenSet::rows`], or by their number, by [`RandomAccess`]. Nothing here knows of models: a [`Row`] holds ids as they
//! are stored. Needs no libtorch.

mod companion;
mod error;
mod files;
#[cfg(test)]
mod fixture;
mod framing;
mod indexed;
mod jsonl;
mod kind;
mod layout;
mod line_index;
mod litdata;
mod llamagen;
mod mds;
mod megatron;
mod names;
mod npy;
mod open_files;
mod parquet;
mod preset;
mod random_access;
mod raw;
mod reading;
mod row;
mod set;
mod side_files;
mod sidecar;
mod size_tokens;
mod stated;
mod vocabulary;
mod webdataset;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::TokensError;
pub use framing::{Framing, Lines};
pub use kind::FormatKind;
pub use layout::{Axes, Dtype, Layout};
pub use names::TokenNames;
pub use open_files::OpenFiles;
use pixtok_base::{Action, Carried};
pub use preset::{Preset, PresetIds};
pub use random_access::RandomAccess;
pub use row::{Grid, Row, TokenShape};
pub use set::TokenSet;
pub use side_files::SideFiles;
pub use sidecar::{SIDECAR, Sidecar};
pub use size_tokens::SizeTokens;
pub use stated::{Arrangement, Counts, Preprocessing, Source, StatedGrid, StatedTokenizer};
pub use vocabulary::{MAX_ID, StatedVocabulary, Vocabulary};

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Which shard of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub number: u32,
    /// Rows in the shards before it.
    pub first_row: u64,
    /// How many shards the set has; not known while it is being written.
    pub total: Option<u32>,
}

/// A finished shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which.
    pub place: Place,
    /// Rows in it, at least 1.
    pub rows: u64,
}

/// Writes the rows of one shard, in order.
pub trait ShardWriter: Send {
    /// Adds a row.
    ///
    /// # Errors
    /// When it cannot be written or does not suit the format.
    fn push(&mut self, row: &Row) -> Result<(), TokensError>;

    /// Completes the shard's files. Until then they are of no use.
    ///
    /// # Errors
    /// When they cannot be written.
    fn finish(self: Box<Self>) -> Result<(), TokensError>;
}

/// Rows of a shard, in order; after an error there is nothing to come.
pub type Rows = Box<dyn Iterator<Item = Result<Row, TokensError>> + Send>;

/// Any row of a shard by its number, from 0, for several threads at once.
pub type RowsAt = Box<dyn Fn(u64) -> Result<Row, TokensError> + Send + Sync>;

/// A format of token files.
pub trait Format: Sync {
    /// Refuses a set that the format cannot hold, with what to do instead.
    ///
    /// # Errors
    /// [`TokensError::Unsuitable`].
    fn check(&self, _layout: &Layout) -> Result<(), TokensError> {
        Ok(())
    }

    /// Refuses a key that the format cannot hold.
    ///
    /// # Errors
    /// Why not, in words; the row is then one to leave out.
    fn check_key(&self, _key: &str) -> Result<(), String> {
        Ok(())
    }

    /// Renames fields of an image's JSON whose names the format uses itself; returns whether there
    /// were any.
    fn make_room(&self, _json: &mut Carried) -> bool {
        false
    }

    /// What users of the format's usual reader should know about the finished set in `folder`.
    /// `vocab_size` is the number of ids in their vocabulary.
    fn advice(&self, _folder: &Path, _layout: &Layout, _vocab_size: u64) -> Option<String> {
        None
    }

    /// The number type for ids below `ids`, of a vocabulary of `vocab_size` if given.
    fn dtype(&self, ids: u64, _vocab_size: Option<u64>) -> Dtype {
        Dtype::for_ids(ids)
    }

    /// Whether a user may choose any number type that holds the ids.
    fn takes_any_dtype(&self) -> bool {
        false
    }

    /// Names of a shard's files relative to the set's folder: plain ones while `place.total` is not known, and those of the
    /// finished set when it is. A name that ends in `/` is a folder of single files that only this shard's rows fill.
    fn files(&self, place: Place, layout: &Layout) -> Vec<String>;

    /// Starts a shard's files in `folder`, under the names that [`Format::files`] gives.
    ///
    /// # Errors
    /// When they cannot be made.
    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError>;

    /// The small files that the finished set has beside its shards, with their names: an index, a list of tokens.
    ///
    /// # Errors
    /// When a shard in `folder` that they are made from cannot be read.
    fn index(
        &self,
        _folder: &Path,
        _shards: &[Shard],
        _layout: &Layout,
    ) -> Result<Vec<(String, Vec<u8>)>, TokensError> {
        Ok(vec![])
    }

    /// Reads a shard back, checking as if the files were hostile.
    ///
    /// # Errors
    /// When its files cannot be opened or are not whole.
    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError>;

    /// As [`Format::rows`], but gives any row by its number. The shard's files are among `files`.
    ///
    /// # Errors
    /// When its files cannot be opened or are not whole, as far as one can tell without reading
    /// every row.
    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError>;
}

/// `path` with what the system said of it.
fn io_error(action: Action, path: &Path) -> impl FnOnce(std::io::Error) -> TokensError {
    let path: PathBuf = path.to_owned();
    move |source| TokensError::Io { action, path, source }
}
