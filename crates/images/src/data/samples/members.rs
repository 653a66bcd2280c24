//! Reads the files in a tar one after the other, without unpacking it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::entries::Raw;
use super::links::{Links, target};
use super::{DataError, key};
use crate::data::omitted::{OmittedMembers, is_hidden_image, is_omitted_folder};
use pixtok_base::sniff::{Kind, sniff_file};

/// A regular file in a tar, or a link to one.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name: relative, without `..` and without empty parts.
    pub(super) name: String,
    /// Whether the name is UTF-8 in the tar; if not, the other bytes are written as `\xFF`.
    pub(super) is_utf8: bool,
    /// The position of its content's first byte in the tar.
    pub(super) start: u64,
    /// The length of its content in bytes.
    pub(super) size: u64,
}

/// The members of a tar, in order. Their content is read only on request.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) length: u64,
    /// The position of the next header.
    pub(super) next: u64,
    /// Whether the last end mark has been reached.
    pub(super) ended: bool,
    /// Filled when the first link is met.
    links: Option<Links>,
    /// What has been skipped so far.
    pub(super) omitted: OmittedMembers,
    /// The key of the last complete sample, for error messages. The caller sets it.
    pub(super) last_whole: Option<String>,
}

impl Members {
    pub(super) fn open(path: &Path) -> Result<Members, DataError> {
        let fail = |source| DataError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        Ok(Members {
            path: path.to_owned(),
            file,
            length,
            next: 0,
            ended: false,
            links: None,
            omitted: OmittedMembers::default(),
            last_whole: None,
        })
    }

    /// The tar's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next file that is not hidden; `None` at the tar's end mark, or at the last end mark if
    /// the file contains several tars. A link is replaced by the file it leads to, under the link's
    /// own name.
    ///
    /// # Errors
    /// If the tar is damaged, or a member's name could lead outside a folder.
    pub(super) fn next(&mut self) -> Result<Option<Member>, DataError> {
        while let Some(raw) = self.next_raw()? {
            let base = raw.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            // In old tars an entry with an empty base name is a folder.
            if !(raw.regular || raw.link.is_some()) || base.is_empty() {
                continue;
            }
            let text = key::readable(&raw.name);
            let name = if raw.is_utf8() {
                key::normalised(&text)
            } else {
                // The backslashes in this text stand for raw bytes.
                key::normalised(&text.replace('\\', "_")).map(|_| text.to_string())
            };
            let name = name.map_err(|reason| {
                key::refusal(&self.path, "the name of a member".to_owned(), &text, reason)
            })?;
            let (hidden, in_folder) = (is_hidden_image(base), lies_in_omitted_folder(&name));
            let place = || place(&self.path, &name);
            if in_folder {
                self.omitted.in_folders.add(1, place);
            } else if hidden {
                self.omitted.hidden.add(1, place);
            } else if !base.starts_with(b".")
                && let Some((start, size)) = self.content(&raw, &name)?
            {
                return Ok(Some(Member { name, is_utf8: raw.is_utf8(), start, size }));
            }
        }
        Ok(None)
    }

    /// Counts a member that the caller skips because it has no ending.
    pub(super) fn pass_over(&mut self, member: &Member) {
        self.omitted.without_ending.add(1, || place(&self.path, &member.name));
    }

    /// Counts a member that the caller skips because no member with its key is used.
    pub(super) fn pass_over_unused(&mut self, member: &Member) {
        self.omitted.unused.add(1, || place(&self.path, &member.name));
    }

    /// The position and length of the content of `raw`, whose name is `name`; `None` for a link
    /// that leads to no other file.
    fn content(&mut self, raw: &Raw, name: &str) -> Result<Option<(u64, u64)>, DataError> {
        if raw.regular {
            return Ok(Some((raw.start, raw.size)));
        }
        let target = target(raw, name);
        // tar writes such a link if the same file is added twice.
        if target.as_deref() == Some(name) {
            return Ok(None);
        }
        let links = match &self.links {
            Some(links) => links,
            None => self.links.insert(Links::read(Members::open(&self.path)?)?),
        };
        let found = target.and_then(|target| links.resolve(&target));
        if found.is_none() {
            let to = key::readable(raw.link.as_deref().unwrap_or_default()).into_owned();
            self.omitted.links.add(1, || place(&self.path, &format!("{name} (to {to})")));
        }
        Ok(found)
    }

    /// Checks that the tar contains `member` completely.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn check(&self, member: &Member) -> Result<(), DataError> {
        match member.start.checked_add(member.size) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(self.damaged(format!("it is cut short within {}", member.name))),
        }
    }

    /// Reads the content of `member`, which has been checked.
    ///
    /// # Errors
    /// If it cannot be read.
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

    /// The error for a tar that cannot be read further, or for a file that is not a tar.
    pub(super) fn damaged(&self, reason: String) -> DataError {
        use Kind::{Bzip2, Gzip, Lz4, Rar, SevenZip, Tar, Unknown, Xz, Zip, Zstd};
        let path = self.path.clone();
        match if self.next == 0 { sniff_file(&path).unwrap_or(Unknown) } else { Tar } {
            Gzip | Zstd | Xz | Bzip2 | Lz4 | Zip | SevenZip | Rar => DataError::Compressed(path),
            Tar | Unknown => DataError::Damaged { path, last: self.last_whole.clone(), reason },
            kind => DataError::OtherKind { path, kind, expected: "a tar" },
        }
    }
}

pub(super) fn file_name(tar: &Path) -> String {
    tar.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names the member `name` of a tar in messages.
fn place(tar: &Path, name: &str) -> String {
    format!("{name} in {}", file_name(tar))
}

/// Whether `name` lies in a folder that is skipped.
fn lies_in_omitted_folder(name: &str) -> bool {
    let (folders, _) = key::split(name);
    folders.split_terminator('/').any(|folder| is_omitted_folder(folder.as_bytes()))
}
