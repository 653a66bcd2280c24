//! Access to single rows of an indexed data set.

use std::path::Path;
use std::sync::Arc;

use super::super::companion::KeysAt;
use super::super::files::name;
use super::super::open_files::{FileAt, OpenFiles};
use super::super::reading::SourceAt;
use super::super::{Dtype, Layout, Row, Shard, TokensError};
use super::{HEADER_BYTES, open_index};

/// Reads single rows of a shard.
pub(super) struct ReaderAt {
    file: FileAt,
    index: FileAt,
    keys: KeysAt,
    dtype: Dtype,
    rows: u64,
}

impl ReaderAt {
    /// Opens a shard.
    pub fn open(
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<Self, TokensError> {
        let (Shard { place, rows }, dtype) = (shard, layout.dtype);
        let file = files.open(folder.join(name("tokens", "bin", place)))?;
        let path = folder.join(name("tokens", "idx", place));
        open_index(path.clone(), rows, dtype)?;
        let index = files.open(path)?;
        let keys = KeysAt::open(folder, shard, layout, files)?;
        let reader = Self { file, index, keys, dtype, rows };
        reader.check_ends()?;
        Ok(reader)
    }

    /// The byte at which row `number` begins; for the number after the last row, the end of the
    /// file.
    fn start(&self, number: u64) -> Result<u64, TokensError> {
        if number == self.rows {
            return Ok(self.file.length());
        }
        self.index.array(number, HEADER_BYTES + 4 * self.rows + 8 * number).map(u64::from_le_bytes)
    }

    /// The first sequence of document `number`.
    fn document(&self, number: u64) -> Result<u64, TokensError> {
        self.index.array(number, HEADER_BYTES + 12 * self.rows + 8 * number).map(u64::from_le_bytes)
    }

    /// Checks that the first row begins at the start of the file and the last one ends at its end.
    fn check_ends(&self) -> Result<(), TokensError> {
        let (first, last) = (self.start(0)?, self.document(self.rows)?);
        if first != 0 {
            return Err(self.index.damaged(format!("row 0 begins at byte {first}, not at the start")));
        }
        if last != self.rows {
            return Err(self.index.damaged(format!("its documents end with {last}, not {}", self.rows)));
        }
        self.rows.checked_sub(1).map_or(Ok(()), |last| self.place(last).map(drop))
    }

    /// The start of row `number`, and its length in bytes.
    fn place(&self, number: u64) -> Result<(u64, u64), TokensError> {
        let length = u32::from_le_bytes(self.index.array(number, HEADER_BYTES + 4 * number)?);
        let bytes = u64::from(length) * self.dtype.bytes() as u64;
        let (start, end) = (self.start(number)?, self.start(number + 1)?);
        if start.checked_add(bytes) != Some(end) {
            let reason =
                format!("row {number} has {bytes} bytes from byte {start} on, the next begins at {end}");
            return Err(self.index.damaged(reason));
        }
        let document = self.document(number)?;
        if document != number {
            let reason = format!("document {number} begins at sequence {document}, not at its own");
            return Err(self.index.damaged(reason));
        }
        Ok((start, bytes))
    }
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let (start, bytes) = self.place(number)?;
        let ids = self.dtype.ids_from_bytes(&self.file.take(number, start, bytes)?);
        Ok(Row { ids, ..self.keys.row(number)? })
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.file.damaged(reason)
    }
}
