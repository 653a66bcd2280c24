//! Surveys the content of a folder, to recognise which kind of input it is.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType};
use std::path::{Path, PathBuf};

use super::DataError;
use crate::data::folder::{has_extension, image_path, is_hidden, is_number, walk};
use crate::data::omitted::OmittedFiles;

/// Endings of compressed archives, without the dot.
const COMPRESSED: [&str; 10] =
    ["tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst", "tzst", "tar.lz4", "zip"];

/// The content of a folder, without its subfolders.
pub(super) struct Survey {
    pub images: bool,
    /// Sorted by name.
    pub tars: Vec<PathBuf>,
    /// Sorted by name.
    pub parquets: Vec<PathBuf>,
    /// The first compressed archive by name.
    pub compressed: Option<PathBuf>,
}

impl Survey {
    pub fn of(folder: &Path) -> Result<Survey, DataError> {
        let unreadable = |source| DataError::Unreadable { path: folder.to_owned(), source };
        let mut survey = Survey { images: false, tars: vec![], parquets: vec![], compressed: None };
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (name, path) = (entry.file_name(), entry.path());
            // Entries that are neither files nor folders are counted when the folder is walked.
            if is_hidden(&name) || kind_of(&entry).is_some_and(|kind| !kind.is_file()) {
                continue;
            }
            if ends_in(&name, "tar") {
                survey.tars.push(path);
            } else if ends_in(&name, "parquet") {
                survey.parquets.push(path);
            } else if is_compressed(&name) {
                let first = survey.compressed.take().map_or(path.clone(), |earlier| earlier.min(path));
                survey.compressed = Some(first);
            } else {
                survey.images |= has_extension(Path::new(&name));
            }
        }
        survey.tars.sort();
        survey.parquets.sort();
        Ok(survey)
    }
}

/// The content of a folder and all folders below it.
pub(super) enum Below {
    /// An image, as a path relative to the folder. The search stops at the first one.
    Image(PathBuf),
    /// No image, but perhaps shards.
    Shards(OtherFiles),
}

/// The files besides the tars directly in the folder.
pub(super) struct OtherFiles {
    /// Sorted by path, without the lists that img2dataset writes beside its tars.
    pub parquets: Vec<PathBuf>,
    /// All other files, including tars in deeper folders.
    pub rest: OmittedFiles,
}

impl Below {
    /// Searches the folder. Unreadable folders are assumed to hold no image (a disk of tars has its
    /// `lost+found`). A Parquet file that is a broken link is listed nevertheless, so that opening
    /// it reports the error.
    pub fn of(folder: &Path) -> Below {
        let (mut entries, mut parquets) = (walk(folder), vec![]);
        while let Some(entry) = entries.next() {
            let path = match &entry {
                Ok(entry) if entry.file_type().is_file() => Some(entry.path().to_owned()),
                Ok(_) => continue,
                Err(error) => error.path().filter(|path| path.is_symlink()).map(Path::to_owned),
            };
            if let Ok(Some(image)) = image_path(entry, folder) {
                return Below::Image(image.strip_prefix(folder).map(Path::to_owned).unwrap_or(image));
            }
            let Some(path) = path else { continue };
            let name = path.file_name().unwrap_or_default();
            if is_hidden(name) || !ends_in(name, "parquet") {
                if !ends_in(name, "tar") || path.parent() != Some(folder) {
                    entries.omitted.file(name);
                }
            } else if !lists_tar(&path) {
                parquets.push(path);
            }
        }
        parquets.sort();
        Below::Shards(OtherFiles { parquets, rest: entries.omitted })
    }
}

/// Whether img2dataset wrote this Parquet file beside a shard, as a list of the shard's images and
/// their origins.
pub(super) fn is_shard_list(parquet: &Path) -> bool {
    let Some(stem) = parquet.file_stem().and_then(OsStr::to_str) else { return false };
    is_number(stem) || parquet.with_file_name(format!("{stem}_stats.json")).is_file()
}

/// Whether it is the list of a tar beside it. Without that tar it may be a data set.
pub(super) fn lists_tar(parquet: &Path) -> bool {
    is_shard_list(parquet) && parquet.with_extension("tar").is_file()
}

/// The kind of the entry; for a link, that of its target; `None` for a broken link.
fn kind_of(entry: &DirEntry) -> Option<FileType> {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => fs::metadata(entry.path()).ok().map(|meta| meta.file_type()),
        kind => kind.ok(),
    }
}

/// Whether `name` ends in a dot and `ending`, in any case.
pub(super) fn ends_in(name: &OsStr, ending: &str) -> bool {
    let name = name.as_encoded_bytes();
    let Some(start) = name.len().checked_sub(ending.len()) else { return false };
    name[start..].eq_ignore_ascii_case(ending.as_bytes()) && name[..start].ends_with(b".")
}

pub(super) fn is_compressed(name: &OsStr) -> bool {
    COMPRESSED.iter().any(|ending| ends_in(name, ending))
}
