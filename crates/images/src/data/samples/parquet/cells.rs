//! The values of a row group, row by row.

use std::fs::File;

use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};

use super::columns::Columns;
use super::leaf::{Leaf, Values};
use super::texts::TextCells;
use crate::data::samples::captions::Caption;
use crate::data::samples::labels::Raw;

/// A row group, at its current row.
pub(super) struct RowGroup {
    rows: u64,
    /// The current row.
    row: u64,
    image: Option<Cells<ByteArrayType>>,
    key: Option<Cells<ByteArrayType>>,
    label: Option<LabelCells>,
    texts: Vec<TextCells>,
}

impl RowGroup {
    /// Opens row group `index` at its first row. Reads no page yet.
    pub(super) fn open(
        reader: &SerializedFileReader<File>,
        index: usize,
        columns: &Columns,
    ) -> Result<RowGroup, ParquetError> {
        let group = &*reader.get_row_group(index)?;
        let cells = |leaf: Option<&Leaf>| {
            leaf.filter(|leaf| leaf.values != Values::Null).map(|leaf| bytes(group, leaf)).transpose()
        };
        let texts = columns.texts.iter().map(|texts| TextCells::open(group, texts));
        Ok(RowGroup {
            rows: rows_of(group)?,
            row: 0,
            image: cells(Some(&columns.image))?,
            key: cells(columns.key.as_ref())?,
            label: columns.label.as_ref().map(|leaf| LabelCells::open(group, leaf)).transpose()?,
            texts: texts.filter_map(Result::transpose).collect::<Result<_, ParquetError>>()?,
        })
    }

    /// Whether there is a current row, or the group has ended.
    pub(super) fn has_row(&self) -> bool {
        self.row < self.rows
    }

    /// Moves to the next row. Values that were not requested are not decoded, and pages without a
    /// requested value are not read.
    pub(super) fn advance(&mut self) {
        self.row += 1;
    }

    /// The row's image; `None` if it is null.
    pub(super) fn image(&mut self) -> Result<Option<Vec<u8>>, ParquetError> {
        self.image.as_mut().map_or(Ok(None), |cells| cells.bytes(self.row))
    }

    /// The row's key; `None` if it is null.
    pub(super) fn key(&mut self) -> Result<Option<Vec<u8>>, ParquetError> {
        self.key.as_mut().map_or(Ok(None), |cells| cells.bytes(self.row))
    }

    /// The row's label; `None` if it is null.
    pub(super) fn label(&mut self) -> Result<Option<Raw>, ParquetError> {
        self.label.as_mut().map_or(Ok(None), |cells| cells.get(self.row))
    }

    /// The row's captions, from the columns that have one; a message for one that is not text.
    pub(super) fn captions(&mut self) -> Result<Vec<Result<Caption, String>>, ParquetError> {
        self.texts.iter_mut().filter_map(|cells| cells.get(self.row).transpose()).collect()
    }
}

/// The rows of a row group.
pub(super) fn rows_of(group: &dyn RowGroupReader) -> Result<u64, ParquetError> {
    u64::try_from(group.metadata().num_rows())
        .map_err(|_| ParquetError::General("a row group has a negative length".to_owned()))
}

/// A column of bytes in a row group.
pub(super) fn bytes(group: &dyn RowGroupReader, leaf: &Leaf) -> Result<Cells<ByteArrayType>, ParquetError> {
    match group.get_column_reader(leaf.index)? {
        ColumnReader::ByteArrayColumnReader(reader) => Ok(Cells::new(reader)),
        _ => Err(other_type(leaf)),
    }
}

pub(super) fn other_type(leaf: &Leaf) -> ParquetError {
    ParquetError::General(format!("the column {} has another type in a row group", leaf.path))
}

/// A column of labels, whatever its type.
pub(super) enum LabelCells {
    Null,
    Bool(Cells<BoolType>),
    /// The flag is true if the integers are unsigned.
    Int32(Cells<Int32Type>, bool),
    Int64(Cells<Int64Type>, bool),
    Half(Cells<FixedLenByteArrayType>),
    Float(Cells<FloatType>),
    Double(Cells<DoubleType>),
    Bytes(Cells<ByteArrayType>),
}

impl LabelCells {
    pub(super) fn open(group: &dyn RowGroupReader, leaf: &Leaf) -> Result<LabelCells, ParquetError> {
        if leaf.values == Values::Null {
            return Ok(Self::Null);
        }
        Ok(match (group.get_column_reader(leaf.index)?, leaf.values) {
            (ColumnReader::BoolColumnReader(reader), Values::Bool) => Self::Bool(Cells::new(reader)),
            (ColumnReader::Int32ColumnReader(reader), Values::Int32 { unsigned }) => {
                Self::Int32(Cells::new(reader), unsigned)
            }
            (ColumnReader::Int64ColumnReader(reader), Values::Int64 { unsigned }) => {
                Self::Int64(Cells::new(reader), unsigned)
            }
            (ColumnReader::FixedLenByteArrayColumnReader(reader), Values::Half) => {
                Self::Half(Cells::new(reader))
            }
            (ColumnReader::FloatColumnReader(reader), Values::Float) => Self::Float(Cells::new(reader)),
            (ColumnReader::DoubleColumnReader(reader), Values::Double) => Self::Double(Cells::new(reader)),
            (ColumnReader::ByteArrayColumnReader(reader), Values::Bytes { .. }) => {
                Self::Bytes(Cells::new(reader))
            }
            _ => return Err(other_type(leaf)),
        })
    }

    /// The label in `row`, which must not come before rows already read; none if it is null.
    pub(super) fn get(&mut self, row: u64) -> Result<Option<Raw>, ParquetError> {
        let word = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(word) => Raw::Word(word),
            Err(_) => Raw::Other("bytes that are not UTF-8 text"),
        };
        Ok(match self {
            Self::Null => None,
            Self::Bool(cells) => cells.get(row)?.map(|flag| Raw::Whole(i128::from(flag))),
            Self::Int32(cells, false) => cells.get(row)?.map(|value| Raw::Whole(value.into())),
            Self::Int32(cells, true) => cells.get(row)?.map(|value| Raw::Whole((value as u32).into())),
            Self::Int64(cells, false) => cells.get(row)?.map(|value| Raw::Whole(value.into())),
            Self::Int64(cells, true) => cells.get(row)?.map(|value| Raw::Whole((value as u64).into())),
            Self::Half(cells) => cells.get(row)?.map(|value| half(value.data())),
            Self::Float(cells) => cells.get(row)?.map(|value| Raw::Real(value.into())),
            Self::Double(cells) => cells.get(row)?.map(Raw::Real),
            Self::Bytes(cells) => cells.bytes(row)?.map(word),
        })
    }
}

/// The value of a 16-bit float (IEEE 754's binary16), which fits a 64-bit float exactly.
fn half(bytes: &[u8]) -> Raw {
    let Ok(bytes) = <[u8; 2]>::try_from(bytes) else { return Raw::Other("no float16") };
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1F if fraction > 0.0 => f64::NAN,
        0x1F => f64::INFINITY,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    Raw::Real(if bits >> 15 == 1 { -size } else { size })
}

/// A column of a row group, read only forwards.
pub(super) struct Cells<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The row at which the reader is.
    at: u64,
}

impl<T: DataType> Cells<T> {
    pub(super) fn new(reader: ColumnReaderImpl<T>) -> Self {
        Self { reader, at: 0 }
    }

    /// The value in `row`, which must not come before rows already read; none if it is null.
    fn get(&mut self, row: u64) -> Result<Option<T::T>, ParquetError> {
        Ok(self.list(row)?.1.pop())
    }

    /// The values in `row`, which must not come before rows already read, and the definition
    /// levels: one for each value, each null and each empty list.
    pub(super) fn list(&mut self, row: u64) -> Result<(Vec<i16>, Vec<T::T>), ParquetError> {
        let missing = || ParquetError::General(format!("it has no row {row}, although its metadata say so"));
        let behind = (row - self.at) as usize;
        if self.reader.skip_records(behind)? != behind {
            return Err(missing());
        }
        let (mut levels, mut repetition, mut values) = (vec![], vec![], vec![]);
        let (rows, ..) =
            self.reader.read_records(1, Some(&mut levels), Some(&mut repetition), &mut values)?;
        if rows != 1 {
            return Err(missing());
        }
        self.at = row + 1;
        Ok((levels, values))
    }
}

impl Cells<ByteArrayType> {
    pub(super) fn bytes(&mut self, row: u64) -> Result<Option<Vec<u8>>, ParquetError> {
        Ok(self.get(row)?.map(|bytes| bytes.data().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_16_bits_have_their_exact_values() {
        // The values of numpy.float16.
        for (bits, value) in [
            (0x0001, 2f64.powi(-24)),
            (0x0400, 2f64.powi(-14)),
            (0x3555, 0.333_251_953_125),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x63D0, 1000.0),
            (0x7BFF, 65504.0),
            (0x8000, 0.0),
            (0xFC00, f64::NEG_INFINITY),
        ] {
            assert_eq!(half(&u16::to_le_bytes(bits)), Raw::Real(value), "{bits:#x}");
        }
        assert!(matches!(half(&[1, 0xFE]), Raw::Real(value) if value.is_nan()));
    }
}
