//! Ids that a language model generated, in a file without a sidecar: `.npy`, `.bin` or `.jsonl`.
//!
//! - npy: integers of any type, `[N, L]` with a row for each image, `[N, h, w]` (`[N, h, w, n]`,
//!   `[N, n, h, w]`, or of a sequence `[N, tokens, n]`) with codes alone, or `[L]` as in a .bin.
//! - bin: ids of the set's number type, without a header. Rows follow each other and are all as
//!   long as the first.
//! - jsonl: a line for each image, a list of ids or an object with the list in `tokens`, and `key`,
//!   `h` and `w` if it likes. Blank lines are passed over.
//!
//! A row may lack ids of the framing at its start and at its end, and all ends of rows; [`form`]
//! says what it may look like. Whatever is wrong with a row is a [`BadRow`], and the rows after it
//! can still be read. Nothing is held in memory but one row.

mod bin;
mod form;
mod grid;
mod jsonl;
mod npy;
mod width;

use std::fmt;
use std::path::{Path, PathBuf};

pub use form::GeneratedForm;

use super::files::Input;
use super::{Dtype, Grid, MAX_ID, Row, TokensError};

/// A file of ids that a model generated.
#[derive(Debug)]
pub struct Generated {
    path: PathBuf,
    kind: Kind,
    form: GeneratedForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Npy,
    /// With what the file itself doesn't state.
    Bin(Dtype, Grid),
    Jsonl,
}

/// A row that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The number of the row, counted from 0.
    pub number: u64,
    /// Its line in a jsonl file, counted from 1.
    pub line: Option<u64>,
    /// What is wrong with it. Places in a row count from 0.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.number)?;
        if let Some(line) = self.line {
            write!(f, " (line {line} of the file)")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The rows of a file: whole rows as a set has them, or what is wrong with one. An error ends them.
pub type GeneratedRows<'a> = Box<dyn Iterator<Item = Result<Result<Row, BadRow>, TokensError>> + 'a>;

/// A row as a file has it.
struct Found {
    /// Its ids, or why they are none.
    ids: Result<Vec<u32>, String>,
    /// The grid, if the file states it.
    grid: Option<Grid>,
    /// The name of the image, if the file states it.
    key: Option<String>,
    line: Option<u64>,
}

impl Found {
    /// A row of ids and nothing else.
    fn bare(ids: Result<Vec<u32>, String>) -> Self {
        Self { ids, grid: None, key: None, line: None }
    }
}

type FoundRows = Box<dyn Iterator<Item = Result<Found, TokensError>>>;

impl Generated {
    /// Whether a file's name ends as those of generated ids do.
    #[must_use]
    pub fn has_ending(path: &Path) -> bool {
        ending(path).is_some_and(|ending| ["npy", "bin", "jsonl"].contains(&ending))
    }

    /// The file at `path`, whose rows have this form.
    ///
    /// # Errors
    /// If its name has another ending, or nothing tells how its rows are divided.
    pub fn new(path: &Path, form: GeneratedForm) -> Result<Self, TokensError> {
        let refused = |words: &str| Err(TokensError::Unsuitable(format!("{} {words}", path.display())));
        let kind = match (ending(path), form.dtype, form.usual_grid()) {
            (Some("npy"), _, _) => Kind::Npy,
            (Some("jsonl"), _, _) => Kind::Jsonl,
            (Some("bin"), Some(dtype), Some(grid)) => Kind::Bin(dtype, grid),
            (Some("bin"), None, _) => {
                return refused(
                    "has no header that states its number type and its rows; give the set that the model was trained on \
                     with --like, or save the codes as .npy",
                );
            }
            (Some("bin"), Some(_), None) => {
                return refused(
                    "does not tell where its rows end, since the images of the set have different sizes; save the ids as \
                     .jsonl",
                );
            }
            _ => {
                return refused(
                    "has none of the endings of generated ids; give a file that ends in .npy, .bin or .jsonl",
                );
            }
        };
        Ok(Self { path: path.to_owned(), kind, form })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rows, in order. A row without a key of its own is named by its number.
    ///
    /// # Errors
    /// If the file cannot be read, or its header does not suit the form.
    pub fn rows(&self) -> Result<GeneratedRows<'_>, TokensError> {
        let found: FoundRows = match self.kind {
            Kind::Npy => npy::rows(&self.path, &self.form)?,
            Kind::Bin(dtype, grid) => bin::rows(&self.path, dtype, grid, &self.form)?,
            Kind::Jsonl => jsonl::rows(&self.path, &self.form)?,
        };
        Ok(Box::new((0..).zip(found).map(|(number, found)| Ok(self.row(number, found?)))))
    }

    fn row(&self, number: u64, found: Found) -> Result<Row, BadRow> {
        let Found { ids, grid, key, line } = found;
        let whole = ids.and_then(|ids| self.form.complete(&ids, grid));
        let (grid, ids) = whole.map_err(|reason| BadRow { number, line, reason })?;
        let key = key.unwrap_or_else(|| format!("{number:08}"));
        Ok(Row { key, grid, width: 0, height: 0, ids, label: None, text: None, json: None })
    }
}

fn ending(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// A type of integers, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Integer {
    bytes: usize,
    signed: bool,
}

impl Integer {
    /// The ids in `bytes`, as far as they are whole.
    fn ids(self, bytes: &[u8]) -> Result<Vec<u32>, String> {
        let number = |bytes: &[u8]| {
            let is_negative = self.signed && bytes.last().is_some_and(|&last| last >= 0x80);
            let mut wide = [if is_negative { 0xff } else { 0 }; 16];
            wide[..bytes.len()].copy_from_slice(bytes);
            i128::from_le_bytes(wide)
        };
        let ids = bytes.chunks_exact(self.bytes).enumerate().map(|(place, bytes)| {
            let number = number(bytes);
            u32::try_from(number)
                .ok()
                .filter(|&id| u64::from(id) <= MAX_ID)
                .ok_or_else(|| no_id(place, &number.to_string()))
        });
        ids.collect()
    }
}

/// What is wrong with a number that can be no id.
fn no_id(place: usize, shown: &str) -> String {
    format!("place {place} has {shown}, which is not an id: ids are whole numbers from 0 to {MAX_ID}")
}

/// Reads rows of `row_bytes` bytes up to the end of `input`. Bytes after the last whole row are a
/// row of their own, with what is wrong with it.
fn even_rows(mut input: Input, row_bytes: u64, integer: Integer) -> FoundRows {
    let mut failed = false;
    Box::new(std::iter::from_fn(move || {
        let left = input.left();
        if left == 0 || failed {
            return None;
        }
        let taken = input.take(left.min(row_bytes));
        failed = taken.is_err();
        Some(taken.map(|bytes| {
            let ids = if left >= row_bytes {
                integer.ids(&bytes)
            } else {
                let [ids, whole] = [left, row_bytes].map(|bytes| bytes / integer.bytes as u64);
                Err(format!("the file ends after {ids} of its {whole} ids"))
            };
            Found::bare(ids)
        }))
    }))
}

#[cfg(test)]
mod tests;
