//! From images to token files: a job that goes on where it was stopped.
//!
//! ```text
//! SampleSet ─► feed (decode in the background) ─► Codec ─► Coder ─► one ShardWriter after the other ─► Output
//! ```
//!
//! `encode` is the whole way from options: `plan` works out all that decides what the files hold,
//! and `ids` where codes lie in a vocabulary. `part` decides which share of the input a process
//! takes, `keys` checks that no two images have the same key, `feed` makes batches,
//! `coder` makes ids of indices, `job` turns batches into shards, `output` keeps the folder and its
//! manifest, `remarks` counts what was changed in the images' data, `verify` reads back and compares,
//! `merge` joins the parts of a job or whole sets, `origin` decides which may be joined, `list` tells
//! how the images of a resumed job changed, and `altered` notices files that differ from the
//! manifest. `decode` is the way back to images.
//!
//! A batch is a function of the places of its rows in their shard, and is padded to its full size, so that a shard that is
//! made again has the same bytes.

mod altered;
mod coder;
mod decode;
mod encode;
mod error;
mod feed;
mod ids;
mod job;
mod keys;
mod list;
mod manifest;
mod merge;
mod origin;
mod output;
mod part;
mod place;
mod plan;
mod reader;
mod remarks;
mod sameness;
mod shard;
mod skipped;
mod verify;

pub use altered::changes;
pub use coder::Coder;
pub use decode::{DecodeOptions, decode, decode_by};
pub use encode::{Encoded, Watch, encode, encode_by};
pub use error::ExportError;
pub use feed::{Batching, Feed, ShardSize, padded};
pub use ids::IdOptions;
pub use job::{Job, Progress, Stopped};
pub use keys::check_keys;
pub use merge::merge;
pub use output::{Finished, Output};
pub use part::Part;
pub use plan::{EncodeOptions, TakeOptions};
pub use sameness::differences;
pub use verify::verify;

/// Rows in a shard, where nothing else is asked for.
pub const SHARD_ROWS: u64 = 10_000;
