//! From a folder of image files, from tar shards or Parquet files to batches of bytes.
//!
//! `source` lists the images, of a `folder`, of `shards` or of `tables`. `order` shuffles them for
//! an epoch, `pass` decides which come next, and `share` which of them one of several processes
//! takes. `load` reads one: `transform` crops and resizes a picture with `resample`, `cache` keeps
//! decoded pictures. `pipeline` is the queue and the threads with which everything is loaded, here
//! and in the program. `loader` makes batches with it: `assemble` and `epoch` are its plan, `memory`
//! is what images are written into. `omitted` counts what is passed over, `bad` counts the files that cannot be
//! used, `config` holds the settings, `fingerprint` tells whether a resumed run has the same
//! images and `file_list` which of them changed, `overlap` tells whether two sets share files, and
//! `copies` whether they hold the same images under other names. `samples` reads the inputs of an
//! export from first to last, without batches and without shuffling. The order of the images and
//! what is done to each are pure functions of (seed, epoch, index), so two integers, the [`Cursor`],
//! resume them, whatever the number of threads. Nothing here knows of models or training.

mod assemble;
mod bad;
mod cache;
mod config;
mod copies;
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

/// Why there are no images to be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A setting outside its range.
    #[error("{key} = {value}: must be {allowed}")]
    Setting {
        /// The setting's name in the config file.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Nothing where the images should be.
    #[error(
        "{} {}; give a folder of images, tar shards or Parquet files (--data or data.train; for validation, --val-data or \
         data.val)",
        .0.display(), absence(.0)
    )]
    Missing(PathBuf),
    /// A file where a folder is needed.
    #[error("{} is a file; an image folder is needed", .0.display())]
    NotAFolder(PathBuf),
    /// What is there is nothing to train on or to evaluate with.
    #[error(
        "{} is neither images nor tar shards nor Parquet; give a folder of images, a .tar or .parquet file or a folder of \
         them (only `pixtok encode` reads lists)",
        .0.display()
    )]
    NotImages(PathBuf),
    /// A folder, or the entries of one, that cannot be read.
    #[error("cannot read the folder {}: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No file with a known extension below the folder, or in its tars.
    #[error(
        "no images in {} or its subfolders: no file and no member of a tar ends in {}",
        .0.display(),
        EXTENSIONS.join(", ")
    )]
    Empty(PathBuf),
    /// There is no image; the notes say what was passed over.
    #[error("no images in {}; {}", path.display(), notes.join("; "))]
    AllOmitted {
        /// The folder or the tars.
        path: PathBuf,
        /// A sentence for each kind of thing that was passed over.
        notes: Vec<String>,
    },
    /// More images than a 32-bit index can tell apart.
    #[error("{} holds more than 2^32 images; split it", .0.display())]
    TooManyFiles(PathBuf),
    /// A share of the data set without a single image in it.
    #[error(
        "data.val_share = {share} leaves no image of {images} for {part}; set data.val to other images, \
         or choose another share"
    )]
    EmptySplit {
        /// The share for validation.
        share: f64,
        /// Images in the whole data set.
        images: usize,
        /// `training` or `validation`.
        part: &'static str,
    },
    /// Fewer usable images than a batch holds.
    #[error(
        "a batch of {batch_size} is larger than the data set: {good} of {total} images can be used; lower \
         train.batch_size or add images"
    )]
    BatchTooLarge {
        /// Images in a batch.
        batch_size: usize,
        /// Images that can be used.
        good: usize,
        /// Images in the data set.
        total: usize,
        /// Those that cannot, with their reasons.
        bad: Vec<BadSample>,
    },
    /// Not one image can be used.
    #[error("none of the {total} images can be used; {}", bad::examples(bad))]
    NoGoodImages {
        /// Images in the data set.
        total: usize,
        /// All of them, with their reasons.
        bad: Vec<BadSample>,
    },
    /// Nothing where the images for an export should be.
    #[error("{} {}; give {}", .0.display(), absence(.0), samples::INPUTS)]
    NoInput(PathBuf),
    /// A file of a kind that is not read.
    #[error("{} is not an input for an export; give {}", .0.display(), samples::INPUTS)]
    UnknownInput(PathBuf),
    /// Neither a file nor a folder.
    #[error(
        "{} is a {kind}, and images are read from files; write what it gives to a file and give that",
        path.display()
    )]
    Special {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A compressed archive: nothing in it can be skipped without reading it.
    #[error("{} is compressed; decompress it to a .tar file, or unpack it to a folder, first", .0.display())]
    Compressed(PathBuf),
    /// A folder that could be meant in several ways.
    #[error("{} holds {found}, so it is ambiguous; give {remedy}", path.display())]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// The kinds that are in it.
        found: String,
        /// What to give for each.
        remedy: String,
    },
    /// What was asked for is missing or makes no sense, or the input is ambiguous: a sentence with
    /// the remedy.
    #[error("{0}")]
    Unclear(String),
    /// An input file that the system does not let be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A Parquet file without images in the place where they are looked for.
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
    /// Parquet files that do not belong together.
    #[error(
        "the columns of {} differ from those of {}: {difference}; give only files of one data set",
        path.display(), first.display()
    )]
    SchemaDiffers {
        /// The file.
        path: PathBuf,
        /// The first file.
        first: PathBuf,
        /// What would be read of each.
        difference: String,
    },
    /// A name that could lead outside the output, or that names nothing.
    #[error("{}, {place}: {reason}; keys become file names, so give another", path.display())]
    UnsafeKey {
        /// The file or folder.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// The name, and what is wrong with it.
        reason: String,
    },
    /// Two samples that would have the same name.
    #[error("keys clash in {}: {reason}", path.display())]
    KeysClash {
        /// The file or folder.
        path: PathBuf,
        /// Which, and what to do.
        reason: String,
    },
    /// A line of a list that is not what it should be.
    #[error("{}, line {line}: {reason}", path.display())]
    BadLine {
        /// The list.
        path: PathBuf,
        /// Counted from one.
        line: u64,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file whose content does not match its name.
    #[error("{} is {kind} and not {expected}; fetch or write the file again", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: Kind,
        /// What it should be.
        expected: &'static str,
    },
    /// An input file that is cut short or broken.
    #[error("{} cannot be read {}: {reason}; fetch or write the file again", path.display(), samples::beyond(last))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The key of the last whole sample before the damage.
        last: Option<String>,
        /// How one can tell.
        reason: String,
    },
    /// A cache that cannot be had.
    #[error(
        "cannot keep decoded images in {} (data.cache_gib = {gib}): {reason}; set TMPDIR to a folder on a disk with \
         room, or lower data.cache_gib",
        path.display()
    )]
    Cache {
        /// What was asked for.
        gib: f64,
        /// The folder of temporary files.
        path: PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// A thread that should load images could not be started, or is gone.
    #[error("the image loader stopped: {0}")]
    Loader(String),
    /// There is no memory for a batch.
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
    /// The error for a `path` without an image, with notes on what was passed over in it.
    fn empty(path: &Path, notes: &[String]) -> DataError {
        match notes {
            [] => DataError::Empty(path.to_owned()),
            notes => DataError::AllOmitted { path: path.to_owned(), notes: notes.to_vec() },
        }
    }

    /// The same; but where there is no image and an archive, that is what is wrong.
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
