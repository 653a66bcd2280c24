//! `manifest.json`: the files of a checkpoint, with the size and hash of each, so that a truncated
//! or altered checkpoint is never taken for a whole one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::Error;

/// The name of the manifest. It is written last; a folder without it is not a checkpoint.
pub(super) const FILE: &str = "manifest.json";
/// Far larger than any manifest. A longer file does not parse.
const MAX_BYTES: u64 = 1 << 20;
/// The format version of every JSON file that this program writes into a run folder.
pub(super) const FORMAT_VERSION: u64 = 1;

/// The content of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format_version: u64,
    /// The checkpoint's step, so that a renamed folder is not taken for another step.
    step: u64,
    files: BTreeMap<String, FileRecord>,
}

/// The size and hash of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRecord {
    bytes: u64,
    blake3: String,
}

impl Manifest {
    pub(super) fn new(step: u64, files: BTreeMap<String, FileRecord>) -> Manifest {
        Manifest { format_version: FORMAT_VERSION, step, files }
    }

    /// Reads the manifest of the checkpoint of `step` in `folder`. It may list only files with
    /// `known` names.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::UnknownFormat`], [`Error::Io`].
    pub(super) fn read(folder: &Path, step: u64, known: &[&str]) -> Result<Manifest, Error> {
        let damaged = |reason| Error::Damaged { path: folder.to_owned(), reason };
        let bytes = read_part(folder, FILE, MAX_BYTES)?;
        let manifest: Manifest = parse(&bytes, &folder.join(FILE))?;
        if manifest.step != step {
            return Err(damaged(format!("its {FILE} is that of step {}", manifest.step)));
        }
        match manifest.files.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(damaged(format!("its {FILE} lists {name}, which is not part of a checkpoint"))),
            None => Ok(manifest),
        }
    }

    /// The hash of a file, if the checkpoint has it.
    pub(super) fn blake3(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|record| record.blake3.as_str())
    }

    /// Whether the checkpoint has a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Reads one file and verifies that its bytes are those that were written.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub(super) fn read_verified(&self, folder: &Path, name: &str) -> Result<Vec<u8>, Error> {
        let damaged = |reason| Error::Damaged { path: folder.to_owned(), reason };
        let record =
            self.files.get(name).ok_or_else(|| damaged(format!("{name} is not listed in its {FILE}")))?;
        let bytes = read_part(folder, name, record.bytes)?;
        if bytes.len() as u64 != record.bytes {
            return Err(damaged(format!("{name} is not the {} bytes that were saved", record.bytes)));
        }
        if blake3::hash(&bytes).to_hex().as_str() != record.blake3 {
            return Err(damaged(format!("{name} was altered since it was saved (its hash differs)")));
        }
        Ok(bytes)
    }
}

/// Reads one file of a checkpoint, up to one byte more than `expected_bytes`, so that an oversized
/// file does not exhaust memory.
fn read_part(folder: &Path, name: &str, expected_bytes: u64) -> Result<Vec<u8>, Error> {
    let path = folder.join(name);
    let mut bytes = Vec::new();
    let read = File::open(&path)
        .and_then(|file| file.take(expected_bytes.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Damaged { path: folder.to_owned(), reason: format!("{name} is missing") })
        }
        Err(source) => Err(Error::Io { action: "read", path, source }),
    }
}

/// Parses a JSON file of a run folder, after checking its `format_version`.
///
/// # Errors
/// [`Error::UnknownFormat`], [`Error::Damaged`].
pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let damaged = |error: serde_json::Error| Error::Damaged {
        path: path.to_owned(),
        reason: format!("it is not the JSON that pixtok writes ({error})"),
    };
    let Version { format_version: found } = serde_json::from_slice(bytes).map_err(damaged)?;
    if found != FORMAT_VERSION {
        return Err(Error::UnknownFormat { path: path.to_owned(), found, known: FORMAT_VERSION });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// A writer that counts and hashes the bytes that pass through it.
#[derive(Debug)]
pub(super) struct Recorder<W> {
    inner: W,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl<W: Write> Recorder<W> {
    pub(super) fn new(inner: W) -> Recorder<W> {
        Recorder { inner, bytes: 0, hasher: blake3::Hasher::new() }
    }

    /// The inner writer, and the record of all bytes written.
    pub(super) fn finish(self) -> (W, FileRecord) {
        (self.inner, FileRecord { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}

impl<W: Write> Write for Recorder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        self.hasher.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
