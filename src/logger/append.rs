//! A file that only grows, and never by half a record.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Appends whole records. A write that fails midway (a full disk) is taken back, so that what a reader finds later
/// is a sequence of whole records whatever happened in between.
#[derive(Debug)]
pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
    whole_bytes: u64,
}

impl AppendFile {
    /// Goes on at the end of `file`, which lies at `path`.
    pub(super) fn new(path: &Path, mut file: File) -> io::Result<Self> {
        let whole_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_path_buf(), file, whole_bytes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `record` whole, or leaves the file as it was and says why.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        // Not the end of the file: an earlier failure may have left a torn record that could not be taken back then.
        self.file.seek(SeekFrom::Start(self.whole_bytes))?;
        match self.file.write_all(record) {
            Ok(()) => {
                self.whole_bytes += record.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If this fails too, the next record overwrites what is torn; the first error is the one to tell.
                let _ = self.file.set_len(self.whole_bytes);
                Err(error)
            }
        }
    }
}
