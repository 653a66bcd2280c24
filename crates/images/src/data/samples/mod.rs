//! The inputs of an export, one image at a time in a fixed order, with its metadata: a folder,
//! WebDataset shards, Parquet, a JSONL list.
//!
//! Unlike a [`super::Dataset`], which training shuffles, these are read from first to last and need
//! not fit in memory. `open` recognises the kind of an input, and each kind has its file. `key`
//! defines which names are allowed for samples; `labels` and `captions` handle labels and captions.
//! The other fields keep their spelling ([`Carried`]), and `beside` reads the files beside the
//! images of a folder.
//! of a folder.

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

use super::{DataError, Share};
pub use labels::Classes;
pub(super) use open::{Found, recognise};
use pixtok_base::Carried;
pub use selection::Selection;

/// An image of an input, with its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of the image within the input. Folders are separated by `/`; there is no dot after
    /// the last one.
    pub key: String,
    /// The content of the image, or why this sample has none.
    pub image: Result<Encoded, String>,
    /// The class of the image.
    pub label: Option<i64>,
    /// The caption of the image.
    pub text: Option<String>,
    /// The other fields of the image.
    pub json: Option<Carried>,
    /// How the sample differs from the input.
    pub altered: Altered,
    /// The file in which the image was looked for, in full, if it is not there.
    pub tried: Option<PathBuf>,
}

/// How a sample differs from its input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Altered {
    /// The number of non-finite numbers in its JSON, which became null.
    pub non_finite: u64,
    /// The number of captions in further columns, which are not used.
    pub captions: u64,
}

/// The content of an image file, not yet decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoded {
    /// A file.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

/// The samples of an input, in order.
pub trait SampleStream: Send {
    /// The next sample whose key `wanted` accepts. `wanted` is called once for each sample in turn.
    /// The images of samples that it refuses are not kept.
    ///
    /// # Errors
    /// If the input is damaged or not as expected. The error names the file and the sample. Nothing
    /// follows an error.
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError>;
}

/// The possible inputs, as error messages list them.
pub(super) const INPUTS: &str = "a folder of images, a .tar file or a folder of them, a .parquet file or a folder of them, or a .jsonl list";

/// The place where damage begins, for error messages.
pub(super) fn beyond(last: &Option<String>) -> String {
    match last {
        Some(key) => format!("beyond the sample {key}"),
        None => "even to its first sample".to_owned(),
    }
}

/// A kind of input.
trait Input: Debug + Send + Sync {
    /// See [`SampleSet::kind`].
    fn kind(&self) -> &'static str;
    /// See [`SampleSet::classes`].
    fn classes(&self) -> &[String] {
        &[]
    }
    /// See [`SampleSet::notes`]; without files that are skipped beside the input.
    fn notes(&self) -> &[String];
    /// See [`SampleSet::len`].
    fn len(&self) -> Option<u64>;
    /// See [`SampleSet::fingerprint`].
    fn fingerprint(&self) -> String;
    /// See [`SampleSet::sizes`].
    fn sizes(&self) -> Result<Option<String>, DataError> {
        Ok(None)
    }
    /// See [`SampleSet::stream`]. After an error it is not called again.
    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError>;
    /// See [`SampleSet::keys`].
    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError>;
    /// See [`SampleSet::prefix_keys`].
    fn prefix_keys(&mut self) -> bool {
        false
    }
    /// See [`SampleSet::files_of_share`].
    fn files_of_share(&self) -> Option<[usize; 2]> {
        None
    }
    /// See [`SampleSet::labels_used`].
    fn labels_used(&self) -> Option<bool> {
        None
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

/// An opened input.
#[derive(Debug)]
pub struct SampleSet {
    input: Box<dyn Input>,
    notes: Vec<String>,
}

impl SampleSet {
    /// Opens the input at `path`, whose kind is recognised. Reads no image.
    ///
    /// # Errors
    /// If nothing exists at the path, if it is of no known kind or of several, or if names in it,
    /// the columns of a Parquet file or similar properties already show that it cannot be read.
    pub fn open(path: &Path) -> Result<SampleSet, DataError> {
        Self::select(path, &Selection::default())
    }

    /// Opens an input like [`SampleSet::open`], with a selection by the user.
    ///
    /// # Errors
    /// The same as [`SampleSet::open`]; also if something requested is missing or cannot be
    /// converted.
    pub fn select(path: &Path, selection: &Selection) -> Result<SampleSet, DataError> {
        Self::select_share(path, selection, Share::whole())
    }

    /// Opens only the files of `share`, if the input is at least as many tars or Parquet files as
    /// there are shares: file number i, in the order of their names, belongs to share i modulo
    /// their number. Otherwise opens everything, as [`SampleSet::select`].
    ///
    /// Of the other files it looks up the sizes, and reads the footers of Parquet files. It reads
    /// their labels only if those of its own files have to agree with them: names of classes are
    /// numbered over the whole input.
    ///
    /// # Errors
    /// The same as [`SampleSet::select`].
    pub fn select_share(path: &Path, selection: &Selection, share: Share) -> Result<SampleSet, DataError> {
        let (input, mut notes) = open::open(path, selection, share)?;
        notes.extend_from_slice(input.notes());
        Ok(SampleSet { input, notes })
    }

    /// The kind of the input: `folder`, `webdataset`, `parquet` or `list`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.input.kind()
    }

    /// The class names, by label number. In a folder these are the first-level folders that contain
    /// images, sorted; if labels are strings, they are those strings. Empty if labels are the
    /// input's own numbers.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.input.classes()
    }

    /// Notes for the user before the work starts: what is skipped in the input, and how its labels
    /// and captions are used.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The number of files of the share that was opened, and of all; `None` if whole files are not
    /// dealt out.
    #[must_use]
    pub fn files_of_share(&self) -> Option<[usize; 2]> {
        self.input.files_of_share()
    }

    /// Whether the labels in tars or Parquet files are used; `None` if no sample has a label.
    #[must_use]
    pub fn labels_used(&self) -> Option<bool> {
        self.input.labels_used()
    }

    /// The number of samples, if it is known without reading everything. It is not for WebDataset.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "only reading a tar shows whether it is empty")]
    pub fn len(&self) -> Option<u64> {
        self.input.len()
    }

    /// A hash (blake3, hexadecimal) that shows whether a resumed job has different files: over the
    /// names in a folder, over the names and sizes of shards, over the name and the content of a
    /// list. Their location does not matter.
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
    /// folder that contains the sample. Reads the headers of tars, the key column of Parquet files,
    /// and all of a list.
    ///
    /// # Errors
    /// Those of the stream: the input is damaged or not as expected.
    pub fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError> {
        self.input.keys(each)
    }

    /// Prefixes each key with the name of its tar and a slash, so that keys of different tars
    /// differ. Returns whether this is possible: only keys from tars can have a prefix.
    pub fn prefix_keys(&mut self) -> bool {
        self.input.prefix_keys()
    }

    /// The samples, from the first one. The stream ends at its first error.
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        Ok(Box::new(Ending { inner: Some(self.input.stream()?) }))
    }
}

/// A stream that returns nothing after an error or after its end.
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

/// A hash of the names and sizes of an input's files.
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
