//! Token files: what they hold, in every format that training stacks read.
//!
//! A set of tokens is a folder with a sidecar, `tokens.json`, which states what the numbers in its
//! other files mean. Each format has a file here, with its byte layout. Writers and readers stream:
//! none holds a data set in memory. Rows are read in order, with [`TokenSet::rows`], or by number,
//! with [`RandomAccess`]. Nothing here depends on models: a [`Row`] holds ids as they are stored.
//! This crate needs no libtorch.

mod arrow_schema;
mod companion;
mod error;
mod features;
mod files;
#[cfg(test)]
mod fixture;
mod framing;
mod generated;
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
mod prefix;
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
pub use generated::{BadRow, Generated, GeneratedForm, GeneratedRows};
pub use kind::FormatKind;
pub use layout::{Axes, Dtype, Layout};
pub use names::TokenNames;
pub use open_files::OpenFiles;
use pixtok_base::{Action, Carried};
pub use prefix::{PrefixAxis, StatedPrefix};
pub use preset::{Preset, PresetIds};
pub use random_access::RandomAccess;
pub use row::{Grid, Row, TokenShape};
pub use set::{SPLITS, TokenSet};
pub use side_files::SideFiles;
pub use sidecar::{SIDECAR, Sidecar};
pub use size_tokens::SizeTokens;
pub use stated::{
    Arrangement, Counts, Division, MadeBy, Preprocessing, Source, StatedGrid, StatedIds, StatedPositions,
    StatedShape, StatedSplit, StatedTokenizer, StatedWeights,
};
pub use vocabulary::{MAX_ID, StatedVocabulary, Vocabulary};

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The position of a shard in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the shard, counted from 0.
    pub number: u32,
    /// The number of rows in the shards before it.
    pub first_row: u64,
    /// The number of shards in the set; `None` while the set is being written.
    pub total: Option<u32>,
}

/// A finished shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The position of the shard.
    pub place: Place,
    /// The number of its rows, at least 1.
    pub rows: u64,
}

/// Writes the rows of one shard, in order.
pub trait ShardWriter: Send {
    /// Adds a row.
    ///
    /// # Errors
    /// If it cannot be written or does not suit the format.
    fn push(&mut self, row: &Row) -> Result<(), TokensError>;

    /// Completes the shard's files. Before that they are not usable.
    ///
    /// # Errors
    /// If they cannot be written.
    fn finish(self: Box<Self>) -> Result<(), TokensError>;
}

/// The rows of a shard, in order. Nothing follows an error.
pub type Rows = Box<dyn Iterator<Item = Result<Row, TokensError>> + Send>;

/// Reads any row of a shard by its number, counted from 0. Several threads may call it at once.
pub type RowsAt = Box<dyn Fn(u64) -> Result<Row, TokensError> + Send + Sync>;

/// A format of token files.
pub trait Format: Sync {
    /// Refuses a set that the format cannot hold.
    ///
    /// # Errors
    /// [`TokensError::Unsuitable`], with the remedy.
    fn check(&self, _layout: &Layout) -> Result<(), TokensError> {
        Ok(())
    }

    /// Refuses a key that the format cannot hold.
    ///
    /// # Errors
    /// The reason in words. The row is then skipped.
    fn check_key(&self, _key: &str) -> Result<(), String> {
        Ok(())
    }

    /// Renames fields of an image's JSON whose names the format itself uses. Returns whether there
    /// were any.
    fn make_room(&self, _json: &mut Carried) -> bool {
        false
    }

    /// Advice on the finished set in `folder`, for users of the format's usual reader. `vocab_size`
    /// is the number of ids in their vocabulary.
    fn advice(&self, _folder: &Path, _layout: &Layout, _vocab_size: u64) -> Option<String> {
        None
    }

    /// The number type for ids below `ids`, with a vocabulary of `vocab_size` ids if that is given.
    fn dtype(&self, ids: u64, _vocab_size: Option<u64>) -> Dtype {
        Dtype::for_ids(ids)
    }

    /// Whether the user may choose any number type that can hold the ids.
    fn takes_any_dtype(&self) -> bool {
        false
    }

    /// Whether the images of a set may have different sizes, and its rows different lengths.
    fn takes_any_sizes(&self) -> bool {
        true
    }

    /// Whether it can hold names instead of ids.
    fn takes_names(&self) -> bool {
        false
    }

    /// Whether it can have an index of where each document ends.
    fn takes_document_index(&self) -> bool {
        false
    }

    /// Whether readers want all rows in one shard. Otherwise `merge` writes shards too.
    fn merges_into_one(&self) -> bool {
        false
    }

    /// Whether readers take every file whose name ends in `.json` for one of theirs. The files that
    /// describe a set then have other names: see [`SideFiles`].
    fn claims_json(&self) -> bool {
        false
    }

    /// The names of a shard's files relative to the set's folder: preliminary names while
    /// `place.total` is unknown, otherwise those in the finished set. A name that ends in `/` is a
    /// folder of single files which only this shard's rows fill.
    fn files(&self, place: Place, layout: &Layout) -> Vec<String>;

    /// Starts a shard's files in `folder`, under the names that [`Format::files`] returns.
    ///
    /// # Errors
    /// If they cannot be created.
    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError>;

    /// The small files beside the shards of a finished set, with their names: an index, or a list
    /// of tokens.
    ///
    /// # Errors
    /// If a shard in `folder` that they are made from cannot be read.
    fn index(
        &self,
        _folder: &Path,
        _shards: &[Shard],
        _layout: &Layout,
    ) -> Result<Vec<(String, Vec<u8>)>, TokensError> {
        Ok(vec![])
    }

    /// Reads a shard back. Its files are checked as if they were hostile.
    ///
    /// # Errors
    /// If its files cannot be opened or are incomplete.
    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError>;

    /// Like [`Format::rows`], but returns rows by their number. The shard's files are opened
    /// through `files`.
    ///
    /// # Errors
    /// If its files cannot be opened or are incomplete, as far as this is visible without reading
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
