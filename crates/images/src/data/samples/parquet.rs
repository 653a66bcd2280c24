//! Parquet files like Hugging Face's image data sets, with one sample per row.
//!
//! The images are in a column such as `image` or `img`: a struct with a binary field `bytes`, or
//! plain bytes. A string column `key` or `__key__` holds the keys of rows. Without it, a row's key
//! is FILE/NUMBER, counted from 0 in each file. Columns such as `label` and `cls` follow the rule
//! in `labels`; columns such as `text` and `caption` follow the rule in `captions`. `columns`
//! chooses the columns and lists those that are not used, `splits` assigns files to splits, and
//! `features` reads what `datasets` stores about the columns.

mod cells;
mod columns;
mod features;
mod leaf;
pub(in crate::data) mod pages;
pub(in crate::data) mod splits;
mod table;
mod texts;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::file::reader::FileReader;
use rayon::prelude::*;

use self::columns::Columns;
use self::leaf::Values;
use self::pages::Pages;
use self::table::Table;
use super::labels::{Labels, Survey};
use super::{DataError, Input, Sample, SampleStream, Selection, Share, fingerprint, key};

/// The reason why a row has no image. A path beside it names a file on the author's machine.
pub(in crate::data) const NO_BYTES: &str = "the image's `bytes` are null, and a path is not followed";

/// Parquet files with the same columns, in order.
#[derive(Debug)]
pub(in crate::data) struct Tables {
    /// Those of the share.
    files: Vec<TableFile>,
    /// The number of all, if whole files are dealt out.
    dealt: Option<usize>,
    rows: u64,
    fingerprint: String,
    selection: Selection,
    labels: Labels,
    labels_used: Option<bool>,
    notes: Vec<String>,
    /// The number of notes on splits and missing files, which come first.
    of_splits: usize,
}

/// One of the files.
#[derive(Debug, Clone)]
struct TableFile {
    path: PathBuf,
    /// Its path within the set, with which the keys of its rows begin.
    stem: String,
    /// Whether the rows of the set have their own keys.
    keyed: bool,
}

impl Tables {
    /// Reads the footers of the files in `root`, and the labels of those of `share`; the labels of
    /// the others only if the use of labels depends on them.
    pub(in crate::data) fn open(
        root: &Path,
        files: Vec<PathBuf>,
        selection: &Selection,
        share: Share,
    ) -> Result<Tables, DataError> {
        let mut notes = vec![];
        let paths = splits::choose(root, files, selection.split.as_deref(), &mut notes)?;
        let of_splits = notes.len();
        let mut files = with_stems(&paths)?;
        let (mut rows, mut left) = (vec![], Vec::<String>::new());
        let mut first: Option<(&Path, Columns)> = None;
        for file in &files {
            let Table { columns, reader, .. } = Table::open(file, selection)?;
            rows.push(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or_default());
            let new: Vec<String> =
                columns.left.iter().filter(|&column| !left.contains(column)).cloned().collect();
            left.extend(new);
            match &mut first {
                Some((first, expected)) => {
                    expected.unify(&columns).map_err(|difference| DataError::SchemaDiffers {
                        path: file.path.clone(),
                        first: first.to_path_buf(),
                        difference,
                    })?
                }
                None => first = Some((&file.path, columns)),
            }
        }
        if let Some((path, Columns { image, .. })) = &first
            && image.values == Values::Null
        {
            let columns = format!("{} ({}), without a single value", image.path, image.kind);
            return Err(DataError::NoImageColumn { path: path.to_path_buf(), columns });
        }
        if !left.is_empty() {
            let left = left.join(", ");
            notes.push(format!(
                "columns that are not used: {left} (--label-column and --text-column take one)"
            ));
        }
        let (columns, asked) = (first.map(|(_, columns)| columns), selection.label.is_some());
        notes.extend(columns.as_ref().and_then(Columns::of_several_texts));
        if !columns.as_ref().is_some_and(Columns::has_key) {
            check_stems(&files)?;
            files.iter_mut().for_each(|file| file.keyed = false);
        }
        let (own, classes) = (share.of_list(&files), selection.classes.as_ref());
        let leaf = columns.as_ref().and_then(|columns| columns.label.as_ref());
        let (what, labels) = match leaf {
            Some(leaf) => {
                let mut labels = survey(own.as_deref().unwrap_or(&files), selection)?;
                if own.is_some() && labels.needs_others(classes, asked) {
                    labels = survey(&files, selection)?;
                }
                (format!("the column {} ({})", leaf.path, leaf.kind), labels)
            }
            None => ("a column of labels".to_owned(), Survey::default()),
        };
        let names = columns.as_ref().and_then(|columns| columns.classes.clone());
        let has_labels = !labels.is_empty();
        let labels = labels.settle(&what, names, classes, asked, &mut notes)?;
        Ok(Tables {
            fingerprint: fingerprint(&paths)?,
            dealt: own.is_some().then_some(files.len()),
            files: own.unwrap_or(files),
            rows: share.of_list(&rows).unwrap_or(rows).iter().sum(),
            selection: selection.clone(),
            labels_used: has_labels.then(|| labels.are_taken()),
            labels,
            notes,
            of_splits,
        })
    }
}

/// The data that training needs of a file's rows, besides their images.
pub(in crate::data) struct Rows {
    pub(in crate::data) labels: Vec<Option<i64>>,
    /// The rows' own keys, if they have any.
    pub(in crate::data) keys: Option<Vec<String>>,
}

impl Tables {
    /// The number of files.
    pub(in crate::data) fn len(&self) -> usize {
        self.files.len()
    }

    /// See [`super::SampleSet::classes`].
    pub(in crate::data) fn classes(&self) -> &[String] {
        self.labels.classes()
    }

    /// Notes on which of several splits is used, and which files are missing.
    pub(in crate::data) fn notes_of_splits(&self) -> &[String] {
        &self.notes[..self.of_splits]
    }

    /// See [`super::SampleSet::fingerprint`].
    pub(in crate::data) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The key of a row that does not have its own.
    pub(in crate::data) fn numbered(&self, file: usize, row: u64) -> String {
        numbered(&self.files[file].stem, row)
    }

    /// The pages of a file's images, and its rows.
    pub(in crate::data) fn scan(&self, file: usize) -> Result<(Pages, Rows), DataError> {
        let table = Table::open(&self.files[file], &self.selection)?;
        let pages = Pages::of(&table).map_err(|reason| table.damaged(reason))?;
        let mut rows = Rows { labels: vec![], keys: table.keyed.then(Vec::new) };
        table.for_each(true, |_, key, label| {
            rows.labels.push(self.labels.number(label.as_ref()));
            if let Some(keys) = &mut rows.keys {
                keys.extend(key);
            }
        })?;
        Ok((pages, rows))
    }
}

fn numbered(stem: &str, row: u64) -> String {
    format!("{stem}/{row:08}")
}

/// Names each file by its path below the deepest folder that holds all of them.
fn with_stems(paths: &[PathBuf]) -> Result<Vec<TableFile>, DataError> {
    let mut common = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
    while !paths.iter().all(|path| path.starts_with(common)) {
        common = common.parent().unwrap_or(Path::new(""));
    }
    let file = |path: &PathBuf| {
        let name = path.strip_prefix(common).unwrap_or(path).with_extension("");
        let name = name.to_string_lossy();
        let stem = key::key(&name)
            .map_err(|reason| key::refusal(path, "the file's name".to_owned(), &name, reason))?;
        Ok(TableFile { path: path.clone(), stem, keyed: true })
    };
    paths.iter().map(file).collect()
}

/// Checks that no two files give the same keys to their rows.
fn check_stems(files: &[TableFile]) -> Result<(), DataError> {
    let mut stems: HashMap<&str, &Path> = HashMap::new();
    for TableFile { path, stem, .. } in files {
        if let Some(other) = stems.insert(stem, path) {
            let reason =
                format!("{} also gives keys that begin with {stem}/; rename one of the two", other.display());
            return Err(DataError::KeysClash { path: path.clone(), reason });
        }
    }
    Ok(())
}

/// The labels of all files, in the order of the files.
fn survey(files: &[TableFile], selection: &Selection) -> Result<Survey, DataError> {
    let of_file = |file: &TableFile| {
        let mut survey = Survey::default();
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        Table::open(file, selection)?.for_each(false, |row, _, label| {
            survey.add(label.as_ref(), || format!("row {row} of {name}"));
        })?;
        Ok(survey)
    };
    files.par_iter().map(of_file).reduce(|| Ok(Survey::default()), |all, survey| Ok(all?.and(survey?)))
}

/// The tables as the input of an export.
#[derive(Debug)]
pub(super) struct Parquet(pub(super) Arc<Tables>);

impl Input for Parquet {
    fn kind(&self) -> &'static str {
        "parquet"
    }

    fn classes(&self) -> &[String] {
        self.0.labels.classes()
    }

    fn notes(&self) -> &[String] {
        &self.0.notes
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.rows)
    }

    fn fingerprint(&self) -> String {
        self.0.fingerprint.clone()
    }

    fn files_of_share(&self) -> Option<[usize; 2]> {
        Some([self.0.files.len(), self.0.dealt?])
    }

    fn labels_used(&self) -> Option<bool> {
        self.0.labels_used
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        Ok(Box::new(Stream { tables: Arc::clone(&self.0), next: 0, table: None }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError> {
        for file in &self.0.files {
            let mut keep = |key: &str| {
                each(&file.path, key);
                false
            };
            let mut table = Table::open(file, &self.0.selection)?;
            while table.next(&self.0.labels, &mut keep)?.is_some() {}
        }
        Ok(())
    }
}

struct Stream {
    tables: Arc<Tables>,
    /// The index of the next file.
    next: usize,
    /// The file that is being read.
    table: Option<Table>,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        loop {
            if let Some(table) = &mut self.table {
                if let Some(sample) = table.next(&self.tables.labels, wanted)? {
                    return Ok(Some(sample));
                }
                self.table = None;
            }
            let Some(file) = self.tables.files.get(self.next) else { return Ok(None) };
            self.next += 1;
            self.table = Some(Table::open(file, &self.tables.selection)?);
        }
    }
}

#[cfg(test)]
mod tests;
