//! Reads an archive of rows, in order or singly.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tar::{EntryType, Header};

use super::super::files::Input;
use super::super::open_files::{FileAt, OpenFiles};
use super::super::reading::{Source, SourceAt};
use super::super::{Grid, Layout, Row, TokensError, npy};
use super::{BLOCK, OURS, padding};
use pixtok_base::Carried;

/// The end of the name of a row's first member.
const TOKENS: &str = ".tokens.npy";

/// A file in the archive.
struct Member {
    name: String,
    content: Vec<u8>,
}

/// Reads an archive, or the part of it that is one row.
pub(super) struct Reader {
    input: Input,
    layout: Layout,
    /// A member that was read but does not yet belong to a row.
    next: Option<Member>,
    /// Whether the first block of zeros was read.
    over: bool,
}

impl Reader {
    /// Reads from the current position of `input`.
    pub fn new(input: Input, layout: &Layout) -> Self {
        Self { input, layout: layout.clone(), next: None, over: false }
    }

    /// Name and size of the next member, whose content follows; `None` at the end of the archive.
    fn read_header(&mut self) -> Result<Option<(String, u64)>, TokensError> {
        // A single row does not end with blocks of zeros.
        if self.over || self.input.left() == 0 {
            return Ok(None);
        }
        let block: [u8; BLOCK] = self.input.array()?;
        if block == [0; BLOCK] {
            self.over = true;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        // The checksum counts its own field as spaces.
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let field: u32 = block[148..156].iter().map(|&byte| u32::from(byte)).sum();
        let wanted = sum - field + 8 * u32::from(b' ');
        let regular = header.as_ustar().is_some() && header.entry_type() == EntryType::Regular;
        if header.cksum().ok() != Some(wanted) || !regular {
            let at = format!("{} bytes before its end", self.input.left() + BLOCK as u64);
            return Err(self.input.damaged(format!("there is no header of a USTAR file {at}")));
        }
        let name = String::from_utf8(header.path_bytes().into_owned());
        let name = name.map_err(|_| self.input.damaged("a name in it is not UTF-8"))?;
        let size = header.entry_size().map_err(|error| self.input.damaged(format!("{name}: {error}")))?;
        Ok(Some((name, size)))
    }

    /// The next member; `None` at the end of the archive.
    fn read_member(&mut self) -> Result<Option<Member>, TokensError> {
        if let Some(member) = self.next.take() {
            return Ok(Some(member));
        }
        let Some((name, size)) = self.read_header()? else { return Ok(None) };
        let content = self.input.take(size)?;
        self.input.take(padding(size))?;
        Ok(Some(Member { name, content }))
    }

    /// The content of the next member, if it has this name.
    fn read_if(&mut self, name: &str) -> Result<Option<Vec<u8>>, TokensError> {
        match self.read_member()? {
            Some(member) if member.name == name => Ok(Some(member.content)),
            other => {
                self.next = other;
                Ok(None)
            }
        }
    }

    fn row(&self, key: &str, array: &[u8], json: &[u8]) -> Result<Row, String> {
        let mut json = Carried::parse(json).map_err(|error| error.to_string())?;
        let ours = json.remove(OURS).and_then(|ours| serde_json::from_str::<Value>(ours.get()).ok());
        let ours = ours.unwrap_or_default();
        if ours["key"].as_str() != Some(key) {
            return Err("its json has another key".into());
        }
        let [h, w, width, height] = ["h", "w", "width", "height"].map(|field| {
            let number = ours[field].as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("its json has no valid {field}"))
        });
        let grid = Grid { h: h?, w: w? };
        let (width, height) = (width?, height?);
        let (header, data) = npy::split(array).ok_or("its tokens are not an npy array")?;
        let dtype = self.layout.dtype;
        if header.descr != npy::descr(dtype) || data.len() % dtype.bytes() != 0 {
            return Err(format!("its tokens are not an array of {}", dtype.name()));
        }
        let ids = dtype.ids_from_bytes(data);
        let json = (!json.is_empty()).then_some(json);
        let row = Row { key: key.to_owned(), grid, width, height, ids, label: None, text: None, json };
        let shape = self.layout.shape(&row);
        if !shape.iter().map(|&axis| axis as u64).eq(header.shape.iter().copied()) {
            return Err(format!("its array has shape {:?}, its grid makes it {shape:?}", header.shape));
        }
        Ok(row)
    }
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let Some(Member { name, content: array }) = self.read_member()? else {
            return Err(self.damaged(format!("it ends after {number} rows")));
        };
        let Some(key) = name.strip_suffix(TOKENS) else {
            return Err(self.damaged(format!("row {number} begins with {name}, not with its tokens")));
        };
        let Some(json) = self.read_if(&format!("{key}.json"))? else {
            return Err(self.damaged(format!("row {number} ({key}) has no {key}.json after its tokens")));
        };
        let row = self.row(key, &array, &json);
        let mut row = row.map_err(|reason| self.damaged(format!("row {number} ({key}): {reason}")))?;
        if let Some(text) = self.read_if(&format!("{key}.txt"))? {
            let text = String::from_utf8(text);
            row.text = Some(text.map_err(|_| self.damaged(format!("row {number}: {key}.txt is not UTF-8")))?);
        }
        if let Some(label) = self.read_if(&format!("{key}.cls"))? {
            let label = std::str::from_utf8(&label).ok().and_then(|label| label.parse().ok());
            row.label =
                Some(label.ok_or_else(|| self.damaged(format!("row {number}: {key}.cls is not a number")))?);
        }
        Ok(row)
    }

    fn end(&mut self) -> Result<(), TokensError> {
        if let Some(member) = self.read_member()? {
            return Err(self.damaged(format!("{} comes after its last row", member.name)));
        }
        let second: [u8; BLOCK] = self.input.array()?;
        if second != [0; BLOCK] {
            return Err(self.input.damaged("something comes after its end"));
        }
        self.input.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.input.damaged(reason)
    }
}

/// Reads single rows of an archive.
pub(super) struct ReaderAt {
    file: FileAt,
    path: PathBuf,
    layout: Layout,
    /// The position at which each row begins, and the end of the last.
    starts: Vec<u64>,
}

impl ReaderAt {
    /// Opens an archive and reads all headers in it once. It must have this number of rows.
    pub fn open(
        path: PathBuf,
        rows: u64,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<Self, TokensError> {
        let file = files.open(path.clone())?;
        let mut reader = Reader::new(Input::open(path.clone())?, layout);
        let mut starts = vec![];
        let end = loop {
            let at = file.length().saturating_sub(reader.input.left());
            let Some((name, size)) = reader.read_header()? else { break at };
            if name.ends_with(TOKENS) {
                starts.push(at);
            } else if at == 0 {
                return Err(file.damaged(format!("row 0 begins with {name}, not with its tokens")));
            }
            reader.input.skip(size)?;
            reader.input.skip(padding(size))?;
        };
        reader.end()?;
        if starts.len() as u64 != rows {
            return Err(file.damaged(format!("it has {} rows and should have {rows}", starts.len())));
        }
        starts.push(end);
        starts.shrink_to_fit();
        Ok(Self { file, path, layout: layout.clone(), starts })
    }
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let (start, end) = (self.starts[number as usize], self.starts[number as usize + 1]);
        let members = self.file.take(number, start, end - start)?;
        let mut reader = Reader::new(Input::part(self.path.clone(), members), &self.layout);
        let row = reader.next(number)?;
        match reader.read_member()? {
            Some(member) => Err(self.damaged(number, format!("{} comes after row {number}", member.name))),
            None => Ok(row),
        }
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.file.damaged(reason)
    }
}
