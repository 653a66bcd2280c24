//! Encodes images into token files. A stopped job can be resumed.
//!
//! ```text
//! SampleSet ─► feed (decode in the background) ─► Codec ─► Coder ─► ShardWriters ─► Output
//! ```
//!
//! `encode` runs an export from its options: `plan` works out everything that decides what the
//! files hold, and `ids` where codes lie in a vocabulary. `part` decides which share of the input a
//! process takes, `keys` checks that no two images have the same key, `feed` makes batches, `coder`
//! converts indices to ids, `job` turns batches into shards, `output` manages the folder and its
//! manifest, `remarks` counts what was changed in the images' data, `pictures` says what was cut of
//! them, and `verify` reads rows back and compares them. `subset` also divides an input into sets
//! for training and validation. `merge` joins the parts of a job or whole sets, `origin` decides
//! which sets may be joined, `list` describes how the images of a resumed job changed, and `altered`
//! finds files that differ from the manifest. `decode` turns tokens back into images.
//!
//! A batch depends only on the places of its rows in their shard, and is padded to its full size,
//! so that a shard that is made again has the same bytes.

mod altered;
mod coder;
mod decode;
mod encode;
mod error;
mod feed;
mod ids;
mod job;
mod keep;
mod keys;
mod list;
mod manifest;
mod merge;
mod origin;
mod output;
mod part;
mod pictures;
mod place;
mod plan;
mod reader;
mod remarks;
mod sameness;
mod shard;
mod skipped;
mod subset;
mod verify;

pub use altered::changes;
pub use coder::Coder;
pub use decode::{DecodeOptions, decode, decode_by};
pub use encode::{Encoded, Watch, Written, encode, encode_by};
pub use error::ExportError;
pub use feed::{Batching, Feed, ShardSize, padded};
pub use ids::IdOptions;
pub use job::{Job, Progress, Stopped};
pub use keys::check_keys;
pub use merge::merge;
pub use output::{Finished, Output};
pub use part::Part;
pub use pictures::{preparation, share_kept, share_of_area, share_of_row};
pub use plan::{EncodeOptions, TakeOptions};
pub use sameness::differences;
pub use skipped::Skipped;
pub use subset::{ExportSplit, Subset};
pub use verify::verify;

/// The default number of rows in a shard.
pub const SHARD_ROWS: u64 = 10_000;
