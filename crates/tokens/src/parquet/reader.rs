//! Reads a table of tokens, a part of a row group at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::super::reading::Source;
use super::super::{Dtype, Grid, Row, TokensError, io_error};
use super::schema;
use pixtok_base::Action;
use pixtok_base::panics::in_words;

/// The number of rows that are read at once.
const BATCH_ROWS: usize = 256;

/// The columns of a row group, all at the same row.
pub(super) struct Columns {
    left: usize,
    key: ColumnReaderImpl<ByteArrayType>,
    tokens: ColumnReaderImpl<Int32Type>,
    sizes: [ColumnReaderImpl<Int32Type>; 4],
    label: ColumnReaderImpl<Int64Type>,
    texts: [ColumnReaderImpl<ByteArrayType>; 2],
}

fn column<T: DataType>(group: &dyn RowGroupReader, at: usize) -> Result<ColumnReaderImpl<T>, ParquetError> {
    group.get_column_reader(at).map(get_typed_column_reader)
}

impl Columns {
    pub fn new(group: &dyn RowGroupReader) -> Result<Self, ParquetError> {
        Ok(Self {
            // Not negative, because the sum was correct.
            left: group.metadata().num_rows() as usize,
            key: column(group, 0)?,
            tokens: column(group, 1)?,
            sizes: [column(group, 2)?, column(group, 3)?, column(group, 4)?, column(group, 5)?],
            label: column(group, 6)?,
            texts: [column(group, 7)?, column(group, 8)?],
        })
    }

    /// Skips the next rows.
    pub fn skip(&mut self, count: usize) -> Result<(), ParquetError> {
        all(self.key.skip_records(count)?, count)?;
        all(self.tokens.skip_records(count)?, count)?;
        for column in &mut self.sizes {
            all(column.skip_records(count)?, count)?;
        }
        all(self.label.skip_records(count)?, count)?;
        for column in &mut self.texts {
            all(column.skip_records(count)?, count)?;
        }
        self.left -= count;
        Ok(())
    }

    /// Reads the next rows, up to `most`.
    pub fn read(&mut self, most: usize) -> Result<VecDeque<Row>, ParquetError> {
        let count = self.left.min(most);
        let keys = read_required(&mut self.key, count)?;
        let ids = read_tokens(&mut self.tokens, count)?;
        let mut sizes = [vec![], vec![], vec![], vec![]];
        for (values, column) in sizes.iter_mut().zip(&mut self.sizes) {
            *values = read_required(column, count)?;
        }
        let labels = read_optional(&mut self.label, count)?;
        let [texts, jsons] = &mut self.texts;
        let (texts, jsons) = (read_optional(texts, count)?, read_optional(jsons, count)?);
        let mut rows = VecDeque::new();
        for (at, (((ids, label), text), json)) in
            ids.into_iter().zip(labels).zip(texts).zip(jsons).enumerate()
        {
            let string = |bytes: &ByteArray| bytes.as_utf8().map(str::to_owned);
            let [h, w, width, height] = [0, 1, 2, 3].map(|size| unsigned(sizes[size][at]));
            rows.push_back(Row {
                key: string(&keys[at])?,
                grid: Grid { h: h?, w: w? },
                width: width?,
                height: height?,
                ids,
                label,
                text: text.as_ref().map(string).transpose()?,
                json: json.map(|json| serde_json::from_slice(json.data())).transpose().map_err(|error| {
                    ParquetError::General(format!(
                        "json of {}: {error}",
                        String::from_utf8_lossy(keys[at].data())
                    ))
                })?,
            });
        }
        self.left -= count;
        Ok(rows)
    }
}

fn unsigned(number: i32) -> Result<u32, ParquetError> {
    u32::try_from(number).map_err(|_| ParquetError::General(format!("{number} is out of range")))
}

fn all(found: usize, count: usize) -> Result<(), ParquetError> {
    if found == count {
        return Ok(());
    }
    Err(ParquetError::General(format!("a column has {found} rows where {count} are left")))
}

fn read_required<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    count: usize,
) -> Result<Vec<T::T>, ParquetError> {
    let mut values = vec![];
    let (found, ..) = column.read_records(count, None, None, &mut values)?;
    all(found.min(values.len()), count)?;
    Ok(values)
}

fn read_optional<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    count: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut values, mut there) = (vec![], vec![]);
    let (found, ..) = column.read_records(count, Some(&mut there), None, &mut values)?;
    all(found.min(there.len()), count)?;
    let mut values = values.into_iter();
    Ok(there.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect())
}

fn read_tokens(
    column: &mut ColumnReaderImpl<Int32Type>,
    count: usize,
) -> Result<Vec<Vec<u32>>, ParquetError> {
    let (mut values, mut there, mut repetition) = (vec![], vec![], vec![]);
    let (found, ..) = column.read_records(count, Some(&mut there), Some(&mut repetition), &mut values)?;
    let mut rows: Vec<Vec<u32>> = vec![];
    let mut values = values.into_iter();
    for (there, repetition) in there.into_iter().zip(repetition) {
        if repetition == 0 {
            rows.push(vec![]);
        }
        let row = rows.last_mut().filter(|_| there > 0);
        if let (Some(row), Some(id)) = (row, values.next()) {
            row.push(unsigned(id)?);
        }
    }
    all(found.min(rows.len()), count)?;
    Ok(rows)
}

/// Checks that a file is a table of tokens with these rows.
pub(super) fn check(meta: &ParquetMetaData, rows: u64, dtype: Dtype) -> Result<(), String> {
    let wanted = schema(dtype).map_err(|error| error.to_string())?;
    let wanted = SchemaDescriptor::new(Arc::new(wanted));
    if meta.file_metadata().schema_descr().columns() != wanted.columns() {
        return Err(format!("its columns are not those of a table of {} tokens", dtype));
    }
    let mut groups = meta.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
    let says = groups.try_fold(0_u64, |sum, rows| sum.checked_add(rows?));
    if says != Some(rows) {
        let says = says.map_or("too many".into(), |says| says.to_string());
        return Err(format!("it says {says} rows and should have {rows}"));
    }
    Ok(())
}

/// Reads a shard.
pub(super) struct Reader {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    group: usize,
    columns: Option<Columns>,
    batch: VecDeque<Row>,
}

impl Reader {
    /// Opens a shard, which must have this number of rows.
    pub fn open(path: PathBuf, rows: u64, dtype: Dtype) -> Result<Self, TokensError> {
        let file = File::open(&path).map_err(io_error(Action::Open, &path))?;
        let damaged = |reason: String| TokensError::Damaged { path: path.clone(), reason };
        let reader = in_words(|| SerializedFileReader::new(file)).map_err(damaged)?;
        check(reader.metadata(), rows, dtype).map_err(damaged)?;
        Ok(Self { path, reader, group: 0, columns: None, batch: VecDeque::new() })
    }

    fn read_batch(&mut self) -> Result<VecDeque<Row>, ParquetError> {
        loop {
            if let Some(columns) = self.columns.as_mut().filter(|columns| columns.left > 0) {
                return columns.read(BATCH_ROWS);
            }
            let group = self.reader.get_row_group(self.group)?;
            self.columns = Some(Columns::new(&*group)?);
            self.group += 1;
        }
    }
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        if self.batch.is_empty() {
            let batch = in_words(|| self.read_batch());
            self.batch = batch.map_err(|reason| self.damaged(format!("from row {number} on: {reason}")))?;
        }
        self.batch.pop_front().ok_or_else(|| self.damaged(format!("it ends after {number} rows")))
    }

    fn end(&mut self) -> Result<(), TokensError> {
        Ok(())
    }

    fn damaged(&self, reason: String) -> TokensError {
        TokensError::Damaged { path: self.path.clone(), reason }
    }
}
