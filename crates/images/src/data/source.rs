//! The images of a data set, and the part of them that is used.

use std::borrow::Cow;
use std::fs;
use std::iter;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::cache::{Cache, Kept};
use super::fingerprint::Fingerprint;
use super::folder::ImageFolder;
use super::pass::{Pass, spread};
use super::samples::{Found, Selection, recognise};
use super::shards::Shards;
use super::tables::TableRows;
use super::transform::Form;
use super::{Cursor, DataError, Share};
use crate::picture::{self, DecodeOptions, Decoded, Stored};

/// The part of the images that is used. The part of an image depends only on its name, so it does
/// not change when other images are added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// All images.
    All,
    /// The images that are not kept for validation.
    Train {
        /// The share that is kept for validation, in (0, 1).
        val_share: f64,
    },
    /// The images that are kept for validation.
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

    /// The error for a part of `images` that has no image.
    pub(super) fn empty(self, images: usize) -> DataError {
        match self {
            Self::Train { val_share: share } => DataError::EmptySplit { share, images, part: "training" },
            Self::Val { val_share: share } => DataError::EmptySplit { share, images, part: "validation" },
            // Never reached: `All` takes every image found.
            Self::All => DataError::EmptySplit { share: 0.0, images, part: "training" },
        }
    }
}

/// The images of a data set, each with an index: a folder tree, tar shards, or Parquet files.
#[derive(Debug)]
pub struct Dataset {
    /// The path that was given.
    root: PathBuf,
    /// Shared with the threads that read sizes.
    source: Arc<Source>,
    /// Notes on what is skipped next to shards.
    beside: Vec<String>,
    kept: Option<Kept>,
    /// Computed once, since each file costs a request on a network disk.
    stated: OnceLock<(Fingerprint, Vec<u64>)>,
    /// Width and height of each picture, where they were asked for.
    sizes: OnceLock<Vec<[u32; 2]>>,
}

#[derive(Debug)]
enum Source {
    Folder(ImageFolder),
    Shards(Shards),
    Tables(Box<TableRows>),
}

impl Dataset {
    /// Lists the images of `path`, whose kind is recognised in the same way as for an export: the
    /// images in a folder and its subfolders, or those in a .tar or .parquet file or in a folder of
    /// such files. Reads no file of a folder; of tars and Parquet files it reads the headers and
    /// the labels.
    ///
    /// # Errors
    /// When there is nothing at the path, nothing that can be trained on, a damaged tar, or no
    /// image of the requested part.
    pub fn open(path: &Path, split: Split) -> Result<Dataset, DataError> {
        Self::select(path, split, &Selection::default())
    }

    /// The same as [`Dataset::open`], with a selection by the user.
    ///
    /// # Errors
    /// The same as [`Dataset::open`]; also when something that was asked for does not exist.
    pub fn select(path: &Path, split: Split, selection: &Selection) -> Result<Dataset, DataError> {
        Self::select_watched(path, split, selection, &|_| ())
    }

    /// The same as [`Dataset::select`]; `found_more` is told how many more images were found, from
    /// several threads.
    ///
    /// # Errors
    /// The same as [`Dataset::select`].
    pub fn select_watched(
        path: &Path,
        split: Split,
        selection: &Selection,
        found_more: &(dyn Fn(u64) + Sync),
    ) -> Result<Dataset, DataError> {
        let (found, beside) = recognise(path).map_err(|error| match error {
            DataError::NoInput(path) => DataError::Missing(path),
            DataError::UnknownInput(path) => DataError::NotImages(path),
            other => other,
        })?;
        selection.check(&found)?;
        let source = match found {
            Found::Folder { compressed } => Source::Folder(
                ImageFolder::open_watched(path, split, found_more)
                    .map_err(|error| error.explained_by(compressed))?,
            ),
            Found::Tars(tars) => Source::Shards(Shards::open(path, tars, split, selection, found_more)?),
            Found::Parquets(files) => {
                Source::Tables(Box::new(TableRows::open(path, files, split, selection, found_more)?))
            }
            Found::List => return Err(DataError::NotImages(path.to_owned())),
        };
        Ok(Dataset {
            root: path.to_owned(),
            source: Arc::new(source),
            beside,
            kept: None,
            stated: OnceLock::new(),
            sizes: OnceLock::new(),
        })
    }

    /// The same data set, whose decoded images are kept in `cache`, if there is one.
    #[must_use]
    pub fn with_cache(self, cache: Option<Arc<Cache>>) -> Dataset {
        let kept = cache.map(|cache| Kept::new(cache, self.len()));
        Dataset { kept, ..self }
    }

    /// The kept images, if they are kept in this form.
    pub(super) fn kept(&self, form: Form, decode: &DecodeOptions) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.is_of(form, decode))
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        match &*self.source {
            Source::Folder(folder) => folder.len(),
            Source::Shards(shards) => shards.len(),
            Source::Tables(tables) => tables.len(),
        }
    }

    /// Whether there is no image. Never true after [`Dataset::open`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of the images that an evaluation of at most `max_images` uses: evenly spread, in
    /// order.
    pub fn evaluated(&self, max_images: Option<usize>) -> impl ExactSizeIterator<Item = usize> + use<> {
        let total = self.len();
        let images = max_images.unwrap_or(total).min(total);
        (0..images).map(move |k| spread(k, images, total))
    }

    /// Those of [`Dataset::evaluated`] that `share` takes, in order.
    #[must_use]
    pub fn evaluated_by(&self, share: Share, max_images: Option<usize>) -> Vec<usize> {
        let images = max_images.unwrap_or(usize::MAX).min(self.len());
        let stream = Pass::Eval { images }.stream(self, share, Cursor::default(), 1);
        stream.images.into_iter().map(|image| image as usize).collect()
    }

    /// The name of image `index`: its path relative to the folder; or the tar's file name, `/`, and
    /// the image's name in the tar; or the key of its row in an export. Bytes that are not UTF-8
    /// are written as `\xFF`.
    #[must_use]
    pub fn name(&self, index: usize) -> Cow<'_, str> {
        match &*self.source {
            Source::Folder(folder) => folder.name(index),
            Source::Shards(shards) => shards.name(index).into(),
            Source::Tables(tables) => tables.name(index).into(),
        }
    }

    /// A sentence for each kind of file that is skipped in the data set or treated specially; the
    /// same for every split.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        let own = match &*self.source {
            Source::Folder(folder) => folder.notes(),
            Source::Shards(shards) => shards.notes(),
            Source::Tables(tables) => tables.notes(),
        };
        self.beside.iter().chain(own)
    }

    /// How many files, members or folders are skipped in it, with the words for each reason that
    /// occurs; the same for every split. [`Dataset::notes`] says it at length.
    #[must_use]
    pub fn passed_over(&self) -> &[(&'static str, u64)] {
        match &*self.source {
            Source::Folder(folder) => folder.passed_over(),
            Source::Shards(shards) => shards.passed_over(),
            Source::Tables(_) => &[],
        }
    }

    /// The path that was given.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads and decodes image `index`.
    ///
    /// # Errors
    /// A message that says why it gives no picture.
    pub fn picture(&self, index: usize, options: &DecodeOptions) -> Result<Decoded, String> {
        match &*self.source {
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

    /// A function that reads width and height of the picture with an index once it is upright, from
    /// its header; `None` if it states none.
    pub(super) fn size_reader(&self) -> impl Fn(usize) -> Option<(usize, usize)> + Send + Sync + use<> {
        let source = Arc::clone(&self.source);
        move |index| match &*source {
            Source::Folder(folder) => picture::size(&folder.path(index)).ok(),
            Source::Shards(shards) => {
                let (file, start, length) = shards.stored(index)?;
                let read = |at: u64, bytes: &mut [u8]| file.read_exact_at(bytes, start + at);
                picture::size_of(&Stored { length, read: &read }).ok()
            }
            Source::Tables(tables) => picture::size_in(tables.read(index).ok()?.data()).ok(),
        }
    }

    /// Where the sizes of all pictures are kept once they were read.
    pub(super) fn sizes(&self) -> &OnceLock<Vec<[u32; 2]>> {
        &self.sizes
    }

    /// The class of image `index`, an index into [`Dataset::labels`]; `None` if it lies directly in
    /// the folder, or has no class in its tar.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<usize> {
        match &*self.source {
            Source::Folder(folder) => folder.label(index),
            Source::Shards(shards) => shards.label(index),
            Source::Tables(tables) => tables.label(index),
        }
    }

    /// The class names, the same for every split: the first-level folders with images in them,
    /// sorted; or the numbers that are classes in tars, in ascending order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        match &*self.source {
            Source::Folder(folder) => folder.labels(),
            Source::Shards(shards) => shards.labels(),
            Source::Tables(tables) => tables.labels(),
        }
    }

    /// A fingerprint of the images, by which a resumed run recognises them without reading them.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.stated().0.clone()
    }

    /// The fingerprint, and the sizes of the files that it queries.
    pub(super) fn stated(&self) -> &(Fingerprint, Vec<u64>) {
        self.stated.get_or_init(|| {
            let names = match &*self.source {
                Source::Folder(folder) => folder.fingerprint(),
                Source::Shards(shards) => shards.fingerprint(),
                Source::Tables(tables) => tables.fingerprint(),
            };
            let mut sizes = vec![];
            let fingerprint = Fingerprint::new(names, self.files(), |file| {
                let meta = fs::metadata(self.file(file)).ok();
                sizes.push(meta.as_ref().map_or(0, fs::Metadata::len));
                meta
            });
            (fingerprint, sizes)
        })
    }

    /// Whether each image is a file of a folder.
    pub(super) fn is_folder(&self) -> bool {
        matches!(*self.source, Source::Folder(_))
    }

    /// The number of its files: images in a folder, or tars or Parquet files.
    pub(super) fn files(&self) -> usize {
        match &*self.source {
            Source::Folder(folder) => folder.len(),
            Source::Shards(shards) => shards.tars(),
            Source::Tables(tables) => tables.files(),
        }
    }

    /// The path of one file.
    pub(super) fn file(&self, file: usize) -> PathBuf {
        match &*self.source {
            Source::Folder(folder) => folder.path(file),
            Source::Shards(shards) => shards.tar(file).to_owned(),
            Source::Tables(tables) => tables.file(file).to_owned(),
        }
    }

    /// Whether the file itself may be a link.
    pub(super) fn may_be_link(&self, file: usize) -> bool {
        match &*self.source {
            Source::Folder(folder) => folder.is_link(file),
            Source::Shards(_) | Source::Tables(_) => true,
        }
    }

    /// The name of a file, independent of the location of the data set.
    pub(super) fn file_name(&self, file: usize) -> String {
        if let Source::Folder(folder) = &*self.source {
            return folder.name(file).into_owned();
        }
        let path = self.file(file);
        match path.strip_prefix(&self.root) {
            Ok(inside) if !inside.as_os_str().is_empty() => inside.to_string_lossy().into_owned(),
            _ => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The images in one file.
    pub(super) fn images_of(&self, file: usize) -> Range<usize> {
        match &*self.source {
            Source::Folder(_) => file..file + 1,
            Source::Shards(shards) => shards.images_of(file),
            Source::Tables(tables) => tables.images_of(file),
        }
    }

    /// The place of image `index` in its file: a member's offset in a tar, a row of a Parquet file.
    /// `None` for a member of a tar that cannot be used.
    pub(super) fn place_in_file(&self, index: usize) -> Option<u64> {
        match &*self.source {
            Source::Folder(_) => Some(0),
            Source::Shards(shards) => shards.offset(index),
            Source::Tables(tables) => Some(tables.row(index)),
        }
    }

    /// The images of each tar or each Parquet page of the files of `share`, in the order in which
    /// they lie there; `None` for a folder, whose files may lie anywhere on the disk.
    pub(super) fn shards(&self, share: Share) -> Option<Vec<Range<u32>>> {
        match &*self.source {
            Source::Folder(_) => None,
            Source::Shards(shards) => Some(shards.ranges(share)),
            Source::Tables(tables) => Some(tables.ranges(share)),
        }
    }

    /// The images of the files of `share`, in order; all images of a folder.
    pub(super) fn images_of_share(&self, share: Share) -> Vec<Range<u32>> {
        self.shards(share).unwrap_or_else(|| iter::once(0..self.len() as u32).collect())
    }

    /// The number of images that can be shuffled together, at most `asked`.
    pub(super) fn window(&self, asked: usize) -> usize {
        match &*self.source {
            Source::Folder(_) | Source::Shards(_) => asked,
            Source::Tables(tables) => tables.window(asked),
        }
    }
}
