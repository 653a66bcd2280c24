//! Files and folders that exist whole or not at all: they are written under a temporary name in the
//! same folder, flushed to the disk, and renamed.
//!
//! There are two kinds of temporary names. Both contain the process id of the writer:
//! `.NAME.tmp-PID` is unfinished or about to be deleted; `.NAME.old-PID` is whole and was moved
//! aside while its successor takes the name.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{Error, SaveCause};

/// Writes `bytes` to `path`, so that a reader sees the old file or the new one, never a part.
///
/// # Errors
/// [`Error::SaveFailed`]; `path` is then unchanged.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomic_with(path, bytes.len() as u64, |file| Ok(file.write_all(bytes)?))
}

/// Writes a file to `path` like [`write_atomic`]. `fill` writes its content, about `needed_bytes`
/// bytes.
///
/// # Errors
/// [`Error::SaveFailed`]; `path` is then unchanged.
pub fn write_atomic_with(
    path: &Path,
    needed_bytes: u64,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), SaveCause>,
) -> Result<(), Error> {
    let temporary = sibling(path, "tmp");
    let written = write_synced(&temporary, fill).and_then(|()| {
        fs::rename(&temporary, path)?;
        Ok(sync_folder(folder_of(path))?)
    });
    written.map_err(|cause| {
        // The write's own error is reported. A leftover is removed at the next resume.
        let _ = fs::remove_file(&temporary);
        Error::SaveFailed { path: path.to_owned(), cause: cause.or_disk_full(needed_bytes) }
    })
}

fn write_synced(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), SaveCause>,
) -> Result<(), SaveCause> {
    let mut file = BufWriter::new(File::create(path)?);
    fill(&mut file)?;
    file.flush()?;
    Ok(file.get_ref().sync_all()?)
}

/// Creates the folder `path`, which must be missing or empty. `fill` writes the files into a
/// temporary folder beside it.
///
/// # Errors
/// Those of `fill`, and [`Error::SaveFailed`]; nothing is left then.
pub fn create_folder<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = sibling(path, "tmp");
    let failed = |source: io::Error| Error::SaveFailed { path: path.to_owned(), cause: source.into() };
    let made = make_empty(&temporary)
        .map_err(|source| failed(source).into())
        .and_then(|()| fill(&temporary))
        .and_then(|()| put_in_place(&temporary, path).map_err(|source| failed(source).into()));
    if made.is_err() {
        // The error of `fill` is reported, as in `write_atomic_with`.
        let _ = remove_folder(&temporary);
    }
    made
}

fn make_empty(folder: &Path) -> io::Result<()> {
    remove_folder(folder)?;
    fs::create_dir_all(folder)
}

fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(temporary)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_folder(temporary)?;
    // rename replaces an empty folder, but no other.
    fs::rename(temporary, path)?;
    sync_folder(folder_of(path))
}

/// Makes the names in `folder` durable. A rename changes the folder, not the file.
///
/// # Errors
/// The system's error.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder that contains `path`; for a bare name, the current folder.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The temporary name of this process for `path`; `role` is `tmp` or `old`.
pub(super) fn sibling(path: &Path, role: &str) -> PathBuf {
    let name = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    path.with_file_name(format!(".{name}.{role}-{}", std::process::id()))
}

/// Renames the whole `temporary` folder to `path`. The folder that had this name is removed only
/// afterwards. It keeps its `old` name if the process dies in between.
pub(super) fn replace_folder(temporary: &Path, path: &Path) -> io::Result<()> {
    let aside = sibling(path, "old");
    let replaces = path.exists();
    if replaces {
        remove_folder(&aside)?;
        fs::rename(path, &aside)?;
    }
    if let Err(error) = fs::rename(temporary, path) {
        if replaces {
            fs::rename(&aside, path)?;
        }
        return Err(error);
    }
    sync_folder(folder_of(path))?;
    // The new folder is in place and durable. A leftover is removed at the next resume.
    let _ = remove_folder(&aside);
    Ok(())
}

/// Removes a folder and its contents. A missing folder is not an error.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Cleans up after a killed writer: removes unfinished temporaries, and gives a folder that was
/// moved aside its name back if its successor never took it. Only the holder of the folder's lock
/// may call this.
pub(super) fn clean_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((original, role)) = name.to_str().and_then(parse_temporary) else { continue };
        let own_name = folder.join(original);
        if role == "old" && !own_name.exists() {
            fs::rename(entry.path(), own_name)?;
        } else if entry.file_type()?.is_dir() {
            remove_folder(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Splits `.step-000600.tmp-123` into `("step-000600", "tmp")`.
fn parse_temporary(name: &str) -> Option<(&str, &str)> {
    let (original, suffix) = name.strip_prefix('.')?.rsplit_once('.')?;
    let (role, process) = suffix.split_once('-')?;
    let ours = matches!(role, "tmp" | "old")
        && !original.is_empty()
        && !process.is_empty()
        && process.bytes().all(|byte| byte.is_ascii_digit());
    ours.then_some((original, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_failure_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // A folder at the temporary name makes the write fail.
        fs::create_dir(sibling(&path, "tmp")).unwrap();
        let error = write_atomic(&path, b"three").unwrap_err();
        assert!(matches!(error, Error::SaveFailed { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/folder");
        let fill = |folder: &Path| -> Result<(), Error> {
            fs::write(folder.join("file"), b"whole").unwrap();
            Ok(())
        };
        create_folder(&path, fill).unwrap();
        assert_eq!(fs::read(path.join("file")).unwrap(), b"whole");
        // A folder that is not empty is not replaced.
        assert!(matches!(create_folder(&path, |_| Ok(())), Err(Error::SaveFailed { .. })));
        let other = parent.path().join("other");
        let failed = create_folder(&other, |folder| {
            fs::write(folder.join("file"), b"half").unwrap();
            Err(Error::NoAverage)
        });
        assert!(matches!(failed, Err(Error::NoAverage)));
        let left = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["new"]);
        fs::create_dir(&other).unwrap();
        create_folder(&other, fill).unwrap();
        assert_eq!(fs::read(other.join("file")).unwrap(), b"whole");
    }

    #[test]
    fn leftovers_go_and_what_stood_aside_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at(".step-000002.tmp-77")).unwrap();
        fs::write(at(".step-000002.tmp-77/model.safetensors"), b"half").unwrap();
        fs::write(at(".best.json.tmp-77"), b"half").unwrap();
        fs::create_dir(at(".step-000001.old-77")).unwrap();
        fs::create_dir(at(".step-000003.old-77")).unwrap();
        fs::create_dir(at("step-000003")).unwrap();
        fs::write(at(".gitignore"), b"*").unwrap();
        clean_leftovers(folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".gitignore", "step-000001", "step-000003"]);
    }

    #[test]
    fn only_our_temporaries_are_taken_for_such() {
        assert_eq!(parse_temporary(".best.json.tmp-12"), Some(("best.json", "tmp")));
        for other in [".lock", "step-000001", ".x.tmp-", ".x.tmp-ab", ".x.swp", "x.tmp-12", ".tmp-12"] {
            assert_eq!(parse_temporary(other), None, "{other}");
        }
    }
}
