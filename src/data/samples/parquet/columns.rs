//! Which columns of a Parquet file are read, and their values, row by row.

use std::fmt;
use std::fs::File;

use ::parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

/// The columns that are read.
#[derive(Debug)]
pub(super) struct Columns {
    image: Leaf,
    key: Option<Leaf>,
    label: Option<Leaf>,
    text: Option<Leaf>,
}

/// A column of plain values.
#[derive(Debug)]
struct Leaf {
    index: usize,
    path: String,
    kind: PhysicalType,
    unsigned: bool,
}

impl Columns {
    /// Those of a file; none if it has no images.
    pub(super) fn find(schema: &SchemaDescriptor) -> Option<Columns> {
        let first = |paths: &[&[&str]], fits: fn(&ColumnDescriptor) -> bool| {
            paths.iter().find_map(|&path| {
                let columns = schema.columns();
                let is_it = |column: &ColumnDescriptor| column.path().parts() == path && is_plain(column);
                let index = columns.iter().position(|column| is_it(column) && fits(column))?;
                Some(Leaf::of(index, &columns[index]))
            })
        };
        Some(Columns {
            image: first(&[&["image", "bytes"]], |column| {
                column.physical_type() == PhysicalType::BYTE_ARRAY
            })?,
            key: first(&[&["key"], &["__key__"]], is_string),
            label: first(&[&["label"], &["cls"]], is_integer),
            text: first(&[&["text"], &["caption"]], is_string),
        })
    }

    /// Whether the rows have names of their own.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// The columns with their types, to compare files by.
impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.image.path, self.image.kind)?;
        for leaf in [&self.key, &self.label, &self.text].into_iter().flatten() {
            write!(f, ", {} {}", leaf.path, leaf.kind)?;
        }
        Ok(())
    }
}

impl Leaf {
    fn of(index: usize, column: &ColumnDescriptor) -> Leaf {
        use ConvertedType::{UINT_8, UINT_16, UINT_32, UINT_64};
        let unsigned = matches!(column.converted_type(), UINT_8 | UINT_16 | UINT_32 | UINT_64);
        Leaf { index, path: column.path().string(), kind: column.physical_type(), unsigned }
    }
}

/// All columns of a file, for an error message.
pub(super) fn names(schema: &SchemaDescriptor) -> String {
    let columns = schema.columns().iter();
    let names: Vec<String> =
        columns.map(|column| format!("{} {}", column.path().string(), column.physical_type())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// One value a row, no list.
fn is_plain(column: &ColumnDescriptor) -> bool {
    column.max_rep_level() == 0
}

fn is_string(column: &ColumnDescriptor) -> bool {
    column.physical_type() == PhysicalType::BYTE_ARRAY
        && (column.converted_type() == ConvertedType::UTF8
            || matches!(column.logical_type_ref(), Some(LogicalType::String)))
}

/// Not so the dates, times and decimals that are stored as integers.
fn is_integer(column: &ColumnDescriptor) -> bool {
    use ConvertedType::{INT_8, INT_16, INT_32, INT_64, NONE, UINT_8, UINT_16, UINT_32, UINT_64};
    matches!(column.physical_type(), PhysicalType::INT32 | PhysicalType::INT64)
        && matches!(
            column.converted_type(),
            NONE | INT_8 | INT_16 | INT_32 | INT_64 | UINT_8 | UINT_16 | UINT_32 | UINT_64
        )
        && matches!(column.logical_type_ref(), None | Some(LogicalType::Integer(_)))
}

/// A row group, with a place in it.
pub(super) struct Group {
    rows: u64,
    /// The row whose values are asked for.
    row: u64,
    image: Cells<ByteArrayType>,
    key: Option<Cells<ByteArrayType>>,
    label: Option<Integers>,
    text: Option<Cells<ByteArrayType>>,
}

impl Group {
    /// Row group `index`, at its first row. No page is read yet.
    pub(super) fn open(
        reader: &SerializedFileReader<File>,
        index: usize,
        columns: &Columns,
    ) -> Result<Group, ParquetError> {
        let group = reader.get_row_group(index)?;
        let bytes = |leaf: &Leaf| match group.get_column_reader(leaf.index)? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(Cells { reader, at: 0 }),
            _ => Err(other_type(leaf)),
        };
        let integers = |leaf: &Leaf| match group.get_column_reader(leaf.index)? {
            ColumnReader::Int32ColumnReader(reader) => {
                Ok(Integers::Int32(Cells { reader, at: 0 }, leaf.unsigned))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                Ok(Integers::Int64(Cells { reader, at: 0 }, leaf.unsigned))
            }
            _ => Err(other_type(leaf)),
        };
        Ok(Group {
            rows: u64::try_from(group.metadata().num_rows())
                .map_err(|_| ParquetError::General(format!("row group {index} has a negative length")))?,
            row: 0,
            image: bytes(&columns.image)?,
            key: columns.key.as_ref().map(bytes).transpose()?,
            label: columns.label.as_ref().map(integers).transpose()?,
            text: columns.text.as_ref().map(bytes).transpose()?,
        })
    }

    /// Whether there is a row at this place.
    pub(super) fn has_row(&self) -> bool {
        self.row < self.rows
    }

    /// Goes to the next row. What was not asked for of this one is not decoded, and a page in which nothing is asked for
    /// is not read.
    pub(super) fn advance(&mut self) {
        self.row += 1;
    }

    /// The row's image; none if it is null.
    pub(super) fn image(&mut self) -> Result<Option<Vec<u8>>, ParquetError> {
        Ok(self.image.get(self.row)?.map(|bytes| bytes.data().to_vec()))
    }

    /// The row's key; none if it is null.
    pub(super) fn key(&mut self) -> Result<Option<Vec<u8>>, ParquetError> {
        bytes_at(&mut self.key, self.row)
    }

    /// The row's label; none if it is null. All integer types fit.
    pub(super) fn label(&mut self) -> Result<Option<i128>, ParquetError> {
        match &mut self.label {
            Some(cells) => cells.get(self.row),
            None => Ok(None),
        }
    }

    /// The row's text; none if it is null.
    pub(super) fn text(&mut self) -> Result<Option<Vec<u8>>, ParquetError> {
        bytes_at(&mut self.text, self.row)
    }
}

fn other_type(leaf: &Leaf) -> ParquetError {
    ParquetError::General(format!("the column {} has another type in a row group", leaf.path))
}

fn bytes_at(cells: &mut Option<Cells<ByteArrayType>>, row: u64) -> Result<Option<Vec<u8>>, ParquetError> {
    let Some(cells) = cells else { return Ok(None) };
    let value: Option<ByteArray> = cells.get(row)?;
    Ok(value.map(|bytes| bytes.data().to_vec()))
}

/// A column of integers; `true` if they are unsigned.
enum Integers {
    Int32(Cells<Int32Type>, bool),
    Int64(Cells<Int64Type>, bool),
}

impl Integers {
    fn get(&mut self, row: u64) -> Result<Option<i128>, ParquetError> {
        Ok(match self {
            Self::Int32(cells, false) => cells.get(row)?.map(i128::from),
            Self::Int32(cells, true) => cells.get(row)?.map(|value| i128::from(value as u32)),
            Self::Int64(cells, false) => cells.get(row)?.map(i128::from),
            Self::Int64(cells, true) => cells.get(row)?.map(|value| i128::from(value as u64)),
        })
    }
}

/// A column of a row group, read forwards.
struct Cells<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The row that the reader is at.
    at: u64,
}

impl<T: DataType> Cells<T> {
    /// The value in `row`, which lies not before those already read; none if it is null.
    fn get(&mut self, row: u64) -> Result<Option<T::T>, ParquetError> {
        let missing = || ParquetError::General(format!("it has no row {row}, though its metadata say so"));
        let behind = (row - self.at) as usize;
        if self.reader.skip_records(behind)? != behind {
            return Err(missing());
        }
        let (mut levels, mut values) = (vec![], vec![]);
        let (rows, ..) = self.reader.read_records(1, Some(&mut levels), None, &mut values)?;
        if rows != 1 {
            return Err(missing());
        }
        self.at = row + 1;
        Ok(values.pop())
    }
}
