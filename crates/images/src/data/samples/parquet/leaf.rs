//! Columns of plain values, and how to read them.

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use ::parquet::schema::types::{ColumnDescriptor, Type};

/// A column of plain values.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) index: usize,
    /// Its parts are joined with dots.
    pub(super) path: String,
    /// Its type in words.
    pub(super) kind: String,
    pub(super) values: Values,
}

/// How to read the values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Values {
    /// No values: writers give no type to a column without values.
    Null,
    Bool,
    Int32 {
        unsigned: bool,
    },
    Int64 {
        unsigned: bool,
    },
    /// 16-bit floats, stored as bytes.
    Half,
    Float,
    Double,
    /// `text`: whether they are marked as text.
    Bytes {
        text: bool,
    },
}

impl Leaf {
    /// Whether both are the same column, without values in one of the files. There, `image` may
    /// stand for `image.bytes`.
    pub(super) fn is_null_of(&self, other: &Leaf) -> bool {
        let field = |leaf: &Leaf| leaf.path.strip_suffix(".bytes").unwrap_or(&leaf.path).to_owned();
        (self.values.is_null() || other.values.is_null()) && field(self) == field(other)
    }

    /// `None` if the column has no plain values (for example lists, dates or decimals).
    pub(super) fn of(index: usize, column: &ColumnDescriptor, kind: &str) -> Option<Leaf> {
        if column.max_rep_level() > 0 {
            return None;
        }
        let values = Values::of(column)?;
        Some(Leaf { index, path: column.path().string(), kind: kind.to_owned(), values })
    }
}

impl Values {
    pub(super) fn is_text(self) -> bool {
        self == Values::Bytes { text: true }
    }

    pub(super) fn is_null(self) -> bool {
        self == Values::Null
    }

    /// Some writers do not mark text as such.
    pub(super) fn may_be_text(self) -> bool {
        matches!(self, Values::Bytes { .. } | Values::Null)
    }

    /// How to read a column, in a list or not; `None` for types such as dates and decimals.
    pub(super) fn of(column: &ColumnDescriptor) -> Option<Values> {
        use ConvertedType::{
            ENUM, INT_8, INT_16, INT_32, INT_64, JSON, NONE, UINT_8, UINT_16, UINT_32, UINT_64, UTF8,
        };
        let (logical, converted) = (column.logical_type_ref(), column.converted_type());
        let unsigned = matches!(converted, UINT_8 | UINT_16 | UINT_32 | UINT_64);
        let integer = (unsigned || matches!(converted, NONE | INT_8 | INT_16 | INT_32 | INT_64))
            && matches!(logical, None | Some(LogicalType::Integer(_)));
        Some(match column.physical_type() {
            _ if matches!(logical, Some(LogicalType::Unknown)) => Values::Null,
            PhysicalType::BOOLEAN => Values::Bool,
            PhysicalType::INT32 if integer => Values::Int32 { unsigned },
            PhysicalType::INT64 if integer => Values::Int64 { unsigned },
            PhysicalType::FIXED_LEN_BYTE_ARRAY if matches!(logical, Some(LogicalType::Float16)) => {
                Values::Half
            }
            PhysicalType::FLOAT => Values::Float,
            PhysicalType::DOUBLE => Values::Double,
            PhysicalType::BYTE_ARRAY => {
                let text = matches!(converted, UTF8 | ENUM | JSON)
                    || matches!(logical, Some(LogicalType::String | LogicalType::Enum | LogicalType::Json));
                if !text && (converted != NONE || logical.is_some()) {
                    return None;
                }
                Values::Bytes { text }
            }
            _ => return None,
        })
    }
}

/// The type of a column in words.
pub(super) fn kind_of(field: &Type) -> String {
    let info = field.get_basic_info();
    if info.has_repetition() && info.repetition() == Repetition::REPEATED {
        return "list".to_owned();
    }
    if field.is_group() {
        let logical = info.logical_type_ref();
        let list = info.converted_type() == ConvertedType::LIST || matches!(logical, Some(LogicalType::List));
        return if list { "list" } else { "struct" }.to_owned();
    }
    let converted = info.converted_type();
    match (field.get_physical_type(), info.logical_type_ref()) {
        (_, Some(LogicalType::Unknown)) => "null".to_owned(),
        (PhysicalType::BYTE_ARRAY, None) if converted == ConvertedType::NONE => "binary".to_owned(),
        (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)) => "string".to_owned(),
        (_, Some(LogicalType::Float16)) => "float16".to_owned(),
        (physical, _) if converted == ConvertedType::NONE => physical.to_string().to_lowercase(),
        (_, _) => converted.to_string().to_lowercase().replace("int_", "int"),
    }
}
