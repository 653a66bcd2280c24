//! `manifest.jsonl`: one line for each finished shard. A complete line means that the shard's files
//! are complete too.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ExportError;
use super::error::io_error;
use super::remarks::Remarks;
use super::skipped::Skipped;
use pixtok_base::Action;

/// The file name of the manifest in an output folder.
pub(super) const MANIFEST: &str = "manifest.jsonl";

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The number of the shard, from 0.
    pub shard: u32,
    /// The number of rows in it.
    pub rows: u64,
    pub first_key: String,
    pub last_key: String,
    /// The number of ids in it, including framing.
    pub tokens: u64,
    /// Its files; a folder of single files counts as one.
    pub files: Vec<FileEntry>,
    /// The size in bytes of its ids under zstd.
    pub zstd_bytes: u64,
    /// The number of samples of the input that were completed when the shard ended.
    pub input_end: u64,
    /// Samples without an image that were met while the shard was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// What was changed in the data of its images.
    #[serde(default, skip_serializing_if = "Remarks::are_none")]
    pub remarks: Remarks,
    /// The shares of their area that its pictures kept, summed over the images, in millionths. Whole
    /// numbers, so that a resumed job ends with the same bytes. Absent in merged sets and in those
    /// of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<u64>,
}

/// A file of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub name: String,
    pub bytes: u64,
    /// The hash of the file; for a folder, of its files' contents in the order of their numbers.
    pub blake3: String,
}

/// Reads the complete lines. An incomplete line, which a killed process left, is cut off.
pub(super) fn read(folder: &Path) -> Result<Vec<Entry>, ExportError> {
    let path = folder.join(MANIFEST);
    if !path.exists() {
        return Ok(vec![]);
    }
    let text = fs::read_to_string(&path).map_err(io_error(Action::Read, &path))?;
    let whole = whole_lines(&text).len();
    if whole < text.len() {
        let file = OpenOptions::new().write(true).open(&path).map_err(io_error(Action::Open, &path))?;
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io_error(Action::Write, &path))?;
    }
    parse(&text, &path)
}

/// Reads the complete lines without changing the file; `None` if there is no manifest.
pub(super) fn listed(folder: &Path) -> Result<Option<Vec<Entry>>, ExportError> {
    let path = folder.join(MANIFEST);
    if !path.exists() {
        return Ok(None);
    }
    parse(&fs::read_to_string(&path).map_err(io_error(Action::Read, &path))?, &path).map(Some)
}

fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |end| end + 1)]
}

fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, ExportError> {
    let mut entries: Vec<Entry> = vec![];
    for (number, line) in whole_lines(text).lines().enumerate() {
        let entry: Entry =
            serde_json::from_str(line).map_err(|error| damaged(path, number, &error.to_string()))?;
        if entry.shard as usize != number {
            return Err(damaged(path, number, "it is of another shard"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn damaged(path: &Path, line: usize, reason: &str) -> ExportError {
    ExportError::Output(format!(
        "{} is damaged in line {}: {reason}; remove the folder and export again",
        path.display(),
        line + 1
    ))
}

/// Appends a line and waits until it is on disk.
pub(super) fn append(folder: &Path, entry: &Entry) -> Result<(), ExportError> {
    let path = folder.join(MANIFEST);
    let written = OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| {
        file.write_all(&line(entry)?)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    });
    written.map_err(io_error(Action::Write, &path))
}

/// The text of a file with these lines.
pub(super) fn text(entries: &[Entry]) -> Result<Vec<u8>, ExportError> {
    let lines: Result<Vec<Vec<u8>>, std::io::Error> = entries.iter().map(line).collect();
    Ok(lines.map_err(io_error(Action::Write, Path::new(MANIFEST)))?.concat())
}

fn line(entry: &Entry) -> Result<Vec<u8>, std::io::Error> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(shard: u32) -> Entry {
        Entry {
            shard,
            rows: 3,
            first_key: "a".into(),
            last_key: "c".into(),
            tokens: 12,
            files: vec![FileEntry { name: format!("{shard}.bin"), bytes: 24, blake3: "00".into() }],
            zstd_bytes: 20,
            input_end: 4,
            skipped: vec![Skipped { key: "b".into(), reason: "broken".into(), path: None }],
            remarks: Remarks::default(),
            kept: Some(1_750_000),
        }
    }

    #[test]
    fn lines_come_back_and_a_torn_one_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
        append(folder.path(), &entry(0)).unwrap();
        append(folder.path(), &entry(1)).unwrap();
        let path = folder.path().join(MANIFEST);
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole, text(&[entry(0), entry(1)]).unwrap());
        fs::write(&path, [&whole[..], b"{\"shard\":2,\"ro"].concat()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [entry(0), entry(1)]);
        assert_eq!(fs::read(&path).unwrap(), whole);
        fs::write(&path, text(&[entry(1)]).unwrap()).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("line 1: it is of another shard"));
    }
}
