//! `metadata.jsonl` and `metadata.csv`, as in Hugging Face's ImageFolder. Each line names an image
//! in `file_name`, relative to the metadata's folder, and holds the image's metadata. Lines are
//! read again when they are needed, so memory does not grow with their content.

pub(super) mod lines;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::lines::{JsonLines, Object, Span};
use super::{DataError, key};
use pixtok_base::Carried;

/// The names of metadata files.
pub(super) const NAMES: [&str; 2] = ["metadata.jsonl", "metadata.csv"];
/// The field that names the image.
const FILE_NAME: &str = "file_name";
/// The possible separators of cells in a CSV file. The first one with which a column is called
/// `file_name` is used: spreadsheets write semicolons in locales with a decimal comma.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// A metadata file.
#[derive(Debug)]
pub(super) struct Metadata {
    path: PathBuf,
    /// The column names, if it is a CSV file.
    header: Option<csv::StringRecord>,
    /// The separator of its cells.
    separator: u8,
    pub(super) blake3: blake3::Hash,
}

/// A line of a metadata file.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) span: Span,
    /// The image's path, relative to the metadata's folder; `None` if the line has no path, or a
    /// path that leads out of the folder.
    pub(super) file_name: Option<String>,
    /// Its other fields.
    pub(super) fields: Carried,
}

impl Metadata {
    /// Reads the file and calls `each` with every line.
    ///
    /// # Errors
    /// If it cannot be read, or a line is broken.
    pub(super) fn read(path: &Path, mut each: impl FnMut(Line)) -> Result<Metadata, DataError> {
        let fail = |source| DataError::File { path: path.to_owned(), source };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).map_err(fail)?).map_err(fail)?;
        let is_csv = path.extension().is_some_and(|ending| ending == "csv");
        let (path, blake3) = (path.to_owned(), hasher.finalize());
        let mut metadata = Metadata { path, header: None, separator: SEPARATORS[0], blake3 };
        if is_csv {
            metadata.read_csv(&mut each)?;
        } else {
            metadata.read_jsonl(&mut each)?;
        }
        Ok(metadata)
    }

    fn read_jsonl(&self, each: &mut impl FnMut(Line)) -> Result<(), DataError> {
        let mut lines = JsonLines::open(&self.path)?;
        while let Some((span, (fields, _))) = lines.next()? {
            each(line(lines.number, span, fields));
        }
        Ok(())
    }

    fn read_csv(&mut self, each: &mut impl FnMut(Line)) -> Result<(), DataError> {
        let path = self.path.clone();
        let failed = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            DataError::BadLine { path: path.clone(), line, reason: in_words(&error) }
        };
        for separator in SEPARATORS {
            let (_, header) = open_csv(&path, separator).map_err(failed)?;
            if header.iter().any(|name| name.trim() == FILE_NAME) {
                self.separator = separator;
                break;
            }
        }
        let (mut reader, header) = open_csv(&path, self.separator).map_err(failed)?;
        let mut record = csv::StringRecord::new();
        loop {
            let start = reader.position().byte();
            if !reader.read_record(&mut record).map_err(failed)? {
                break;
            }
            let number = record.position().map_or(0, csv::Position::line);
            let span = Span { start, length: reader.position().byte() - start };
            each(line(number, span, fields(&header, &record)));
        }
        self.header = Some(header);
        Ok(())
    }

    /// Opens the file, so that lines can be looked up in it.
    ///
    /// # Errors
    /// A message, if it cannot be opened.
    pub(super) fn open(&self) -> Result<File, String> {
        File::open(&self.path).map_err(|error| self.changed(&error.to_string()))
    }

    fn changed(&self, reason: &str) -> String {
        format!("{} cannot be read any more: {reason}", self.path.display())
    }

    /// The fields of a line of the opened `file`, without the image's name, and the number of
    /// values in them that are not finite.
    ///
    /// # Errors
    /// A message, if it cannot be read or has changed.
    pub(super) fn fields(&self, file: &File, span: Span) -> Result<Object, String> {
        let mut bytes = vec![0; span.length as usize];
        let changed = |reason: String| self.changed(&reason);
        file.read_exact_at(&mut bytes, span.start).map_err(|error| changed(error.to_string()))?;
        let (object, count) = match &self.header {
            None => lines::object(lines::without_mark(&bytes, span.start)).map_err(changed)?,
            Some(header) => {
                let mut options = csv::ReaderBuilder::new();
                options.has_headers(false).delimiter(self.separator);
                let mut reader = options.from_reader(bytes.as_slice());
                let record = reader.records().next();
                let record = record.ok_or_else(|| changed("it is shorter".to_owned()))?;
                (fields(header, &record.map_err(|error| changed(in_words(&error)))?), 0)
            }
        };
        Ok((line(0, span, object).fields, count))
    }
}

/// Opens a CSV file with this separator and reads its column names.
fn open_csv(path: &Path, separator: u8) -> Result<(csv::Reader<File>, csv::StringRecord), csv::Error> {
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_path(path)?;
    let header = reader.headers()?.clone();
    Ok((reader, header))
}

fn line(number: u64, span: Span, mut fields: Carried) -> Line {
    let name: Option<String> =
        fields.remove(FILE_NAME).and_then(|name| serde_json::from_str(name.get()).ok());
    let name = name.and_then(|name| key::normalised(&name).ok());
    Line { number, span, file_name: name, fields }
}

/// The non-empty cells, by column name.
fn fields(header: &csv::StringRecord, record: &csv::StringRecord) -> Carried {
    let mut fields = Carried::default();
    for (name, cell) in header.iter().zip(record).filter(|(_, cell)| !cell.is_empty()) {
        fields.insert(name.trim(), &Value::from(cell));
    }
    fields
}

fn in_words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells where the first line has {expected_len}; quote cells that hold separators")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8; save the file as such".to_owned(),
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => "it is not a line of CSV".to_owned(),
    }
}
