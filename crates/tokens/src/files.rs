//! Names of a shard's files, and access to files that are written in order and read as if they were
//! hostile.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::{Place, TokensError, io_error};
use pixtok_base::Action;

/// The name of a shard's file: `STEM-00003.EXT` while a set is written; in a finished set
/// `STEM-00003-of-00010.EXT`, or `STEM.EXT` if it is the only shard.
pub(super) fn name(stem: &str, extension: &str, place: Place) -> String {
    let number = place.number;
    match place.total {
        None => format!("{stem}-{number:05}.{extension}"),
        Some(1) => format!("{stem}.{extension}"),
        Some(total) => format!("{stem}-{number:05}-of-{total:05}.{extension}"),
    }
}

/// A file being written.
pub(super) struct Output {
    writer: BufWriter<File>,
    path: PathBuf,
}

impl Output {
    /// Creates the file, and replaces an existing one with that name.
    pub fn create(path: PathBuf) -> Result<Self, TokensError> {
        let file = File::create(&path).map_err(io_error(Action::Create, &path))?;
        Ok(Self { writer: BufWriter::with_capacity(1 << 16, file), path })
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TokensError> {
        self.writer.write_all(bytes).map_err(io_error(Action::Write, &self.path))
    }

    /// Appends the rest of `file`.
    pub fn copy(&mut self, file: &mut File) -> Result<(), TokensError> {
        io::copy(file, &mut self.writer).map(drop).map_err(io_error(Action::Write, &self.path))
    }

    /// Appends `value` as JSON on its own line.
    pub fn json_line(&mut self, value: &impl serde::Serialize) -> Result<(), TokensError> {
        serde_json::to_writer(&mut self.writer, value)
            .map_err(io::Error::from)
            .and_then(|()| self.writer.write_all(b"\n"))
            .map_err(io_error(Action::Write, &self.path))
    }

    /// Finishes the file, and replaces its first bytes by `start`.
    pub fn finish_with(mut self, start: &[u8]) -> Result<(), TokensError> {
        // Seeking flushes the buffer.
        let sought = self.writer.seek(SeekFrom::Start(0));
        sought.map_err(io_error(Action::Write, &self.path))?;
        self.write(start)?;
        self.finish()
    }

    /// Finishes the file.
    pub fn finish(mut self) -> Result<(), TokensError> {
        self.writer.flush().map_err(io_error(Action::Write, &self.path))
    }
}

/// The sources that an [`Input`] can read from.
trait Reads: BufRead + Seek + Send {}

impl<R: BufRead + Seek + Send> Reads for R {}

/// A file being read, or a part of one in memory. It never reads more bytes than the file has, so
/// no number in the file can demand more memory than the file's size.
pub(super) struct Input {
    reader: Box<dyn Reads>,
    path: PathBuf,
    left: u64,
}

impl Input {
    /// Opens the file at its start.
    pub fn open(path: PathBuf) -> Result<Self, TokensError> {
        let file = File::open(&path).map_err(io_error(Action::Open, &path))?;
        let left = file.metadata().map_err(io_error(Action::Read, &path))?.len();
        Ok(Self { reader: Box::new(BufReader::with_capacity(1 << 16, file)), path, left })
    }

    /// Reads a part of the file, given as bytes.
    pub fn part(path: PathBuf, bytes: Vec<u8>) -> Self {
        let left = bytes.len() as u64;
        Self { reader: Box::new(Cursor::new(bytes)), path, left }
    }

    /// Opens the file at a byte position.
    pub fn open_at(path: &Path, byte: u64) -> Result<Self, TokensError> {
        let mut input = Self::open(path.to_owned())?;
        let Some(left) = input.left.checked_sub(byte) else {
            return Err(
                input.damaged(format!("it has {} bytes and should have more than {byte}", input.left))
            );
        };
        input.reader.seek(SeekFrom::Start(byte)).map_err(io_error(Action::Read, path))?;
        input.left = left;
        Ok(input)
    }

    /// The number of bytes up to the end.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The error for a damaged file.
    pub fn damaged(&self, reason: impl Into<String>) -> TokensError {
        TokensError::Damaged { path: self.path.clone(), reason: reason.into() }
    }

    /// Reads the next bytes.
    pub fn take(&mut self, bytes: u64) -> Result<Vec<u8>, TokensError> {
        if bytes > self.left {
            return Err(self.damaged(format!("it ends {} bytes too early", bytes - self.left)));
        }
        let mut taken = vec![0; bytes as usize];
        self.fill(&mut taken)?;
        Ok(taken)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TokensError> {
        let count = bytes.len() as u64;
        if count > self.left {
            return Err(self.damaged(format!("it ends {} bytes too early", count - self.left)));
        }
        self.reader.read_exact(bytes).map_err(io_error(Action::Read, &self.path))?;
        self.left -= count;
        Ok(())
    }

    /// Skips the next bytes.
    pub fn skip(&mut self, bytes: u64) -> Result<(), TokensError> {
        let Some(left) = self.left.checked_sub(bytes) else {
            return Err(self.damaged(format!("it ends {} bytes too early", bytes - self.left)));
        };
        // What is left of a file has less than 2^63 bytes.
        self.reader.seek_relative(bytes as i64).map_err(io_error(Action::Read, &self.path))?;
        self.left = left;
        Ok(())
    }

    /// Reads the next N bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], TokensError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the next number.
    pub fn u32(&mut self) -> Result<u32, TokensError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads the next number.
    pub fn u64(&mut self) -> Result<u64, TokensError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads the next line, without its line end; `None` at the end of the file.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, TokensError> {
        let mut line = vec![];
        self.reader.read_until(b'\n', &mut line).map_err(io_error(Action::Read, &self.path))?;
        self.left = self.left.saturating_sub(line.len() as u64);
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(self.damaged("its last line is cut off")),
        }
    }

    /// Skips the next line. Returns its length in bytes, including its line end; 0 at the end of
    /// the file.
    pub fn skip_line(&mut self) -> Result<u64, TokensError> {
        let bytes = self.reader.skip_until(b'\n').map_err(io_error(Action::Read, &self.path))? as u64;
        self.left = self.left.saturating_sub(bytes);
        Ok(bytes)
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), TokensError> {
        match self.left {
            0 => Ok(()),
            left => Err(self.damaged(format!("{left} bytes are left after its last row"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_beyond_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, [1, 0, 0, 0, 7, b'\n', 8]).unwrap();
        let mut input = Input::open(path.clone()).unwrap();
        assert_eq!(input.u32().unwrap(), 1);
        assert!(input.take(u64::MAX).unwrap_err().to_string().contains("too early"));
        assert!(input.u64().is_err());
        assert!(input.end().unwrap_err().to_string().contains("3 bytes are left"));
        assert_eq!(input.line().unwrap().unwrap(), [7]);
        assert!(input.line().unwrap_err().to_string().contains("cut off"));
        assert!(Input::open_at(&path, 8).is_err());
        Input::open_at(&path, 7).unwrap().end().unwrap();
    }

    #[test]
    fn bytes_and_lines_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let content = b"abc\n\nd\x07\0\0\0e";
        std::fs::write(&path, content).unwrap();
        for mut input in [Input::open(path.clone()).unwrap(), Input::part(path, content.to_vec())] {
            input.skip(1).unwrap();
            assert_eq!((input.skip_line().unwrap(), input.skip_line().unwrap()), (3, 1));
            input.skip(1).unwrap();
            assert_eq!((input.u32().unwrap(), input.left()), (7, 1));
            assert!(input.skip(2).unwrap_err().to_string().contains("1 bytes too early"));
            assert_eq!((input.skip_line().unwrap(), input.skip_line().unwrap()), (1, 0));
            input.end().unwrap();
        }
    }
}
