//! The entries of a tar as they are stored: headers, extensions, end marks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use tar::{Archive, EntryType, Header};

use super::DataError;
use super::members::{Members, file_name};

/// The size of a header; content is padded to a multiple of it.
const BLOCK: u64 = 512;
/// The longest extension that is read. A path has at most 4096 bytes, and other extensions are not
/// much longer.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// The largest number of extensions that are checked before a member. The `tar` crate accepts
/// three: a long name, a long link name and a pax header. At another one it fails, or treats it as
/// a member, which may be the fourth.
const EXTENSIONS: usize = 4;

/// An entry of a tar.
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) regular: bool,
    /// The target, if it is a link.
    pub(super) link: Option<Vec<u8>>,
    /// Whether it is a symbolic link.
    pub(super) symbolic: bool,
    /// Whether it is stored sparsely, without its holes.
    sparse: bool,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Raw {
    pub(super) fn is_utf8(&self) -> bool {
        str::from_utf8(&self.name).is_ok()
    }
}

impl Members {
    /// The next entry, with long names and other extensions resolved.
    pub(super) fn next_raw(&mut self) -> Result<Option<Raw>, DataError> {
        while !self.ended {
            match self.next_of_this_tar()? {
                None => {
                    let is_empty = self.next == 0;
                    self.ended = !self.begins_again()?;
                    if self.ended && is_empty {
                        self.omitted.empty.add(1, || file_name(&self.path));
                    }
                }
                raw => return Ok(raw),
            }
        }
        Ok(None)
    }

    /// Whether another tar begins after the end mark at `next`; if so, moves `next` there. Zeros
    /// between the two are padding.
    fn begins_again(&mut self) -> Result<bool, DataError> {
        let (mut at, mut buffer) = (self.next, [0; 1 << 13]);
        let start = loop {
            let read = self.file.read_at(&mut buffer, at).map_err(|error| self.damaged(error.to_string()))?;
            if read == 0 {
                return Ok(false);
            }
            if let Some(place) = buffer[..read].iter().position(|&byte| byte != 0) {
                break at + place as u64;
            }
            at += read as u64;
        };
        if self.is_header(start) {
            self.next = start;
            return Ok(true);
        }
        self.omitted.after_end.add(self.length.saturating_sub(start), || file_name(&self.path));
        Ok(false)
    }

    /// Whether there is a header at `at`, judged by its checksum.
    fn is_header(&self, at: u64) -> bool {
        let mut header = Header::new_old();
        if self.file.read_exact_at(header.as_mut_bytes(), at).is_err() {
            return false;
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum();
        // The checksum field itself counts as blanks.
        header.cksum().is_ok_and(|expected| expected == sum + 8 * u32::from(b' '))
    }

    fn next_of_this_tar(&mut self) -> Result<Option<Raw>, DataError> {
        // The rest is too short even for a header or for the block of zeros that ends a tar.
        if self.length.saturating_sub(self.next) < BLOCK {
            return Err(
                self.damaged("it is cut short: its end mark, a block of zeros, is missing".to_owned())
            );
        }
        self.check_extensions()?;
        let raw = self.header().map_err(|error| self.damaged(error.to_string()))?;
        let Some(mut raw) = raw else { return Ok(None) };
        let name = String::from_utf8_lossy(&raw.name);
        if raw.sparse {
            return Err(self.damaged(format!("{name} is stored as a sparse file, which is not read")));
        }
        if raw.link.is_some() && raw.size > 0 {
            if self.is_header(raw.start) {
                // Old writers state the file's size but store no content.
                raw.size = 0;
            } else if !raw.symbolic {
                // pax allows a hard link to carry the file's content.
                (raw.regular, raw.link) = (true, None);
            }
        }
        // Even if this member is truncated, its header shows that the previous sample is complete:
        // see `check`. A tar may start at any byte, so only the size is rounded up.
        let stored = raw.size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        self.next = raw.start.saturating_add(stored);
        Ok(Some(raw))
    }

    /// Checks that the extensions before the next member are small enough to read. The `tar` crate
    /// reads them whole, so a sparse file of a few blocks could otherwise claim all memory.
    fn check_extensions(&self) -> Result<(), DataError> {
        let (mut at, mut header) = (self.next, Header::new_old());
        for _ in 0..EXTENSIONS {
            let left = self.length.saturating_sub(at).saturating_sub(BLOCK);
            // `header` reports a missing or broken header.
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

    /// The entry that the header at `next` describes; `None` for the end mark.
    fn header(&self) -> io::Result<Option<Raw>> {
        // An archive borrows out its entries, so a struct cannot hold both. So each member gets a
        // new archive, on a reader that begins at its header.
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
        let kind = entry.header().entry_type();
        let is_link = kind.is_hard_link() || kind.is_symlink();
        let link = if is_link { entry.link_name_bytes().map(|name| name.into_owned()) } else { None };
        Ok(Some(Raw {
            name: entry.path_bytes().into_owned(),
            regular: kind.is_file(),
            link,
            symbolic: kind.is_symlink(),
            sparse,
            start: self.next.saturating_add(entry.raw_file_position()),
            size: entry.size(),
        }))
    }
}

/// A file, starting at `base`.
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
