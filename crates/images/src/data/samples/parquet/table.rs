//! Reads a Parquet file of images row by row.

use std::fs::File;
use std::path::PathBuf;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};

use super::cells::RowGroup;
use super::columns::Columns;
use super::features::Features;
use super::{NO_BYTES, TableFile, numbered};
use crate::data::DataError;
use crate::data::samples::labels::{Labels, Raw};
use crate::data::samples::{Altered, Encoded, Sample, Selection, captions, key};
use pixtok_base::panics::in_words;
use pixtok_base::sniff::{Kind, sniff_file};

/// A Parquet file being read row by row. Only one page of each column is in memory, whatever the
/// number of rows.
pub(super) struct Table {
    pub(super) path: PathBuf,
    /// The file's name, with which the keys of its rows begin.
    stem: String,
    /// Whether the rows have their own keys.
    pub(super) keyed: bool,
    pub(super) reader: SerializedFileReader<File>,
    pub(super) columns: Columns,
    /// The row group being read.
    group: Option<RowGroup>,
    next_group: usize,
    /// The next row, counted over the whole file.
    row: u64,
    /// The key of the previous row.
    last: Option<String>,
}

impl Table {
    pub(super) fn open(file: &TableFile, selection: &Selection) -> Result<Table, DataError> {
        let TableFile { path, stem, keyed } = file.clone();
        let opened = File::open(&path).map_err(|source| DataError::File { path: path.clone(), source })?;
        let reader =
            in_words(|| SerializedFileReader::new(opened)).map_err(|reason| match sniff_file(&path) {
                Ok(Kind::Parquet) | Err(_) => DataError::Damaged { path: path.clone(), last: None, reason },
                Ok(kind) => DataError::OtherKind { path: path.clone(), kind, expected: "a Parquet file" },
            })?;
        let about = reader.metadata().file_metadata();
        let missing = |columns| DataError::NoImageColumn { path: path.clone(), columns };
        let name = path.display().to_string();
        let columns = Columns::find(about.schema_descr(), &Features::of(about), selection, &name, missing)?;
        Ok(Table { path, stem, keyed, reader, columns, group: None, next_group: 0, row: 0, last: None })
    }

    /// Calls `each` with the number of every row, its own key (if `with_keys` and it has one) and
    /// its label. Reads no image.
    pub(super) fn for_each(
        mut self,
        with_keys: bool,
        mut each: impl FnMut(u64, Option<String>, Option<Raw>),
    ) -> Result<(), DataError> {
        let with_keys = with_keys && self.keyed;
        while let Some(mut group) = self.take_group()? {
            while group.has_row() {
                let key = with_keys.then(|| self.key(&mut group)).transpose()?;
                let label = in_words(|| group.label()).map_err(|reason| self.damaged(reason))?;
                each(self.row, key, label);
                group.advance();
                self.row += 1;
            }
        }
        Ok(())
    }

    pub(super) fn next(
        &mut self,
        labels: &Labels,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Sample>, DataError> {
        while let Some(mut group) = self.take_group()? {
            let found = self.read_row(&mut group, labels, wanted)?;
            // After an error the group is dropped, so that a reader that failed is not used again.
            self.group = Some(group);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The row group with the next row, if there is one.
    fn take_group(&mut self) -> Result<Option<RowGroup>, DataError> {
        loop {
            if let Some(group) = self.group.take().filter(RowGroup::has_row) {
                return Ok(Some(group));
            }
            if self.next_group == self.reader.num_row_groups() {
                return Ok(None);
            }
            let group = in_words(|| RowGroup::open(&self.reader, self.next_group, &self.columns))
                .map_err(|reason| self.damaged(reason))?;
            self.next_group += 1;
            self.group = Some(group);
        }
    }

    fn read_row(
        &mut self,
        group: &mut RowGroup,
        labels: &Labels,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Sample>, DataError> {
        let key = self.key(group)?;
        let sample = if wanted(&key) { Some(self.sample(group, labels, key.clone())?) } else { None };
        group.advance();
        self.row += 1;
        self.last = Some(key);
        Ok(sample)
    }

    fn key(&self, group: &mut RowGroup) -> Result<String, DataError> {
        if !self.keyed {
            return Ok(numbered(&self.stem, self.row));
        }
        let raw = in_words(|| group.key()).map_err(|reason| self.damaged(reason))?;
        let text = match &raw {
            Some(bytes) => str::from_utf8(bytes).map_err(|_| "is not UTF-8"),
            None => Err("is null"),
        };
        text.and_then(key::key).map_err(|reason| {
            let shown = String::from_utf8_lossy(raw.as_deref().unwrap_or_default());
            key::refusal(&self.path, format!("row {}", self.row), &shown, reason)
        })
    }

    fn sample(&self, group: &mut RowGroup, labels: &Labels, key: String) -> Result<Sample, DataError> {
        let (image, label, found) =
            in_words(|| Ok::<_, ParquetError>((group.image()?, group.label()?, group.captions()?)))
                .map_err(|reason| self.damaged(reason))?;
        let mut image = image.map(Encoded::Bytes).ok_or_else(|| NO_BYTES.to_owned());
        let (texts, broken): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        let unreadable = broken.len() as u64;
        let chosen = captions::choose(texts.into_iter().flatten().map(|caption| ((), caption)).collect());
        let (mut text, mut json, mut altered) = (None, None, Altered::default());
        match (chosen, broken.into_iter().find_map(Result::err)) {
            (Some(((), caption, others)), _) => {
                json = caption.carried();
                text = Some(caption.text);
                altered.captions = others + unreadable;
            }
            (None, Some(reason)) => image = Err(reason),
            (None, None) => {}
        }
        Ok(Sample { key, image, label: labels.number(label.as_ref()), text, json, altered, tried: None })
    }

    pub(super) fn damaged(&self, reason: String) -> DataError {
        DataError::Damaged { path: self.path.clone(), last: self.last.clone(), reason }
    }
}
