//! Files with one JSON object per line: lists and metadata.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::data::DataError;
use pixtok_base::Carried;

/// The longest line that is read.
const LINE_LIMIT: u64 = 1 << 26;

/// The fields of a line, and the number of values in it that are not finite.
pub(in crate::data::samples) type Object = (Carried, u64);

/// The position of a line in a file.
#[derive(Debug, Clone, Copy)]
pub(in crate::data::samples) struct Span {
    pub(in crate::data::samples) start: u64,
    pub(in crate::data::samples) length: u64,
}

/// A file being read, line by line.
pub(in crate::data::samples) struct JsonLines {
    path: PathBuf,
    reader: BufReader<File>,
    /// The number of the line that was read most recently.
    pub(in crate::data::samples) number: u64,
    /// The position of the next line.
    start: u64,
}

impl JsonLines {
    pub(in crate::data::samples) fn open(path: &Path) -> Result<JsonLines, DataError> {
        let file = File::open(path).map_err(|source| DataError::File { path: path.to_owned(), source })?;
        Ok(JsonLines { path: path.to_owned(), reader: BufReader::new(file), number: 0, start: 0 })
    }

    /// The object on the next line that is not blank, and the position of the line.
    ///
    /// # Errors
    /// If the file cannot be read, or the line is too long or not an object.
    pub(in crate::data::samples) fn next(&mut self) -> Result<Option<(Span, Object)>, DataError> {
        loop {
            self.number += 1;
            let mut bytes = Vec::new();
            (&mut self.reader)
                .take(LINE_LIMIT)
                .read_until(b'\n', &mut bytes)
                .map_err(|source| DataError::File { path: self.path.clone(), source })?;
            let span = Span { start: self.start, length: bytes.len() as u64 };
            self.start += span.length;
            if bytes.is_empty() {
                return Ok(None);
            }
            if span.length == LINE_LIMIT {
                return Err(self.bad(format!("more than {LINE_LIMIT} bytes; write one object per line")));
            }
            let line = without_mark(&bytes, span.start);
            if !line.iter().all(u8::is_ascii_whitespace) {
                let object = object(line).map_err(|reason| self.bad(reason))?;
                return Ok(Some((span, object)));
            }
        }
    }

    /// The error for the line that was read most recently.
    pub(in crate::data::samples) fn bad(&self, reason: String) -> DataError {
        DataError::BadLine { path: self.path.clone(), line: self.number, reason }
    }
}

/// A line that begins at `start`, without the byte order mark that some editors write at the start
/// of a file.
pub(super) fn without_mark(line: &[u8], start: u64) -> &[u8] {
    let mark: &[u8] = if start == 0 { b"\xef\xbb\xbf" } else { b"" };
    line.strip_prefix(mark).unwrap_or(line)
}

/// The object on a line, or the reason in words why it is not one.
pub(super) fn object(line: &[u8]) -> Result<Object, String> {
    Carried::parse_finite(line).map_err(|error| {
        if error.is_data() {
            return "not a JSON object; write one object per line".to_owned();
        }
        // The line number in the error counts within this line.
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        format!("not a JSON object ({words}, column {}); write one object per line", error.column())
    })
}
