//! Inputs of an export, one image at a time in a fixed order, with what came along: a folder, WebDataset shards, Parquet, a
//! JSONL list.
//!
//! Unlike a [`super::Dataset`], which training shuffles, these are read from first to last and need
//! not fit in memory. `open` tells the kinds apart and each kind has its file; `key` decides which
//! names are allowed for samples, `labels` and `captions` handle labels and captions; the other
//! fields stay as they were written ([`Carried`]), and `beside` reads the files beside the images of a folder.

mod beside;
mod captions;
pub(super) mod endings;
mod entries;
mod folder;
pub(super) mod key;
pub(super) mod labels;
mod links;
mod list;
mod members;
mod metadata;
mod open;
pub(super) mod parquet;
mod selection;
mod spelling;
mod survey;
pub(super) mod webdataset;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;
pub use labels::Classes;
pub(super) use open::{Found, recognise};
use pixtok_base::Carried;
pub use selection::Selection;

/// One image of an input, with what came along.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names the image within the input; folders apart by `/`, no dot after the last of them.
    pub key: String,
    /// Where the image is, or why this sample has none.
    pub image: Result<Encoded, String>,
    /// Its class.
    pub label: Option<i64>,
    /// Its caption.
    pub text: Option<String>,
    /// Its other fields.
    pub json: Option<Carried>,
    /// What differs from the input.
    pub altered: Altered,
}

/// How a sample differs from its input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Altered {
    /// Non-finite numbers in its JSON, which became null.
    pub non_finite: u64,
    /// Captions of further columns, which are not taken.
    pub captions: u64,
}

/// The content of an image file, not yet decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoded {
    /// In a file of its own.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

/// The samples of an input, from first to last.
pub trait SampleStream: Send {
    /// The next sample whose key `wanted` accepts. `wanted` is asked once for each sample in turn, and of those that it
    /// refuses no image is kept.
    ///
    /// # Errors
    /// When the input is damaged or not what it should be; the error names the file and the sample. There is nothing to
    /// come after it.
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError>;
}

/// What may be given, as error messages list it.
pub(super) const INPUTS: &str = "a folder of images, a .tar file or a folder of them, a .parquet file or a folder of them, or a .jsonl list";

/// Where damage begins, for an error message.
pub(super) fn beyond(last: &Option<String>) -> String {
    match last {
        Some(key) => format!("beyond the sample {key}"),
        None => "even to its first sample".to_owned(),
    }
}

/// A kind of input.
trait Input: Debug + Send + Sync {
    /// As [`SampleSet::kind`].
    fn kind(&self) -> &'static str;
    /// As [`SampleSet::classes`].
    fn classes(&self) -> &[String] {
        &[]
    }
    /// As [`SampleSet::notes`], without what is passed over next to the files of the input.
    fn notes(&self) -> &[String];
    /// As [`SampleSet::len`].
    fn len(&self) -> Option<u64>;
    /// As [`SampleSet::fingerprint`].
    fn fingerprint(&self) -> String;
    /// As [`SampleSet::sizes`].
    fn sizes(&self) -> Result<Option<String>, DataError> {
        Ok(None)
    }
    /// As [`SampleSet::stream`]; after an error it is not asked again.
    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError>;
    /// As [`SampleSet::keys`].
    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError>;
    /// As [`SampleSet::prefix_keys`].
    fn prefix_keys(&mut self) -> bool {
        false
    }
}

/// Calls `each` with every key of `stream`, all from the one input `path`.
fn keys_of(
    mut stream: Box<dyn SampleStream>,
    path: &Path,
    each: &mut dyn FnMut(&Path, &str),
) -> Result<(), DataError> {
    let mut keep = |key: &str| {
        each(path, key);
        false
    };
    while stream.next(&mut keep)?.is_some() {}
    Ok(())
}

/// An input, opened: what it is and how to read it from its start.
#[derive(Debug)]
pub struct SampleSet {
    input: Box<dyn Input>,
    notes: Vec<String>,
}

impl SampleSet {
    /// Tells what kind of input `path` is, by what is there. Reads no image.
    ///
    /// # Errors
    /// When nothing is there, when it is of no known kind or of several, and when the names in it, the columns of a Parquet
    /// file or the like show already that it cannot be read.
    pub fn open(path: &Path) -> Result<SampleSet, DataError> {
        Self::select(path, &Selection::default())
    }

    /// As [`SampleSet::open`], with a selection by the user.
    ///
    /// # Errors
    /// As [`SampleSet::open`], and when something that was asked for is missing or does not
    /// convert.
    pub fn select(path: &Path, selection: &Selection) -> Result<SampleSet, DataError> {
        let (input, mut notes) = open::open(path, selection)?;
        notes.extend_from_slice(input.notes());
        Ok(SampleSet { input, notes })
    }

    /// `folder`, `webdataset`, `parquet` or `list`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.input.kind()
    }

    /// The class names by label number. In a folder these are the first-level folders with images
    /// in them, sorted; if labels are strings, they are those strings. Empty if labels are the
    /// input's own numbers.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.input.classes()
    }

    /// What a user should know before the work starts: what is passed over in the input, and what
    /// becomes of its labels and captions.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The number of samples where it is known without reading everything: not for WebDataset.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "whether a tar is empty only reading it tells")]
    pub fn len(&self) -> Option<u64> {
        self.input.len()
    }

    /// A hash (blake3, hexadecimal) to notice that a resumed job meets other files: over the names in a folder, over the names
    /// and sizes of shards, over the name and the content of a list. Where they lie is left out.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.input.fingerprint()
    }

    /// A hash (blake3, hexadecimal) of the sizes of up to 100,000 evenly spaced images, if the
    /// fingerprint covers only their names: for a folder and for a list.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn sizes(&self) -> Result<Option<String>, DataError> {
        self.input.sizes()
    }

    /// Calls `each` with the key of every sample, in the order of the stream, and with the file or
    /// folder that the sample is from. Reads the headers of tars, the key column of Parquet files,
    /// and all of a list.
    ///
    /// # Errors
    /// As those of the stream: the input is damaged or not what it should be.
    pub fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError> {
        self.input.keys(each)
    }

    /// Puts the name of its tar and a slash before each key, so that keys of different tars differ.
    /// Returns whether this is possible: only keys from tars can have a prefix.
    pub fn prefix_keys(&mut self) -> bool {
        self.input.prefix_keys()
    }

    /// The samples, always from the first one. The stream ends at its first error.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        Ok(Box::new(Ending { inner: Some(self.input.stream()?) }))
    }
}

/// Nothing comes after an error, nor after the end.
struct Ending {
    inner: Option<Box<dyn SampleStream>>,
}

impl SampleStream for Ending {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let found = inner.next(wanted);
        if !matches!(found, Ok(Some(_))) {
            self.inner = None;
        }
        found
    }
}

/// A hash over the names and sizes of an input's files.
fn fingerprint(files: &[PathBuf]) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    for path in files {
        let size = fs::metadata(path).map_err(|source| DataError::File { path: path.clone(), source })?.len();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(&size.to_le_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests;
