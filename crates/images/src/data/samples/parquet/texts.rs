//! Columns of captions: strings, or lists of strings.

use ::parquet::basic::Repetition;
use ::parquet::column::reader::ColumnReader;
use ::parquet::data_type::ByteArrayType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::RowGroupReader;
use ::parquet::schema::types::{SchemaDescriptor, Type};

use super::cells::{Cells, other_type};
use super::leaf::{Leaf, Values};
use crate::data::samples::captions::{self, Caption};

/// A column of captions.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    /// Its values, or those in its lists.
    pub(super) leaf: Leaf,
    /// The elements, if it holds lists.
    pub(super) element: Option<Element>,
}

/// A string in a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    /// The definition level of an element that is not null.
    level: i16,
    nullable: bool,
}

impl Texts {
    /// For a column with lists of strings. A list is a repeated field, or a group that holds one;
    /// its elements may themselves be groups of one field.
    pub(super) fn of_list(schema: &SchemaDescriptor, field: &Type, kind: &str) -> Option<Texts> {
        let repeats = |field: &Type| {
            let info = field.get_basic_info();
            info.has_repetition() && info.repetition() == Repetition::REPEATED
        };
        let repeated = match field {
            _ if repeats(field) => field,
            Type::GroupType { fields, .. } if fields.len() == 1 && repeats(&fields[0]) => &*fields[0],
            _ => return None,
        };
        let element = match repeated {
            Type::GroupType { fields, .. } if fields.len() == 1 && !repeats(&fields[0]) => &*fields[0],
            _ => repeated,
        };
        if element.is_group() {
            return None;
        }
        let columns = schema.columns();
        let index = columns.iter().position(|column| column.path().parts()[0] == field.name())?;
        let column = &columns[index];
        let values =
            Values::of(column).filter(|values| column.max_rep_level() == 1 && values.may_be_text())?;
        let nullable = element.get_basic_info().repetition() == Repetition::OPTIONAL;
        let leaf = Leaf { index, path: field.name().to_owned(), kind: kind.to_owned(), values };
        Some(Texts { leaf, element: Some(Element { level: column.max_def_level(), nullable }) })
    }

    pub(super) fn in_words(&self) -> String {
        format!("{} ({})", self.leaf.path, self.leaf.kind)
    }
}

/// Whether two files of a set may have these columns: they share a column, or neither has any.
pub(super) fn are_alike(one: &[Texts], other: &[Texts]) -> bool {
    let has = |path: &String| other.iter().any(|texts| texts.leaf.path == *path);
    (one.is_empty() && other.is_empty()) || one.iter().any(|texts| has(&texts.leaf.path))
}

/// Merges the columns of another file into these.
pub(super) fn unify(own: &mut Vec<Texts>, other: &[Texts]) {
    for texts in other {
        match own.iter_mut().find(|own| own.leaf.path == texts.leaf.path) {
            Some(own) if own.leaf.values.is_null() => own.clone_from(texts),
            Some(_) => {}
            None => own.push(texts.clone()),
        }
    }
    own.sort_by_key(|texts| captions::NAMES.iter().position(|name| *name == texts.leaf.path));
}

/// A column of captions in a row group.
pub(super) struct TextCells {
    cells: Cells<ByteArrayType>,
    element: Option<Element>,
}

impl TextCells {
    /// Opens the column; `None` if it has no values.
    pub(super) fn open(group: &dyn RowGroupReader, texts: &Texts) -> Result<Option<TextCells>, ParquetError> {
        if texts.leaf.values.is_null() {
            return Ok(None);
        }
        match group.get_column_reader(texts.leaf.index)? {
            ColumnReader::ByteArrayColumnReader(reader) => {
                Ok(Some(TextCells { cells: Cells::new(reader), element: texts.element }))
            }
            _ => Err(other_type(&texts.leaf)),
        }
    }

    /// The caption of a row, which must not come before rows already read; a message if it is not
    /// UTF-8.
    pub(super) fn get(&mut self, row: u64) -> Result<Option<Result<Caption, String>>, ParquetError> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned());
        let Some(Element { level, nullable }) = self.element else {
            return Ok(self.cells.bytes(row)?.map(|bytes| text(bytes).map(Caption::one)));
        };
        let (levels, values) = self.cells.list(row)?;
        let mut values = values.into_iter();
        // One level less means a null element, or an empty list if elements cannot be null.
        let there = levels.into_iter().filter(|&own| own == level || (nullable && own == level - 1));
        let list = there.map(|own| {
            let value = if own == level { values.next() } else { None };
            value.map(|bytes| text(bytes.data().to_vec())).transpose()
        });
        Ok(list.collect::<Result<Vec<_>, String>>().map(Caption::of_list).transpose())
    }
}
