//! A file that only grows, by whole records.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Appends whole records to a file. If a write fails midway (full disk), it is undone, so that
/// readers always find a sequence of whole records.
#[derive(Debug)]
pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
    whole_bytes: u64,
}

impl AppendFile {
    /// Continues at the end of `file`, whose path is `path`.
    pub(super) fn new(path: &Path, mut file: File) -> io::Result<Self> {
        let whole_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_path_buf(), file, whole_bytes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the whole `record`; on an error the file is as it was before.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        // This is not always the end of the file: an earlier failure may have left a partial record
        // that could not be removed.
        self.file.seek(SeekFrom::Start(self.whole_bytes))?;
        match self.file.write_all(record) {
            Ok(()) => {
                self.whole_bytes += record.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If this fails too, the next record overwrites the partial one. The first error is
                // the one to report.
                let _ = self.file.set_len(self.whole_bytes);
                Err(error)
            }
        }
    }
}
