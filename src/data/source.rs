//! Which images make up a data set, and which part of them is meant.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::DataError;
use super::cache::{Cache, Kept};
use super::fingerprint::Fingerprint;
use super::folder::ImageFolder;
use super::pass::spread;
use super::samples::{Found, Selection, recognise};
use super::shards::Shards;
use super::tables::TableRows;
use super::transform::Form;
use crate::picture::{self, DecodeOptions, Decoded};

/// Which part of the images. The part of an image depends on its name alone, so it stays what it is
/// when others are added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// All of them.
    All,
    /// Those not kept for validation.
    Train {
        /// The share that is kept for validation, in (0, 1).
        val_share: f64,
    },
    /// Those kept for validation.
    Val {
        /// The share that is kept for validation, in (0, 1).
        val_share: f64,
    },
}

impl Split {
    pub(super) fn takes(self, relative: &[u8]) -> bool {
        let in_val = |share: f64| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&blake3::hash(relative).as_bytes()[..8]);
            // 2^64 is exact in f64, and so is its product with the share.
            (u64::from_le_bytes(bytes) as f64) < share * 2f64.powi(64)
        };
        match self {
            Self::All => true,
            Self::Train { val_share } => !in_val(val_share),
            Self::Val { val_share } => in_val(val_share),
        }
    }

    /// The error for a part of `images` in which there is none.
    pub(super) fn empty(self, images: usize) -> DataError {
        match self {
            Self::Train { val_share: share } => DataError::EmptySplit { share, images, part: "training" },
            Self::Val { val_share: share } => DataError::EmptySplit { share, images, part: "validation" },
            // Reached by no caller: `All` takes every image found.
            Self::All => DataError::EmptySplit { share: 0.0, images, part: "training" },
        }
    }
}

/// The images of a data set, each with an index: a folder tree, tar shards, or Parquet files.
#[derive(Debug)]
pub struct Dataset {
    source: Source,
    /// What is passed over beside shards.
    beside: Vec<String>,
    kept: Option<Kept>,
}

#[derive(Debug)]
enum Source {
    Folder(ImageFolder),
    Shards(Shards),
    Tables(Box<TableRows>),
}

impl Dataset {
    /// Lists the images of `path`, told apart as the input of an export is: those in a folder and
    /// its subfolders, or those in a .tar or .parquet file or in such files of a folder. Of a
    /// folder it reads no file, of tars and Parquet the headers and the classes.
    ///
    /// # Errors
    /// When there is nothing, nothing that can be trained on, a tar is damaged, or no image of that part.
    pub fn open(path: &Path, split: Split) -> Result<Dataset, DataError> {
        Self::select(path, split, &Selection::default())
    }

    /// As [`Dataset::open`], with what a user says of what is to be taken.
    ///
    /// # Errors
    /// As [`Dataset::open`], and when what was asked for is not there.
    pub fn select(path: &Path, split: Split, selection: &Selection) -> Result<Dataset, DataError> {
        let (found, beside) = recognise(path).map_err(|error| match error {
            DataError::NoInput(path) => DataError::Missing(path),
            DataError::UnknownInput(path) => DataError::NotImages(path),
            other => other,
        })?;
        selection.check(&found)?;
        let source = match found {
            Found::Folder { compressed } => Source::Folder(
                ImageFolder::open(path, split).map_err(|error| error.explained_by(compressed))?,
            ),
            Found::Tars(tars) => Source::Shards(Shards::open(path, tars, split, selection)?),
            Found::Parquets(files) => {
                Source::Tables(Box::new(TableRows::open(path, files, split, selection)?))
            }
            Found::List => return Err(DataError::NotImages(path.to_owned())),
        };
        Ok(Dataset { source, beside, kept: None })
    }

    /// The same, with what has been decoded of it kept in `cache`, if there is one.
    #[must_use]
    pub fn with_cache(self, cache: Option<Arc<Cache>>) -> Dataset {
        let kept = cache.map(|cache| Kept::new(cache, self.len()));
        Dataset { kept, ..self }
    }

    /// What is kept, if it is kept in this form.
    pub(super) fn kept(&self, form: Form, decode: &DecodeOptions) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.is_of(form, decode))
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Folder(folder) => folder.len(),
            Source::Shards(shards) => shards.len(),
            Source::Tables(tables) => tables.len(),
        }
    }

    /// Whether there is no image; never so after [`Dataset::open`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The places of the images that an evaluation of at most `max_images` takes: spread evenly, in
    /// order.
    pub fn evaluated(&self, max_images: Option<usize>) -> impl ExactSizeIterator<Item = usize> + use<> {
        let total = self.len();
        let images = max_images.unwrap_or(total).min(total);
        (0..images).map(move |k| spread(k, images, total))
    }

    /// The name of image `index`: its path relative to the folder, or the file name of its tar, `/`
    /// and its name in there, or the key that its row has in an export. Bytes that are not UTF-8
    /// are written as `\xFF`.
    #[must_use]
    pub fn name(&self, index: usize) -> Cow<'_, str> {
        match &self.source {
            Source::Folder(folder) => folder.name(index),
            Source::Shards(shards) => shards.name(index).into(),
            Source::Tables(tables) => tables.name(index).into(),
        }
    }

    /// What is passed over in the data set, and what is taken for something special, a sentence
    /// each; the same for every split.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        let own = match &self.source {
            Source::Folder(folder) => folder.notes(),
            Source::Shards(shards) => shards.notes(),
            Source::Tables(tables) => tables.notes(),
        };
        self.beside.iter().chain(own)
    }

    /// Reads and decodes image `index`.
    ///
    /// # Errors
    /// Why it gives no picture, in words.
    pub fn picture(&self, index: usize, options: &DecodeOptions) -> Result<Decoded, String> {
        match &self.source {
            Source::Folder(folder) => {
                picture::read(&folder.path(index), options).map_err(|error| error.to_string())
            }
            Source::Shards(shards) => {
                picture::decode(&shards.read(index)?, options).map_err(|error| error.to_string())
            }
            Source::Tables(tables) => {
                picture::decode(tables.read(index)?.data(), options).map_err(|error| error.to_string())
            }
        }
    }

    /// The class of image `index`, a position in [`Dataset::labels`]; none if it lies right in the folder, or has none
    /// in its tar.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<usize> {
        match &self.source {
            Source::Folder(folder) => folder.label(index),
            Source::Shards(shards) => shards.label(index),
            Source::Tables(tables) => tables.label(index),
        }
    }

    /// The class names, the same for every split: the first-level folders with images in them, sorted; or the numbers
    /// that are classes in tars, by size.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        match &self.source {
            Source::Folder(folder) => folder.labels(),
            Source::Shards(shards) => shards.labels(),
            Source::Tables(tables) => tables.labels(),
        }
    }

    /// What a resumed run can know of its images without reading them.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match &self.source {
            Source::Folder(folder) => {
                Fingerprint::new(folder.fingerprint(), folder.len(), |index| folder.path(index))
            }
            Source::Shards(shards) => {
                let tars = shards.tars();
                Fingerprint::new(shards.fingerprint(), tars.len(), |index| tars[index].to_owned())
            }
            Source::Tables(tables) => {
                let files = tables.files();
                Fingerprint::new(tables.fingerprint(), files.len(), |index| files[index].to_owned())
            }
        }
    }

    /// The images of each tar, or of each page of Parquet, which lie in it in this order; none for
    /// a folder, where files lie anywhere.
    pub(super) fn shards(&self) -> Option<Vec<Range<u32>>> {
        match &self.source {
            Source::Folder(_) => None,
            Source::Shards(shards) => Some(shards.ranges()),
            Source::Tables(tables) => Some(tables.ranges()),
        }
    }

    /// How many images can be mixed at a time, `asked` at most.
    pub(super) fn window(&self, asked: usize) -> usize {
        match &self.source {
            Source::Folder(_) | Source::Shards(_) => asked,
            Source::Tables(tables) => tables.window(asked),
        }
    }
}
