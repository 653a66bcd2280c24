//! The files in a tar, one after the other, without unpacking it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar::{Archive, EntryType, Header};

use super::{DataError, key};

/// Bytes of a header, and what all sizes are rounded up to.
const BLOCK: u64 = 512;
/// The longest extension that is read. A path has 4096 bytes at most; what else tars say of a file is not much longer.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// Extensions that the `tar` crate accepts before a member: a long name, the long name of a link and one of pax. After another
/// it fails, or it takes it for a member of its own, which may be the fourth.
const EXTENSIONS: usize = 4;

/// A regular file in a tar.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name: relative, without `..` and without empty parts.
    pub(super) name: String,
    /// Its content's first byte in the tar.
    pub(super) start: u64,
    /// Bytes of its content.
    pub(super) size: u64,
}

/// The members of a tar, in order. What they contain is read only when asked for.
#[derive(Debug)]
pub(super) struct Members {
    path: PathBuf,
    file: File,
    length: u64,
    /// Where the next header is.
    next: u64,
    /// The key of the last sample that is whole, for error messages; the caller sets it.
    pub(super) last_whole: Option<String>,
}

impl Members {
    pub(super) fn open(path: &Path) -> Result<Members, DataError> {
        let fail = |source| DataError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        Ok(Members { path: path.to_owned(), file, length, next: 0, last_whole: None })
    }

    /// The tar's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next regular file that is not hidden; none at the tar's end mark.
    ///
    /// # Errors
    /// When the tar is damaged, or a member's name could lead outside a folder.
    pub(super) fn next(&mut self) -> Result<Option<Member>, DataError> {
        while let Some(raw) = self.next_raw()? {
            let base = raw.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            // A base name that is empty is an old tar's folder; one that begins with a dot is what file managers leave.
            if !raw.regular || base.is_empty() || base.starts_with(b".") {
                continue;
            }
            let text = str::from_utf8(&raw.name).map_err(|_| "is not UTF-8");
            match text.and_then(key::normalised) {
                Ok(name) => return Ok(Some(Member { name, start: raw.start, size: raw.size })),
                Err(reason) => {
                    let name = String::from_utf8_lossy(&raw.name);
                    let place = "the name of a member".to_owned();
                    return Err(key::refusal(&self.path, place, &name, reason));
                }
            }
        }
        Ok(None)
    }

    /// Whether the tar goes on to the end of `member`.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn check(&self, member: &Member) -> Result<(), DataError> {
        match member.start.checked_add(member.size) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(self.damaged(format!("it is cut short within {}", member.name))),
        }
    }

    /// The content of `member`, which has been checked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(&mut self, member: &Member) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::with_capacity(member.size as usize);
        self.file
            .seek(SeekFrom::Start(member.start))
            .and_then(|_| (&self.file).take(member.size).read_to_end(&mut bytes))
            .map_err(|error| self.damaged(error.to_string()))?;
        if bytes.len() as u64 != member.size {
            return Err(self.damaged(format!("it is cut short within {} since it was opened", member.name)));
        }
        Ok(bytes)
    }

    fn damaged(&self, reason: String) -> DataError {
        DataError::Damaged { path: self.path.clone(), last: self.last_whole.clone(), reason }
    }

    /// Whatever comes next, long names and other extensions resolved.
    fn next_raw(&mut self) -> Result<Option<Raw>, DataError> {
        // Not even a header is left, nor the block of zeros that ends a tar.
        if self.length.saturating_sub(self.next) < BLOCK {
            return Err(
                self.damaged("it is cut short: its end mark, a block of zeros, is missing".to_owned())
            );
        }
        self.check_extensions()?;
        let raw = self.header().map_err(|error| self.damaged(error.to_string()))?;
        let Some(raw) = raw else { return Ok(None) };
        let name = String::from_utf8_lossy(&raw.name);
        if raw.sparse {
            return Err(self.damaged(format!("{name} is stored as a sparse file, which is not read")));
        }
        // Where a member is cut short, its header still shows that the sample before it is whole: see `check`.
        let end = raw.start.saturating_add(raw.size);
        self.next = end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        Ok(Some(raw))
    }

    /// Whether the extensions before the next member are of a size that can be read: the `tar` crate reads them whole, so
    /// that a sparse file of a few blocks could claim all memory.
    fn check_extensions(&self) -> Result<(), DataError> {
        let (mut at, mut header) = (self.next, Header::new_old());
        for _ in 0..EXTENSIONS {
            let left = self.length.saturating_sub(at).saturating_sub(BLOCK);
            // Where a header is missing or broken, `header` says so.
            if self.file.read_exact_at(header.as_mut_bytes(), at).is_err() {
                break;
            }
            let (kind, Ok(size)) = (header.entry_type(), header.entry_size()) else { break };
            let what = match kind {
                EntryType::GNULongName | EntryType::GNULongLink => "a long name",
                EntryType::XHeader | EntryType::XGlobalHeader => "a pax header",
                _ => break,
            };
            if size > EXTENSION_LIMIT {
                let reason = format!("{what} claims {size} bytes, more than the limit of {EXTENSION_LIMIT}");
                return Err(self.damaged(reason));
            }
            if size > left {
                return Err(self.damaged(format!("it is cut short within {what}")));
            }
            at = at.saturating_add(BLOCK + size.next_multiple_of(BLOCK));
        }
        Ok(())
    }

    /// What the header at `next` says; none if it is the end mark.
    fn header(&self) -> io::Result<Option<Raw>> {
        // An archive lends out its entries, which a struct that holds it cannot keep; so there is an archive a member, on a
        // reader that begins at its header.
        (&self.file).seek(SeekFrom::Start(self.next))?;
        let mut archive = Archive::new(Window { file: &self.file, base: self.next });
        let Some(entry) = archive.entries_with_seek()?.next() else { return Ok(None) };
        let mut entry = entry?;
        let mut sparse = entry.header().entry_type() == EntryType::GNUSparse;
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                sparse |= extension?.key_bytes().starts_with(b"GNU.sparse.");
            }
        }
        Ok(Some(Raw {
            name: entry.path_bytes().into_owned(),
            regular: entry.header().entry_type().is_file(),
            sparse,
            start: self.next.saturating_add(entry.raw_file_position()),
            size: entry.size(),
        }))
    }
}

/// An entry of a tar.
struct Raw {
    name: Vec<u8>,
    regular: bool,
    /// Its content is not the file's: holes are left out.
    sparse: bool,
    start: u64,
    size: u64,
}

/// A file from `base` on.
struct Window<'a> {
    file: &'a File,
    base: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(offset) => SeekFrom::Start(self.base.saturating_add(offset)),
            other => other,
        };
        Ok(self.file.seek(to)?.saturating_sub(self.base))
    }
}
