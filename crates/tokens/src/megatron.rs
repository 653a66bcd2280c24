//! megatron: `tokens.bin` and `tokens.idx`, Megatron-LM's and NeMo's IndexedDataset, and the
//! companion `keys.jsonl`.
//!
//! `.bin` is the ids of all rows, u16 or i32, and nothing else. `.idx`, for N rows:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 9 | `MMIDIDX\0\0` |
//! | 9 | 8 | u64 version, 1 |
//! | 17 | 1 | type: 4 i32, 8 u16 |
//! | 18 | 8 | u64 N sequences |
//! | 26 | 8 | u64 N + 1 |
//! | 34 | 4N | i32 ids of each row |
//! | 34 + 4N | 8N | i64 byte of `.bin` at which it begins |
//! | 34 + 12N | 8(N + 1) | i64 the first sequence of each document, then N |
//!
//! A row is a sequence and a document. Sets merge: join the `.bin`, move the bytes, shift the
//! documents.

mod single;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::single::ReaderAt;
use super::companion::{self, Keys, KeysWriter};
use super::files::{Input, Output, name};
use super::open_files::OpenFiles;
use super::reading::{self, Source};
use super::{Dtype, Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError};

/// Megatron's indexed data set: `tokens.bin` and `tokens.idx`.
pub struct Megatron;

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const HEADER_BYTES: u64 = 34;

fn type_code(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::I32 => 4,
        Dtype::U16 => 8,
    }
}

/// Opens an index, checks its header, and stops before the lengths.
fn open_index(path: PathBuf, rows: u64, dtype: Dtype) -> Result<Input, TokensError> {
    let mut index = Input::open(path)?;
    let wanted = rows.checked_mul(20).and_then(|bytes| bytes.checked_add(HEADER_BYTES + 8));
    if wanted != Some(index.left()) {
        return Err(index.damaged(format!("it has {} bytes, not those of {rows} rows", index.left())));
    }
    if index.array()? != *MAGIC || index.u64()? != 1 {
        return Err(index.damaged("it does not begin as version 1 of Megatron's index"));
    }
    let [code] = index.array()?;
    if code != type_code(dtype) {
        return Err(index.damaged(format!("its ids are of type {code}, not {dtype}")));
    }
    let (sequences, documents) = (index.u64()?, index.u64()?);
    if sequences != rows || documents != rows + 1 {
        let reason =
            format!("it says {sequences} sequences and {documents} ends of documents for {rows} rows");
        return Err(index.damaged(reason));
    }
    Ok(index)
}

impl Format for Megatron {
    fn merges_into_one(&self) -> bool {
        true
    }

    fn takes_any_dtype(&self) -> bool {
        true
    }

    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![name("tokens", "bin", place), name("tokens", "idx", place), companion::file(place)]
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        let out = Output::create(folder.join(name("tokens", "bin", place)))?;
        let index = Output::create(folder.join(name("tokens", "idx", place)))?;
        let keys = KeysWriter::create(folder, place)?;
        Ok(Box::new(Writer { out, index, keys, layout: layout.clone(), lengths: vec![] }))
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let input = Input::open(folder.join(name("tokens", "bin", shard.place)))?;
        let path = folder.join(name("tokens", "idx", shard.place));
        let rows = shard.rows;
        let lengths = open_index(path.clone(), rows, layout.dtype)?;
        let starts = Input::open_at(&path, HEADER_BYTES + 4 * rows)?;
        let documents = Input::open_at(&path, HEADER_BYTES + 12 * rows)?;
        let keys = Keys::open(folder, shard, layout)?;
        let reader = Reader { input, lengths, starts, documents, keys, dtype: layout.dtype, start: 0, rows };
        Ok(reading::rows(reader, rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let reader = ReaderAt::open(folder, shard, layout, files)?;
        Ok(reading::rows_at(reader, shard.rows, layout))
    }
}

struct Writer {
    out: Output,
    index: Output,
    keys: KeysWriter,
    layout: Layout,
    /// The lengths of the rows, the only data kept of them: they come before the other tables of
    /// the index.
    lengths: Vec<i32>,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        let length = i32::try_from(row.ids.len()).map_err(|_| {
            let Row { key, ids, .. } = row;
            TokensError::Unsuitable(format!(
                "{key}: megatron counts a row's ids in 31 bits, it has {}",
                ids.len()
            ))
        })?;
        self.out.write(&self.layout.dtype.to_bytes(&row.ids))?;
        self.lengths.push(length);
        self.keys.push(row)
    }

    fn finish(mut self: Box<Self>) -> Result<(), TokensError> {
        let index = &mut self.index;
        let rows = self.lengths.len() as u64;
        index.write(MAGIC)?;
        index.write(&1_u64.to_le_bytes())?;
        index.write(&[type_code(self.layout.dtype)])?;
        index.write(&rows.to_le_bytes())?;
        index.write(&(rows + 1).to_le_bytes())?;
        for length in &self.lengths {
            index.write(&length.to_le_bytes())?;
        }
        let mut start = 0_i64;
        for &length in &self.lengths {
            index.write(&start.to_le_bytes())?;
            start += i64::from(length) * self.layout.dtype.bytes() as i64;
        }
        for document in 0..=rows {
            index.write(&document.to_le_bytes())?;
        }
        self.out.finish()?;
        self.index.finish()?;
        self.keys.finish()
    }
}

struct Reader {
    input: Input,
    lengths: Input,
    starts: Input,
    documents: Input,
    keys: Keys,
    dtype: Dtype,
    start: u64,
    rows: u64,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let length = self.lengths.u32()?;
        let (start, document) = (self.starts.u64()?, self.documents.u64()?);
        if length > i32::MAX as u32 {
            return Err(self.lengths.damaged(format!("row {number} has a negative length")));
        }
        if start != self.start {
            let reason =
                format!("row {number} begins at byte {start}, the one before ends at {}", self.start);
            return Err(self.lengths.damaged(reason));
        }
        if document != number {
            let reason = format!("document {number} begins at sequence {document}, not at its own");
            return Err(self.lengths.damaged(reason));
        }
        let bytes = u64::from(length) * self.dtype.bytes() as u64;
        let ids = self.dtype.ids_from_bytes(&self.input.take(bytes)?);
        self.start += bytes;
        Ok(Row { ids, ..self.keys.next(number)? })
    }

    fn end(&mut self) -> Result<(), TokensError> {
        let last = self.documents.u64()?;
        if last != self.rows {
            return Err(self.documents.damaged(format!("its documents end with {last}, not {}", self.rows)));
        }
        self.keys.end()?;
        self.input.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.input.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Megatron);
        fixture::ragged_layouts().iter().for_each(|layout| fixture::round_trip(&Megatron, layout));
        fixture::comes_back_without_companion(&Megatron);
        fixture::damage_is_noticed(&Megatron);
    }

    #[test]
    fn the_index_is_as_the_table_says() {
        let folder = tempfile::tempdir().unwrap();
        for (layout, code, bytes) in [(&fixture::layouts()[0], 8_u8, 2_i64), (&fixture::layouts()[1], 4, 4)] {
            let rows = fixture::rows(layout, 2);
            fixture::write(&Megatron, folder.path(), layout, &rows, 2);
            let index = std::fs::read(folder.path().join("tokens.idx")).unwrap();
            let mut wanted = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0".to_vec();
            wanted.push(code);
            wanted.extend([2_u64, 3].iter().flat_map(|n| n.to_le_bytes()));
            wanted.extend([35_i32, 35].iter().flat_map(|n| n.to_le_bytes()));
            wanted.extend([0, 35 * bytes].iter().flat_map(|n| n.to_le_bytes()));
            wanted.extend([0_i64, 1, 2].iter().flat_map(|n| n.to_le_bytes()));
            assert_eq!(index, wanted);
            let ids = std::fs::read(folder.path().join("tokens.bin")).unwrap();
            assert_eq!(ids.len() as i64, 70 * bytes);
        }
    }
}
