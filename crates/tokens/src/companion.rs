//! The metadata of images, for formats whose own files have no place for it: `keys.jsonl`, with one
//! JSON object per line and one line per row, in the same order.
//!
//! The fields are key, h, w, width, height, then label, text and json if the image has them.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{Input, Output, name};
use super::line_index::LineIndex;
use super::open_files::OpenFiles;
use super::{Grid, Layout, Place, Row, Shard, TokensError};
use pixtok_base::Carried;

/// A row as a line of JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Line<'a> {
    key: Cow<'a, str>,
    h: u32,
    w: u32,
    width: u32,
    height: u32,
    /// The tokens; only in the JSONL format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<Cow<'a, Carried>>,
}

/// The ids of a row in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Tokens<'a> {
    Ids(Cow<'a, [u32]>),
    Names(Cow<'a, str>),
}

impl<'a> Line<'a> {
    /// Everything in `row` except its ids.
    pub fn new(row: &'a Row, tokens: Option<Tokens<'a>>) -> Self {
        Self {
            key: Cow::from(&row.key),
            h: row.grid.h,
            w: row.grid.w,
            width: row.width,
            height: row.height,
            tokens,
            label: row.label,
            text: row.text.as_deref().map(Cow::from),
            json: row.json.as_ref().map(Cow::Borrowed),
        }
    }

    /// The row with these ids.
    pub fn row(self, ids: Vec<u32>) -> Row {
        Row {
            key: self.key.into_owned(),
            grid: Grid { h: self.h, w: self.w },
            width: self.width,
            height: self.height,
            ids,
            label: self.label,
            text: self.text.map(Cow::into_owned),
            json: self.json.map(Cow::into_owned),
        }
    }
}

/// Reads the next line of a file, which must be the line of row `number`.
pub(super) fn read_line(input: &mut Input, number: u64) -> Result<Line<'static>, TokensError> {
    let Some(line) = input.line()? else {
        return Err(input.damaged(format!("it ends after {number} rows")));
    };
    parse_line(&line, number).map_err(|reason| input.damaged(reason))
}

/// Parses the line of row `number`.
pub(super) fn parse_line(line: &[u8], number: u64) -> Result<Line<'static>, String> {
    serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", number + 1))
}

/// The file name of the companion.
pub(super) fn file(place: Place) -> String {
    name("keys", "jsonl", place)
}

/// Writes a companion.
pub(super) struct KeysWriter(Output);

impl KeysWriter {
    /// Starts the companion of a shard.
    pub fn create(folder: &Path, place: Place) -> Result<Self, TokensError> {
        Ok(Self(Output::create(folder.join(file(place)))?))
    }

    /// Adds a row.
    pub fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.0.json_line(&Line::new(row, None))
    }

    /// Finishes the file.
    pub fn finish(self) -> Result<(), TokensError> {
        self.0.finish()
    }
}

/// Replaces a missing companion: rows have their number in the set as key, the layout's grid, and
/// an unknown picture size (0).
pub(super) struct Numbered {
    first_row: u64,
    grid: Grid,
}

impl Numbered {
    /// Replaces the companion at `path`, which could not be opened, but only if it is missing.
    fn new(path: PathBuf, error: TokensError, shard: Shard, layout: &Layout) -> Result<Self, TokensError> {
        match error {
            TokensError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let reason = "it is missing, and nothing else states the grids of images of different sizes";
                let grid = layout.grid.ok_or_else(|| TokensError::Damaged { path, reason: reason.into() })?;
                Ok(Self { first_row: shard.place.first_row, grid })
            }
            error => Err(error),
        }
    }

    fn row(&self, number: u64) -> Row {
        Row {
            key: format!("{:08}", self.first_row.saturating_add(number)),
            grid: self.grid,
            width: 0,
            height: 0,
            ids: vec![],
            label: None,
            text: None,
            json: None,
        }
    }
}

/// Reads a companion.
pub(super) enum Keys {
    There { input: Input, rows: u64 },
    Missing(Numbered),
}

impl Keys {
    /// Opens the companion of a shard.
    pub fn open(folder: &Path, shard: Shard, layout: &Layout) -> Result<Self, TokensError> {
        let path = folder.join(file(shard.place));
        match Input::open(path.clone()) {
            Ok(input) => Ok(Self::There { input, rows: shard.rows }),
            Err(error) => Numbered::new(path, error, shard, layout).map(Self::Missing),
        }
    }

    /// Reads row `number` of the shard, without its ids.
    pub fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        match self {
            Self::There { input, .. } => Ok(read_line(input, number)?.row(vec![])),
            Self::Missing(numbered) => Ok(numbered.row(number)),
        }
    }

    /// Checks that there are no more rows.
    pub fn end(&self) -> Result<(), TokensError> {
        match self {
            Self::There { input, rows } if input.left() > 0 => {
                Err(input.damaged(format!("it has more lines than the shard's {rows} rows")))
            }
            _ => Ok(()),
        }
    }
}

/// Reads single rows of a companion.
pub(super) enum KeysAt {
    There(LineIndex),
    Missing(Numbered),
}

impl KeysAt {
    /// Opens the companion of a shard, and reads through it once.
    pub fn open(
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<Self, TokensError> {
        let path = folder.join(file(shard.place));
        match LineIndex::open(path.clone(), shard.rows, files) {
            Ok(lines) => Ok(Self::There(lines)),
            Err(error) => Numbered::new(path, error, shard, layout).map(Self::Missing),
        }
    }

    /// Row `number` of the shard, without its ids.
    pub fn row(&self, number: u64) -> Result<Row, TokensError> {
        match self {
            Self::There(lines) => {
                let line = parse_line(&lines.line(number)?, number);
                Ok(line.map_err(|reason| lines.damaged(reason))?.row(vec![]))
            }
            Self::Missing(numbered) => Ok(numbered.row(number)),
        }
    }
}
