//! Parquet files as Hugging Face's image data sets have them: a row a sample.
//!
//! The images are in the column `image`, a struct with a binary field `bytes`. `key` or `__key__`, a string, names a row;
//! without it FILE/NUMBER does, counted from 0 in each file. `label` or `cls`, an integer, and `text` or `caption`, a
//! string, are taken over. Nothing else is read: a column of such a name and another type neither.

mod columns;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::vec;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};

use self::columns::{Columns, Group};
use super::{DataError, Encoded, Input, Sample, SampleStream, fingerprint, key, keys_of};
use crate::panics::in_words;

/// Parquet files with the same columns, in order.
#[derive(Debug)]
pub(super) struct Parquet {
    files: Vec<PathBuf>,
    rows: u64,
    fingerprint: String,
}

impl Parquet {
    /// Reads what the end of each file says of it.
    pub(super) fn open(files: Vec<PathBuf>) -> Result<Parquet, DataError> {
        let (mut rows, mut stems) = (0, HashSet::new());
        let mut first: Option<(&Path, String)> = None;
        for path in &files {
            let table = Table::open(path)?;
            let columns = table.columns.to_string();
            match &first {
                Some((first, expected)) if columns != *expected => {
                    let difference = format!("{columns} against {expected}");
                    return Err(DataError::SchemaDiffers {
                        path: path.clone(),
                        first: first.to_path_buf(),
                        difference,
                    });
                }
                Some(_) => {}
                None => first = Some((path, columns)),
            }
            rows += u64::try_from(table.reader.metadata().file_metadata().num_rows()).unwrap_or_default();
            if !table.columns.has_key() && !stems.insert(table.stem.clone()) {
                let reason =
                    format!("another file also gives keys that begin with {}/; rename one", table.stem);
                return Err(DataError::KeysClash { path: path.clone(), reason });
            }
        }
        Ok(Parquet { rows, fingerprint: fingerprint(&files)?, files })
    }
}

impl Input for Parquet {
    fn kind(&self) -> &'static str {
        "parquet"
    }

    fn len(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        Ok(Box::new(Stream { files: self.files.clone().into_iter(), table: None }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<Vec<String>, DataError> {
        for path in &self.files {
            let file = vec![path.clone()].into_iter();
            keys_of(Box::new(Stream { files: file, table: None }), path, each)?;
        }
        Ok(vec![])
    }
}

struct Stream {
    files: vec::IntoIter<PathBuf>,
    /// The one being read.
    table: Option<Table>,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        loop {
            if let Some(table) = &mut self.table {
                if let Some(sample) = table.next(wanted)? {
                    return Ok(Some(sample));
                }
                self.table = None;
            }
            let Some(path) = self.files.next() else { return Ok(None) };
            self.table = Some(Table::open(&path)?);
        }
    }
}

/// A file being read, row by row: of a column there is a page in memory, whatever the number of rows.
struct Table {
    path: PathBuf,
    /// The file's name as the beginning of keys.
    stem: String,
    reader: SerializedFileReader<File>,
    columns: Columns,
    /// The row group being read.
    group: Option<Group>,
    next_group: usize,
    /// The next row, counted within the file.
    row: u64,
    /// The key of the row before.
    last: Option<String>,
}

impl Table {
    fn open(path: &Path) -> Result<Table, DataError> {
        let file = File::open(path).map_err(|source| DataError::File { path: path.to_owned(), source })?;
        let reader = in_words(|| SerializedFileReader::new(file)).map_err(|reason| DataError::Damaged {
            path: path.to_owned(),
            last: None,
            reason,
        })?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let columns = Columns::find(schema).ok_or_else(|| DataError::NoImageColumn {
            path: path.to_owned(),
            columns: columns::names(schema),
        })?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let stem = key::key(&stem)
            .map_err(|reason| key::refusal(path, "the file's name".to_owned(), &stem, reason))?;
        Ok(Table {
            path: path.to_owned(),
            stem,
            reader,
            columns,
            group: None,
            next_group: 0,
            row: 0,
            last: None,
        })
    }

    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        while let Some(mut group) = self.take_group()? {
            let found = self.read_row(&mut group, wanted)?;
            // After an error it is gone: a reader that failed is not asked again.
            self.group = Some(group);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The row group that holds the next row, if there is one.
    fn take_group(&mut self) -> Result<Option<Group>, DataError> {
        loop {
            if let Some(group) = self.group.take().filter(Group::has_row) {
                return Ok(Some(group));
            }
            if self.next_group == self.reader.num_row_groups() {
                return Ok(None);
            }
            let group = in_words(|| Group::open(&self.reader, self.next_group, &self.columns))
                .map_err(|reason| self.damaged(reason))?;
            self.next_group += 1;
            self.group = Some(group);
        }
    }

    fn read_row(
        &mut self,
        group: &mut Group,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Sample>, DataError> {
        let key = self.key(group)?;
        let sample = if wanted(&key) { Some(self.sample(group, key.clone())?) } else { None };
        group.advance();
        self.row += 1;
        self.last = Some(key);
        Ok(sample)
    }

    fn key(&self, group: &mut Group) -> Result<String, DataError> {
        if !self.columns.has_key() {
            return Ok(format!("{}/{:08}", self.stem, self.row));
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

    fn sample(&self, group: &mut Group, key: String) -> Result<Sample, DataError> {
        let (image, label, text) =
            in_words(|| Ok::<_, ParquetError>((group.image()?, group.label()?, group.text()?)))
                .map_err(|reason| self.damaged(reason))?;
        let image = image.map(Encoded::Bytes).ok_or_else(|| "the image's `bytes` are null".to_owned());
        let mut sample = Sample { key, image, label: None, text: None, json: None };
        match label.map(i64::try_from).transpose() {
            Ok(label) => sample.label = label,
            Err(_) => sample.image = Err("the label is no signed 64-bit integer".to_owned()),
        }
        match text.map(String::from_utf8).transpose() {
            Ok(text) => sample.text = text,
            Err(_) => sample.image = Err("the text is not UTF-8".to_owned()),
        }
        Ok(sample)
    }

    fn damaged(&self, reason: String) -> DataError {
        DataError::Damaged { path: self.path.clone(), last: self.last.clone(), reason }
    }
}

#[cfg(test)]
mod tests;
