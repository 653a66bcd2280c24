//! The file structure that MDS and litdata share: items, preceded by a table of where each begins.
//!
//! `u32 n | u32[n + 1] offsets from the start of the file | a text | items`. The table comes first
//! but is known last, so items wait in an unnamed temporary file.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{Input, Output};
use super::open_files::{FileAt, OpenFiles};
use super::{TokensError, io_error};
use pixtok_base::Action;

/// Writes such a file.
pub(super) struct ItemsWriter {
    path: PathBuf,
    text: Vec<u8>,
    waiting: BufWriter<File>,
    /// The end of each item, counted from the start of the first.
    ends: Vec<u32>,
}

impl ItemsWriter {
    /// Starts the file.
    pub fn create(path: PathBuf, text: Vec<u8>) -> Result<Self, TokensError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.items-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&beside);
        let file = file.map_err(io_error(Action::Create, &beside))?;
        // Open but without a name it is gone when this process ends, however that happens.
        fs::remove_file(&beside).map_err(io_error(Action::Remove, &beside))?;
        Ok(Self { path, text, waiting: BufWriter::with_capacity(1 << 16, file), ends: vec![] })
    }

    /// The number of bytes before the items, if there are `items` items.
    fn before(&self, items: usize) -> u64 {
        4 + 4 * (items as u64 + 1) + self.text.len() as u64
    }

    /// Adds the item of the row with this key.
    pub fn push(&mut self, key: &str, item: &[u8]) -> Result<(), TokensError> {
        let end = u64::from(self.ends.last().copied().unwrap_or(0)) + item.len() as u64;
        if self.before(self.ends.len() + 1) + end > u32::MAX.into() {
            return Err(TokensError::Unsuitable(format!(
                "{key}: its shard would be larger than this format's 4 GiB; take fewer images a shard"
            )));
        }
        self.waiting.write_all(item).map_err(io_error(Action::Write, &self.path))?;
        self.ends.push(end as u32);
        Ok(())
    }

    /// Assembles the file.
    pub fn finish(self) -> Result<(), TokensError> {
        let before = self.before(self.ends.len()) as u32;
        let path = self.path;
        let file = self.waiting.into_inner().map_err(|error| error.into_error());
        let mut file = file.map_err(io_error(Action::Write, &path))?;
        file.seek(SeekFrom::Start(0)).map_err(io_error(Action::Write, &path))?;
        let mut out = Output::create(path)?;
        out.write(&(self.ends.len() as u32).to_le_bytes())?;
        for end in std::iter::once(&0).chain(&self.ends) {
            out.write(&(before + end).to_le_bytes())?;
        }
        out.write(&self.text)?;
        out.copy(&mut file)?;
        out.finish()
    }
}

/// Reads such a file.
pub(super) struct Items {
    items: Input,
    offsets: Input,
    start: u32,
    /// The text between the table and the first item.
    pub text: Vec<u8>,
}

impl Items {
    /// Opens the file, which must have as many items as its shard has rows.
    pub fn open(path: PathBuf, rows: u64) -> Result<Self, TokensError> {
        let mut offsets = Input::open(path.clone())?;
        let count = offsets.u32()?;
        if u64::from(count) != rows {
            return Err(offsets.damaged(format!("it says {count} rows and should have {rows}")));
        }
        let start = offsets.u32()?;
        let after_table = 4 + 4 * (u64::from(count) + 1);
        let mut items = Input::open_at(&path, after_table)?;
        let Some(bytes) = u64::from(start).checked_sub(after_table) else {
            return Err(items.damaged(format!("its first row begins at byte {start}, within its table")));
        };
        let text = items.take(bytes)?;
        Ok(Self { items, offsets, start, text })
    }

    /// Reads the next item, which is that of row `number`.
    pub fn next(&mut self, number: u64) -> Result<Vec<u8>, TokensError> {
        let end = self.offsets.u32()?;
        let Some(bytes) = end.checked_sub(self.start) else {
            return Err(
                self.damaged(format!("row {number} ends at byte {end}, before it begins at {}", self.start))
            );
        };
        self.start = end;
        self.items.take(bytes.into())
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), TokensError> {
        self.items.end()
    }

    /// The error for a damaged file.
    pub fn damaged(&self, reason: impl Into<String>) -> TokensError {
        self.items.damaged(reason)
    }
}

/// Reads single items of such a file, by their position in the table.
pub(super) struct ItemsAt(FileAt);

impl ItemsAt {
    /// Opens the file, which must have as many items as its shard has rows. Also returns the text.
    pub fn open(path: PathBuf, rows: u64, files: &Arc<OpenFiles>) -> Result<(Self, Vec<u8>), TokensError> {
        let text = Items::open(path.clone(), rows)?.text;
        let items = Self(files.open(path)?);
        if let Some(last) = rows.checked_sub(1) {
            let (_, end) = items.place(last)?;
            let length = items.0.length();
            if u64::from(end) != length {
                return Err(
                    items.damaged(format!("its last row ends at byte {end}, and it has {length} bytes"))
                );
            }
        }
        Ok((items, text))
    }

    /// The start and end of the item of row `number`.
    fn place(&self, number: u64) -> Result<(u32, u32), TokensError> {
        let both = u64::from_le_bytes(self.0.array(number, 4 + 4 * number)?);
        Ok((both as u32, (both >> 32) as u32))
    }

    /// The item of row `number`.
    pub fn item(&self, number: u64) -> Result<Vec<u8>, TokensError> {
        let (start, end) = self.place(number)?;
        let Some(bytes) = end.checked_sub(start) else {
            return Err(self.damaged(format!("row {number} ends at byte {end}, before it begins at {start}")));
        };
        self.0.take(number, start.into(), bytes.into())
    }

    /// The error for a damaged file.
    pub fn damaged(&self, reason: impl Into<String>) -> TokensError {
        self.0.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut writer = ItemsWriter::create(path.clone(), b"text".to_vec()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the items wait without a name");
        writer.push("a", b"one").unwrap();
        writer.push("b", b"three").unwrap();
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let table: Vec<u8> = [2_u32, 20, 23, 28].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(bytes, [&table[..], b"text", b"onethree"].concat());

        let mut items = Items::open(path.clone(), 2).unwrap();
        assert_eq!(items.text, b"text");
        assert_eq!((items.next(0).unwrap(), items.next(1).unwrap()), (b"one".to_vec(), b"three".to_vec()));
        items.end().unwrap();
        assert!(Items::open(path.clone(), 3).is_err());
        let (items, text) = ItemsAt::open(path.clone(), 2, &Arc::default()).unwrap();
        assert_eq!(text, b"text");
        assert_eq!((items.item(1).unwrap(), items.item(0).unwrap()), (b"three".to_vec(), b"one".to_vec()));
        assert!(ItemsAt::open(path.clone(), 3, &Arc::default()).is_err());
        for (at, value) in [(4, 0_u32), (4, 15), (4, 99), (8, 19), (8, u32::MAX), (12, 22), (12, 29)] {
            let mut broken = bytes.clone();
            broken[at..at + 4].copy_from_slice(&value.to_le_bytes());
            fs::write(&path, broken).unwrap();
            let read = Items::open(path.clone(), 2).and_then(|mut items| {
                items.next(0)?;
                items.next(1)?;
                items.end()
            });
            assert!(matches!(read, Err(TokensError::Damaged { .. })), "{at} {value}");
            let single = ItemsAt::open(path.clone(), 2, &Arc::default())
                .and_then(|(items, _)| Ok((items.item(0)?, items.item(1)?)));
            assert!(matches!(single, Err(TokensError::Damaged { .. })), "{at} {value}");
        }
    }

    #[test]
    fn a_shard_stays_below_4_gib() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ItemsWriter::create(folder.path().join("x"), vec![]).unwrap();
        writer.ends.push(u32::MAX - 100);
        writer.push("a", &[0; 84]).unwrap();
        assert!(writer.push("b", &[0; 1]).unwrap_err().to_string().starts_with("b: its shard"));
    }
}
