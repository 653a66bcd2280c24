//! Files that several threads read at any position. Only some of them are open at a time, because a
//! set may have more shards than a process may have open files.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{TokensError, io_error};
use pixtok_base::Action;

/// The number of files that are kept open. Some systems allow 256 per process.
const OPEN_FILES: usize = 128;

/// The open files, each with its number, in order of last use.
type Open = VecDeque<(u64, Arc<File>)>;

/// Keeps the most recently read files open, for all shards of a [`super::RandomAccess`].
pub struct OpenFiles {
    most: usize,
    numbers: AtomicU64,
    open: Mutex<Open>,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self::new(OPEN_FILES)
    }
}

impl OpenFiles {
    /// Keeps up to `most` files open.
    pub(super) fn new(most: usize) -> Self {
        Self { most, numbers: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Opens a file.
    pub(super) fn open(self: &Arc<Self>, path: PathBuf) -> Result<FileAt, TokensError> {
        let (file, length) = opened(&path)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.keep(number, &file);
        Ok(FileAt { files: Arc::clone(self), number, path, length })
    }

    fn find(&self, number: u64) -> Option<Arc<File>> {
        let mut open = self.lock();
        let at = open.iter().rposition(|&(other, _)| other == number)?;
        let found = open.remove(at)?;
        let file = Arc::clone(&found.1);
        open.push_back(found);
        Some(file)
    }

    /// If two threads open and keep the same file, the older entry is dropped first.
    fn keep(&self, number: u64, file: &Arc<File>) {
        let mut open = self.lock();
        let oldest = if open.len() < self.most { None } else { open.pop_front() };
        open.push_back((number, Arc::clone(file)));
        // Closing a file may take long. Other threads can read their files in the meantime.
        drop(open);
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // No holder of the lock leaves the list half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The opened file, and its length.
fn opened(path: &Path) -> Result<(Arc<File>, u64), TokensError> {
    let file = File::open(path).map_err(io_error(Action::Open, path))?;
    let length = file.metadata().map_err(io_error(Action::Read, path))?.len();
    Ok((Arc::new(file), length))
}

/// A file of which any part can be read, by several threads at once. Nothing is read beyond the
/// length that the file had when it was opened.
pub(super) struct FileAt {
    files: Arc<OpenFiles>,
    number: u64,
    path: PathBuf,
    length: u64,
}

impl FileAt {
    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The error for a damaged file.
    pub fn damaged(&self, reason: impl Into<String>) -> TokensError {
        TokensError::Damaged { path: self.path.clone(), reason: reason.into() }
    }

    /// Reads `bytes` bytes at position `at`, which belong to row `row` of the shard.
    pub fn take(&self, row: u64, at: u64, bytes: u64) -> Result<Vec<u8>, TokensError> {
        if at.checked_add(bytes).is_none_or(|end| end > self.length) {
            let length = self.length;
            return Err(self.damaged(format!(
                "row {row} needs {bytes} bytes from byte {at} on, and the file has {length} bytes"
            )));
        }
        let mut taken = vec![0; bytes as usize];
        self.fill(at, &mut taken)?;
        Ok(taken)
    }

    /// Like [`FileAt::take`], for as many bytes as a number has.
    pub fn array<const N: usize>(&self, row: u64, at: u64) -> Result<[u8; N], TokensError> {
        let mut bytes = [0; N];
        if at.checked_add(N as u64).is_none_or(|end| end > self.length) {
            let length = self.length;
            return Err(
                self.damaged(format!("row {row} is listed at byte {at}, and the file has {length} bytes"))
            );
        }
        self.fill(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes at position `at`.
    pub fn fill(&self, at: u64, bytes: &mut [u8]) -> Result<(), TokensError> {
        match self.handle()?.read_exact_at(bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.changed()),
            read => read.map_err(io_error(Action::Read, &self.path)),
        }
    }

    fn handle(&self) -> Result<Arc<File>, TokensError> {
        if let Some(file) = self.files.find(self.number) {
            return Ok(file);
        }
        let (file, length) = opened(&self.path)?;
        if length != self.length {
            return Err(self.changed());
        }
        self.files.keep(self.number, &file);
        Ok(file)
    }

    fn changed(&self) -> TokensError {
        self.damaged("its length has changed since it was opened")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_some_files_stay_open_and_all_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = Arc::new(OpenFiles::new(2));
        let opened: Vec<FileAt> = (0..5_u8)
            .map(|number| {
                let path = folder.path().join(number.to_string());
                fs::write(&path, [number, 10, 20, 30]).unwrap();
                files.open(path).unwrap()
            })
            .collect();
        for number in [0_u8, 3, 3, 1, 4, 0, 2] {
            let file = &opened[usize::from(number)];
            assert_eq!(file.take(0, 0, 2).unwrap(), [number, 10]);
            assert_eq!(file.array(0, 2).unwrap(), [20, 30]);
            assert_eq!(files.lock().len(), 2);
            assert_eq!(files.lock().back().unwrap().0, u64::from(number));
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, [1, 2, 3, 4]).unwrap();
        let files = Arc::new(OpenFiles::new(1));
        let file = files.open(path.clone()).unwrap();
        assert_eq!(file.length(), 4);
        for (at, bytes) in [(0, 5), (4, 1), (5, 0), (1, u64::MAX)] {
            let words = file.take(7, at, bytes).unwrap_err().to_string();
            assert!(words.contains("row 7 needs") && words.contains("4 bytes"), "{words}");
        }
        assert!(file.array::<4>(7, 1).unwrap_err().to_string().contains("row 7"));
        assert!(file.array::<4>(7, u64::MAX).is_err());

        // The file is made shorter while it is open, and while it is closed.
        fs::write(&path, [1]).unwrap();
        assert!(file.take(0, 0, 2).unwrap_err().to_string().contains("has changed"));
        files.open(path.clone()).unwrap();
        fs::write(&path, [1, 2, 3, 4, 5]).unwrap();
        for _ in 0..2 {
            assert!(file.take(0, 0, 2).unwrap_err().to_string().contains("has changed"));
        }
    }
}
