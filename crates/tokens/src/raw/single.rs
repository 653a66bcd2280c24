//! Access to single rows of a stream.

use std::path::Path;
use std::sync::Arc;

use super::super::companion::{Keys, KeysAt};
use super::super::files::name;
use super::super::open_files::{FileAt, OpenFiles};
use super::super::reading::SourceAt;
use super::super::{Dtype, Grid, Layout, Row, Shard, TokensError};

/// The number of ids up to the end of each row.
enum Ends {
    /// Every row has this number of ids.
    Even(u64),
    /// Stored in `tokens.index`.
    Index(FileAt),
    /// Computed from the grids in the companion, if nothing else states them.
    Known(Vec<u64>),
}

/// Computes the ends from the grids in the companion.
fn ends_by_grids(
    folder: &Path,
    shard: Shard,
    layout: &Layout,
    file: &FileAt,
) -> Result<Vec<u64>, TokensError> {
    let mut keys = Keys::open(folder, shard, layout)?;
    let (mut ends, mut end) = (vec![], 0_u64);
    let most = file.length() / layout.dtype.bytes() as u64;
    for number in 0..shard.rows {
        let grid = keys.next(number)?.grid;
        let ids = layout.length_of(grid).filter(|&ids| ids > 0 && ids <= most - end);
        end += ids.ok_or_else(|| {
            let Grid { h, w } = grid;
            file.damaged(format!("row {number} has a grid of {h} × {w}, and {} ids are left", most - end))
        })?;
        ends.push(end);
    }
    ends.shrink_to_fit();
    Ok(ends)
}

/// Reads single rows of a shard.
pub(super) struct ReaderAt {
    file: FileAt,
    ends: Ends,
    keys: KeysAt,
    dtype: Dtype,
}

impl ReaderAt {
    /// Opens a shard.
    pub fn open(
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<Self, TokensError> {
        let file = files.open(folder.join(name("tokens", "bin", shard.place)))?;
        let ends = if layout.document_index {
            Ends::Index(files.open(folder.join(name("tokens", "index", shard.place)))?)
        } else if let Some(length) = layout.length {
            Ends::Even(length.into())
        } else {
            Ends::Known(ends_by_grids(folder, shard, layout, &file)?)
        };
        let keys = KeysAt::open(folder, shard, layout, files)?;
        let reader = Self { file, ends, keys, dtype: layout.dtype };
        reader.check_length(shard.rows)?;
        Ok(reader)
    }

    /// The number of ids up to the end of row `number`.
    fn end(&self, number: u64) -> Result<u64, TokensError> {
        match &self.ends {
            Ends::Even(length) => Ok((number + 1).saturating_mul(*length)),
            Ends::Index(index) => index.array(number, 8 * number).map(u64::from_le_bytes),
            Ends::Known(ends) => Ok(ends[number as usize]),
        }
    }

    fn check_length(&self, rows: u64) -> Result<(), TokensError> {
        if let Ends::Index(index) = &self.ends
            && rows.checked_mul(8) != Some(index.length())
        {
            let bytes = index.length();
            return Err(index.damaged(format!("it has {bytes} bytes, not those of {rows} rows")));
        }
        let ids = if rows == 0 { 0 } else { self.end(rows - 1)? };
        let bytes = self.file.length();
        if ids.checked_mul(self.dtype.bytes() as u64) != Some(bytes) {
            return Err(self.file.damaged(format!("it has {bytes} bytes, not those of {ids} ids")));
        }
        Ok(())
    }
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let start = if number == 0 { 0 } else { self.end(number - 1)? };
        let Some(ids) = self.end(number)?.checked_sub(start) else {
            let reason = format!("row {number} ends before it begins");
            return Err(match &self.ends {
                Ends::Index(index) => index.damaged(reason),
                Ends::Even(_) | Ends::Known(_) => self.file.damaged(reason),
            });
        };
        let bytes = self.dtype.bytes() as u64;
        let taken = self.file.take(number, start.saturating_mul(bytes), ids.saturating_mul(bytes))?;
        Ok(Row { ids: self.dtype.ids_from_bytes(&taken), ..self.keys.row(number)? })
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.file.damaged(reason)
    }
}
