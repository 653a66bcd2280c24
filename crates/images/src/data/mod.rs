//! Makes batches of bytes from a folder of image files, from tar shards or from Parquet files.
//!
//! `source` lists the images of a `folder`, of `shards` or of `tables`. `order` shuffles them for
//! an epoch, `pass` decides which come next, and `share` decides which of them each of several
//! processes takes. `load` reads one image: `transform` crops and resizes a picture with
//! `resample`, and `cache` keeps decoded pictures. `pipeline` is the queue and the threads that
//! load everything, here and in the program. `loader` makes batches with it: `assemble` and `epoch`
//! are its plan, and images are written into `memory`. With buckets of aspect, `buckets` groups the
//! images by the `sizes` of their pictures, `deal` makes the batches of an epoch of them, and
//! `bucketed` is the plan, with `attempts` at images that may be bad. `omitted` counts what is
//! skipped, `bad` counts the files that cannot be used, `config` holds the settings, `fingerprint`
//! shows whether a resumed run has the same images and `file_list` which of them changed, `overlap`
//! shows whether two sets share files, and `copies` whether they hold the same images under
//! different names. `samples` reads the inputs of an export from first to last, without batches and
//! without shuffling. The order of the images and what is done to each are pure functions of (seed,
//! epoch, index), so a few integers, the [`Cursor`], are enough to resume them, whatever the number
//! of threads. Nothing here depends on models or training.

mod assemble;
mod attempts;
mod bad;
mod bucketed;
mod buckets;
mod cache;
mod config;
mod copies;
mod deal;
mod epoch;
mod file_list;
mod fingerprint;
mod folder;
mod index;
mod load;
mod loader;
mod memory;
mod omitted;
mod order;
mod overlap;
mod pass;
mod pipeline;
mod prepare;
mod resample;
mod samples;
mod shards;
mod share;
mod sizes;
mod source;
mod tables;
mod transform;

use std::io;
use std::path::{Path, PathBuf};

use pixtok_base::paths::absence;
use pixtok_base::sniff::Kind;
use pixtok_base::{Class, Classified};

pub use bad::{BadSample, BadSamples, TooManyBad};
pub use cache::Cache;
pub use config::{Config, Crop, Filter, ImageSize};
pub use copies::Copies;
pub use file_list::FileList;
pub use fingerprint::{Difference, Fingerprint};
pub use folder::{EXTENSIONS, ImageFolder};
pub use loader::{Batch, Cursor, Loader, Marks};
pub use memory::{BatchMemory, MemoryError};
pub use overlap::{Overlap, Shared};
pub use pipeline::{Panicked, Pipeline, Plan, threads};
pub use prepare::{Fit, Prepare, Prepared};
pub use samples::key::{composed, digest};
pub use samples::{Altered, Classes, Encoded, Sample, SampleSet, SampleStream, Selection};
pub use share::Share;
pub use source::{Dataset, Split};

/// An error while images are listed or loaded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A setting is outside its range.
    #[error("{key} = {value}: must be {allowed}")]
    Setting {
        /// The setting's name in the config file.
        key: &'static str,
        /// The value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// There is nothing at the path of the images.
    #[error(
        "{} {}; give a folder of images, tar shards or Parquet files (--data or data.train; for validation, --val-data or \
         data.val)",
        .0.display(), absence(.0)
    )]
    Missing(PathBuf),
    /// A file was given where a folder is needed.
    #[error("{} is a file; an image folder is needed", .0.display())]
    NotAFolder(PathBuf),
    /// The path holds nothing to train on or to evaluate with.
    #[error(
        "{} is neither images nor tar shards nor Parquet; give a folder of images, a .tar or .parquet file or a folder of \
         them (only `pixtok encode` reads lists)",
        .0.display()
    )]
    NotImages(PathBuf),
    /// A folder, or one of its entries, cannot be read.
    #[error("cannot read the folder {}: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No file in the folder, and no member of its tars, has a known ending.
    #[error(
        "no images in {} or its subfolders: no file and no member of a tar ends in {}",
        .0.display(),
        EXTENSIONS.join(", ")
    )]
    Empty(PathBuf),
    /// There is no image; the notes say what was skipped.
    #[error("no images in {}; {}", path.display(), notes.join("; "))]
    AllOmitted {
        /// The folder or the tars.
        path: PathBuf,
        /// A sentence for each kind of file that was skipped.
        notes: Vec<String>,
    },
    /// There are more images than a 32-bit index can distinguish.
    #[error("{} holds more than 2^32 images; split it", .0.display())]
    TooManyFiles(PathBuf),
    /// A part of the data set has no image.
    #[error(
        "data.val_share = {share} leaves no image of {images} for {part}; set data.val to other images, \
         or choose another share"
    )]
    EmptySplit {
        /// The share for validation.
        share: f64,
        /// The number of images in the whole data set.
        images: usize,
        /// `training` or `validation`.
        part: &'static str,
    },
    /// There are fewer usable images than a batch holds.
    #[error(
        "a batch of {batch_size} is larger than the data set: {good} of {total} images can be used; lower \
         train.batch_size or add images"
    )]
    BatchTooLarge {
        /// The number of images in a batch.
        batch_size: usize,
        /// The number of usable images.
        good: usize,
        /// The number of images in the data set.
        total: usize,
        /// The bad images, with their reasons.
        bad: Vec<BadSample>,
    },
    /// A process has fewer usable images in an epoch than its share of a batch.
    #[error(
        "process {rank} of {size} can use {good} of its {total} images of an epoch, and its share of a batch \
         is {batch_size}; lower train.batch_size or add images"
    )]
    ShareTooSmall {
        /// The number of the process, from 0.
        rank: usize,
        /// The number of processes.
        size: usize,
        /// The number of its images in a batch.
        batch_size: usize,
        /// The number of its usable images in the epoch.
        good: usize,
        /// The number of its images in the epoch.
        total: usize,
        /// The bad images, with their reasons.
        bad: Vec<BadSample>,
    },
    /// No image can be used.
    #[error("none of the {total} images can be used; {}", bad::examples(bad))]
    NoGoodImages {
        /// The number of images that this process has of the data set.
        total: usize,
        /// All of them, with their reasons.
        bad: Vec<BadSample>,
    },
    /// There is nothing at the path of an export's images.
    #[error("{} {}; give {}", .0.display(), absence(.0), samples::INPUTS)]
    NoInput(PathBuf),
    /// A file of an unsupported kind.
    #[error("{} is not an input for an export; give {}", .0.display(), samples::INPUTS)]
    UnknownInput(PathBuf),
    /// The path is neither a file nor a folder.
    #[error(
        "{} is a {kind}, and images are read from files; write what it gives to a file and give that",
        path.display()
    )]
    Special {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A compressed archive, in which nothing can be skipped without reading it.
    #[error("{} is compressed; decompress it to a .tar file, or unpack it to a folder, first", .0.display())]
    Compressed(PathBuf),
    /// A folder that could be meant in several ways.
    #[error("{} holds {found}, so it is ambiguous; give {remedy}", path.display())]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// The kinds of data in it.
        found: String,
        /// What to give for each kind.
        remedy: String,
    },
    /// Something that was asked for does not exist or makes no sense, or the input is ambiguous.
    /// The text is a sentence that says what to do.
    #[error("{0}")]
    Unclear(String),
    /// The system refuses to read an input file.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A Parquet file has no images in the expected columns.
    #[error(
        "{} has no column of images: `image`, `img`, `jpg` or the like, binary or a struct with a binary field `bytes`; it \
         has {columns}; name the column with --image-column (data.image_column)",
        path.display()
    )]
    NoImageColumn {
        /// The file.
        path: PathBuf,
        /// The columns that it has.
        columns: String,
    },
    /// Parquet files do not belong together.
    #[error(
        "the columns of {} differ from those of {}: {difference}; give only files of one data set",
        path.display(), first.display()
    )]
    SchemaDiffers {
        /// The file.
        path: PathBuf,
        /// The first file.
        first: PathBuf,
        /// What would be read from each.
        difference: String,
    },
    /// A name is unsafe: it could lead outside the output, or names nothing.
    #[error("{}, {place}: {reason}; keys become file names, so give another", path.display())]
    UnsafeKey {
        /// The file or folder.
        path: PathBuf,
        /// The place in it.
        place: String,
        /// The name, and what is wrong with it.
        reason: String,
    },
    /// Two samples would have the same name.
    #[error("keys clash in {}: {reason}", path.display())]
    KeysClash {
        /// The file or folder.
        path: PathBuf,
        /// The samples, and what to do.
        reason: String,
    },
    /// A line of a list is wrong.
    #[error("{}, line {line}: {reason}", path.display())]
    BadLine {
        /// The list.
        path: PathBuf,
        /// The number of the line, counted from one.
        line: u64,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The content of a file does not match its name.
    #[error("{} is {kind} and not {expected}; fetch or write the file again", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// The kind that it is.
        kind: Kind,
        /// The kind that was expected.
        expected: &'static str,
    },
    /// An input file is cut short or damaged.
    #[error("{} cannot be read {}: {reason}; fetch or write the file again", path.display(), samples::beyond(last))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The key of the last whole sample before the damage.
        last: Option<String>,
        /// The sign of the damage.
        reason: String,
    },
    /// The cache cannot be made.
    #[error(
        "cannot keep decoded images in {} (data.cache_gib = {gib}): {reason}; set TMPDIR to a folder on a disk with \
         room, or lower data.cache_gib",
        path.display()
    )]
    Cache {
        /// The requested size.
        gib: f64,
        /// The folder of temporary files.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A loading thread could not be started, or has ended.
    #[error("the image loader stopped: {0}")]
    Loader(String),
    /// A batch cannot be allocated.
    #[error(transparent)]
    BatchMemory(MemoryError),
}

impl Classified for DataError {
    fn class(&self) -> Class {
        match self {
            Self::Setting { .. }
            | Self::Missing(_)
            | Self::NotAFolder(_)
            | Self::NotImages(_)
            | Self::Empty(_)
            | Self::AllOmitted { .. }
            | Self::EmptySplit { .. }
            | Self::BatchTooLarge { .. }
            | Self::ShareTooSmall { .. }
            | Self::NoInput(_)
            | Self::UnknownInput(_)
            | Self::Special { .. }
            | Self::Compressed(_)
            | Self::Ambiguous { .. }
            | Self::Unclear(_)
            | Self::NoImageColumn { .. }
            | Self::SchemaDiffers { .. }
            | Self::UnsafeKey { .. }
            | Self::KeysClash { .. }
            | Self::BadLine { .. } => Class::Misuse,
            Self::NoGoodImages { .. } => Class::BadData,
            Self::Unreadable { .. }
            | Self::TooManyFiles(_)
            | Self::File { .. }
            | Self::OtherKind { .. }
            | Self::Damaged { .. }
            | Self::Cache { .. }
            | Self::Loader(_)
            | Self::BatchMemory(_) => Class::Failed,
        }
    }
}

impl DataError {
    /// The error for a `path` without images, with notes on what was skipped in it.
    fn empty(path: &Path, notes: &[String]) -> DataError {
        match notes {
            [] => DataError::Empty(path.to_owned()),
            notes => DataError::AllOmitted { path: path.to_owned(), notes: notes.to_vec() },
        }
    }

    /// The same error; but if there is no image and there is an archive, the archive is named as
    /// the cause.
    fn explained_by(self, archive: Option<PathBuf>) -> DataError {
        match (self, archive) {
            (DataError::Empty(_) | DataError::AllOmitted { .. }, Some(archive)) => {
                DataError::Compressed(archive)
            }
            (error, _) => error,
        }
    }
}

/// Makes a FIFO, for tests.
#[cfg(test)]
pub(crate) fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "cannot make {}", path.display());
}
