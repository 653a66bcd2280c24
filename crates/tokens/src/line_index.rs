//! An index of the lines of a file, so that single lines can be read.

use std::path::PathBuf;
use std::sync::Arc;

use super::TokensError;
use super::files::Input;
use super::open_files::{FileAt, OpenFiles};

/// A file with one line for each row of a shard.
pub(super) struct LineIndex {
    file: FileAt,
    ends: Vec<u64>,
}

impl LineIndex {
    /// Reads through the file once. It must have one line for each of `rows` rows.
    pub fn open(path: PathBuf, rows: u64, files: &Arc<OpenFiles>) -> Result<Self, TokensError> {
        let file = files.open(path.clone())?;
        let mut input = Input::open(path)?;
        let (mut ends, mut end) = (vec![], 0);
        for number in 0..rows {
            let bytes = input.skip_line()?;
            if bytes == 0 {
                return Err(file.damaged(format!("it ends after {number} rows")));
            }
            end += bytes;
            ends.push(end);
        }
        if input.left() > 0 {
            return Err(file.damaged(format!("it has more lines than the shard's {rows} rows")));
        }
        if end > 0 && file.array::<1>(rows - 1, end - 1)? != *b"\n" {
            return Err(file.damaged("its last line is cut off"));
        }
        ends.shrink_to_fit();
        Ok(Self { file, ends })
    }

    /// The line of row `number`, without its line end.
    pub fn line(&self, number: u64) -> Result<Vec<u8>, TokensError> {
        let at = number as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        self.file.take(number, start, self.ends[at] - 1 - start)
    }

    /// The error for a damaged file.
    pub fn damaged(&self, reason: impl Into<String>) -> TokensError {
        self.file.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let open = |text: &str, rows: u64| {
            std::fs::write(&path, text).unwrap();
            LineIndex::open(path.clone(), rows, &Arc::default())
        };
        let lines = open("one\n\nthree\n", 3).unwrap();
        let read: Vec<Vec<u8>> = [2, 0, 1].map(|number| lines.line(number).unwrap()).into();
        assert_eq!(read, [&b"three"[..], b"one", b""]);
        for (text, rows, part) in [
            ("one\ntwo\n", 3, "ends after 2 rows"),
            ("one\ntwo\n", 1, "more lines than the shard's 1 rows"),
            ("one\ntwo", 2, "last line is cut off"),
            ("one\nt", 1, "more lines"),
            ("", 1, "ends after 0 rows"),
        ] {
            let error = open(text, rows).map(drop).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
