//! Access to single rows of a table. The index of a column's pages tells which pages to read.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{ReaderProperties, ReaderPropertiesPtr};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedRowGroupReader;

use super::super::open_files::{FileAt, OpenFiles};
use super::super::reading::SourceAt;
use super::super::{Dtype, Row, TokensError};
use super::reader::{Columns, check};
use pixtok_base::panics::in_words;

/// A file in the form that the library reads.
struct Table(Arc<FileAt>);

impl Length for Table {
    fn len(&self) -> u64 {
        self.0.length()
    }
}

impl ChunkReader for Table {
    type T = BufReader<Rest>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Rest { file: Arc::clone(&self.0), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let left = self.0.length().saturating_sub(start);
        if length as u64 > left {
            return Err(ParquetError::EOF(format!(
                "{length} bytes from byte {start} on, where {left} are left"
            )));
        }
        let mut bytes = vec![0; length];
        self.0.fill(start, &mut bytes).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
    }
}

/// The rest of a file from a byte position on.
struct Rest {
    file: Arc<FileAt>,
    at: u64,
}

impl Read for Rest {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.file.length().saturating_sub(self.at);
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.fill(self.at, &mut bytes[..count]).map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Reads single rows of a table.
pub(super) struct ReaderAt {
    table: Arc<Table>,
    meta: ParquetMetaData,
    properties: ReaderPropertiesPtr,
    /// The number of rows up to the end of each row group.
    ends: Vec<u64>,
}

impl ReaderAt {
    /// Opens a shard, which must have this number of rows, and reads its footer and its page index.
    pub fn open(path: PathBuf, rows: u64, dtype: Dtype, files: &Arc<OpenFiles>) -> Result<Self, TokensError> {
        let table = Arc::new(Table(Arc::new(files.open(path)?)));
        // Tables of other writers may lack the index. Then pages are skipped one by one.
        let footer = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let meta =
            outcome(|| footer.parse_and_finish(&*table)).map_err(|reason| table.0.damaged(reason))??;
        check(&meta, rows, dtype).map_err(|reason| table.0.damaged(reason))?;
        let mut end = 0;
        let groups = meta.row_groups().iter().map(|group| {
            // Not negative, and the sum was correct.
            end += group.num_rows() as u64;
            end
        });
        let ends = groups.collect();
        Ok(Self { table, meta, properties: Arc::new(ReaderProperties::builder().build()), ends })
    }

    fn read(&self, number: u64) -> Result<Option<Row>, ParquetError> {
        let at = self.ends.partition_point(|&end| end <= number);
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let pages = self.meta.page_index_for_row_group(at);
        let properties = Arc::clone(&self.properties);
        let group = SerializedRowGroupReader::new(
            Arc::clone(&self.table),
            self.meta.row_group(at),
            pages,
            properties,
        )?;
        let mut columns = Columns::new(&group)?;
        columns.skip((number - start) as usize)?;
        Ok(columns.read(1)?.pop_front())
    }
}

/// Separates the outcomes of reading: an error in the content, in words, and an error of the file
/// itself.
fn outcome<T>(body: impl FnOnce() -> Result<T, ParquetError>) -> Result<Result<T, TokensError>, String> {
    in_words(|| match body() {
        Err(ParquetError::External(error)) => match error.downcast::<TokensError>() {
            Ok(error) => Ok(Err(*error)),
            Err(error) => Err(ParquetError::External(error)),
        },
        other => other.map(Ok),
    })
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let read = outcome(|| self.read(number));
        let row = read.map_err(|reason| self.damaged(number, format!("row {number}: {reason}")))??;
        row.ok_or_else(|| self.damaged(number, format!("row {number} is missing")))
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.table.0.damaged(reason)
    }
}
