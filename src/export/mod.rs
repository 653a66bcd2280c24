//! From images to token files: a job that goes on where it was stopped.
//!
//! ```text
//! SampleSet ─► feed (decode in the background) ─► Codec ─► Coder ─► one ShardWriter after the other ─► Output
//! ```
//!
//! `part` says which share of the input a process takes, `keys` that no two images have one name,
//! `feed` makes batches, `job` turns them into shards, `output` keeps the folder and its manifest,
//! `remarks` says what did not come along as it was, `verify` reads back and compares, `merge`
//! joins the outputs of several processes.
//!
//! A batch is a function of the places of its rows in their shard, and is padded to its full size, so that a shard that is
//! made again has the same bytes.

mod error;
mod feed;
mod job;
mod keys;
mod manifest;
mod merge;
mod output;
mod part;
mod place;
mod reader;
mod remarks;
mod sameness;
mod shard;
mod skipped;
mod verify;

pub use error::ExportError;
pub use feed::{Batching, Feed, ShardSize, padded};
pub use job::{Job, Progress, Stopped};
pub use keys::check_keys;
pub use merge::merge;
pub use output::{Finished, Output};
pub use part::Part;
pub use sameness::differences;
pub use verify::verify;

/// Rows in a shard, where nothing else is asked for.
pub const SHARD_ROWS: u64 = 10_000;
