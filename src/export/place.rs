//! What an export's folder may contain, and how finished files get there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::ExportError;
use super::error::io_error;
use super::manifest::FileEntry;
use crate::checkpoint::sync_folder;
use pixtok_base::Action;
use pixtok_tokens::SideFiles;

/// Moves a finished file, or the files of a folder, to its place. A file that is already there is a
/// copy that a killed process left.
pub(super) fn place_file(from: &Path, to: &Path, name: &str) -> Result<FileEntry, ExportError> {
    let mut hasher = blake3::Hasher::new();
    let Some(folder) = name.strip_suffix('/') else {
        let bytes = hash_and_sync(&from.join(name), &mut hasher)?;
        fs::rename(from.join(name), to.join(name)).map_err(io_error(Action::Rename, &from.join(name)))?;
        return Ok(FileEntry {
            name: name.to_owned(),
            bytes,
            blake3: hasher.finalize().to_hex().to_string(),
        });
    };
    let (source, target) = (from.join(folder), to.join(folder));
    fs::create_dir_all(&target).map_err(io_error(Action::MakeFolder, &target))?;
    let mut files: Vec<PathBuf> = fs::read_dir(&source)
        .map_err(io_error(Action::List, &source))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    // By number, since the names have different lengths.
    files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    let mut bytes = 0;
    for path in files {
        bytes += hash_and_sync(&path, &mut hasher)?;
        let place = target.join(path.file_name().unwrap_or_default());
        fs::rename(&path, place).map_err(io_error(Action::Rename, &path))?;
    }
    sync_folder(&target).map_err(io_error(Action::Write, &target))?;
    Ok(FileEntry { name: name.to_owned(), bytes, blake3: hasher.finalize().to_hex().to_string() })
}

/// The size in bytes of a file and its blake3 hash in hexadecimal.
pub(super) fn hash_of(path: &Path) -> Result<(u64, String), ExportError> {
    let mut hasher = blake3::Hasher::new();
    hash_into(path, &mut hasher)?;
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}

/// Adds the content of a file to a hash.
pub(super) fn hash_into(path: &Path, hasher: &mut blake3::Hasher) -> Result<File, ExportError> {
    let file = File::open(path).map_err(io_error(Action::Read, path))?;
    hasher.update_reader(&file).map_err(io_error(Action::Read, path))?;
    Ok(file)
}

fn hash_and_sync(path: &Path, hasher: &mut blake3::Hasher) -> Result<u64, ExportError> {
    let before = hasher.count();
    let file = hash_into(path, hasher)?;
    file.sync_all().map_err(io_error(Action::Write, path))?;
    Ok(hasher.count() - before)
}

/// Refuses a folder that is not pixtok's, unless it is empty.
pub(super) fn refuse_others(folder: &Path) -> Result<(), ExportError> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map_err(io_error(Action::List, folder))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // A killed process may have left only the map.
        .filter(|name| !name.starts_with('.') && !SideFiles::is_map(name))
        .collect();
    names.sort();
    match names.first() {
        None => Ok(()),
        Some(first) => Err(ExportError::Output(format!(
            "{} is not empty ({first}{}) and holds no export; choose another --out",
            folder.display(),
            if names.len() > 1 { ", …" } else { "" }
        ))),
    }
}
