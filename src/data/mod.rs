//! From a folder of image files to batches of uint8 tensors.
//!
//! `source` finds the files, `pass` decides which come next, `transform` crops and resizes a picture,
//! `assemble` makes a batch and `loader` has that done in the background; `bad` keeps count of the files that
//! cannot be used, `config` holds the settings. The order of the images and what is done to each are pure
//! functions of (seed, epoch, index), so two integers, the [`Cursor`], resume them, whatever the number of
//! threads. Nothing here knows of models or training.

mod assemble;
mod bad;
mod config;
mod loader;
mod pass;
mod source;
mod transform;

use std::io;
use std::path::PathBuf;

use crate::torch::TorchError;

pub use bad::{BadSample, BadSamples, TooManyBad};
pub use config::{Config, Crop, Filter, ImageSize};
pub use loader::{Batch, Cursor, Loader};
pub use source::{Dataset, EXTENSIONS, Split};

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
    /// No such folder.
    #[error(
        "{} does not exist; give a folder of images with data.train or --data, data.val or --val-data",
        .0.display()
    )]
    Missing(PathBuf),
    /// A file where a folder is needed.
    #[error("{} is a file; an image folder is needed", .0.display())]
    NotAFolder(PathBuf),
    /// A folder, or the entries of one, that cannot be read.
    #[error("cannot read the folder {}: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No file with a known extension below the folder.
    #[error(
        "no images in {} or its subfolders; files that end in {} are looked for",
        .0.display(),
        EXTENSIONS.join(", ")
    )]
    Empty(PathBuf),
    /// More files than a 32-bit index can tell apart.
    #[error("{} holds more than 2^32 images; split it", .0.display())]
    TooManyFiles(PathBuf),
    /// A share of the folder without a single image in it.
    #[error(
        "data.val_share = {share} leaves no image of {images} for {part}; set data.val to a folder, or \
         choose another share"
    )]
    EmptySplit {
        /// The share for validation.
        share: f64,
        /// Images in the whole folder.
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
    /// A thread that should load images could not be started, or is gone.
    #[error("the image loader stopped: {0}")]
    Loader(String),
    /// libtorch refused a batch, or there is no memory for one.
    #[error(transparent)]
    Torch(#[from] TorchError),
}
