//! Paths: why one does not exist, whether it is a special file, and which folders pixtok wrote.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::{env, fs, io};

/// The file that marks a folder as written by pixtok. Searches for images in a folder above it skip
/// a marked folder.
pub const OUTPUT_MARKER: &str = ".pixtok-output";

const MARKER_TEXT: &str = "pixtok wrote this folder. A search for images in a folder above it skips it; \
                           if the folder itself is given, its images are read.\n";

/// Marks the existing `folder` as written by pixtok. Only the presence of the marker counts, not
/// its content, so it is written in place: even an empty marker counts.
///
/// # Errors
/// If the marker cannot be written.
pub fn mark_output(folder: &Path) -> io::Result<()> {
    let marker = folder.join(OUTPUT_MARKER);
    if marker.exists() { Ok(()) } else { fs::write(marker, MARKER_TEXT) }
}

/// Marks the existing `folder`, unless it already holds something, which may be the user's. Returns
/// whether it is marked now. Hidden files, such as locks, do not count.
///
/// # Errors
/// If the folder cannot be listed, or the marker cannot be written.
pub fn mark_new_output(folder: &Path) -> io::Result<bool> {
    if folder.join(OUTPUT_MARKER).exists() {
        return Ok(true);
    }
    for entry in fs::read_dir(folder)? {
        if !entry?.file_name().as_encoded_bytes().starts_with(b".") {
            return Ok(false);
        }
    }
    mark_output(folder).map(|()| true)
}

/// Whether pixtok wrote `folder`: it is marked, or it is a run folder (older versions did not mark
/// run folders).
#[must_use]
pub fn is_output(folder: &Path) -> bool {
    folder.join(OUTPUT_MARKER).exists()
        || ["config.toml", "metrics.jsonl"].iter().all(|name| folder.join(name).is_file())
}

/// Creates the folder `path` and its missing parents.
///
/// # Errors
/// The system's error; for a broken link, an error that says so.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| match dangling_link(path) {
        Some((link, target)) => {
            let (link, target) = (link.display(), target.display());
            let words = format!("{link} is a link to {target}, which does not exist; make that folder first");
            io::Error::new(io::ErrorKind::NotFound, words)
        }
        None => error,
    })
}

/// The name of a special file that is neither a regular file nor a folder. Reading one is useless:
/// a FIFO waits for a writer, and some devices have no end.
#[must_use]
pub fn special(kind: FileType) -> Option<&'static str> {
    let kinds = [
        (kind.is_fifo(), "FIFO"),
        (kind.is_socket(), "socket"),
        (kind.is_char_device() || kind.is_block_device(), "device"),
    ];
    kinds.into_iter().find_map(|(found, name)| found.then_some(name))
}

/// The reason why `path` is missing: "does not exist", with the likely cause.
#[must_use]
pub fn absence(path: &Path) -> String {
    if let Some((link, target)) = dangling_link(path) {
        let (link_words, target) = (link.display(), target.display());
        return if link == path {
            format!("is a link to {target}, which does not exist")
        } else {
            format!("does not exist, since {link_words} is a link to {target}, which does not exist")
        };
    }
    if has_home_sign(path) {
        let home = env::var("HOME").map_or_else(|_| String::new(), |home| format!(", {home}"));
        return format!(
            "does not exist, since only a shell replaces ~ by the home folder, not a config or a value after =; \
             write the folder itself{home}"
        );
    }
    match (path.is_relative(), env::current_dir()) {
        (true, Ok(folder)) => format!("does not exist in the current folder, {}", folder.display()),
        (true, Err(_)) => "does not exist in the current folder".to_owned(),
        (false, _) => "does not exist".to_owned(),
    }
}

/// The first broken link on the way to `path`, and its target.
fn dangling_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    let link = ways.into_iter().find(|way| way.is_symlink() && !way.exists())?;
    Some((link.to_owned(), fs::read_link(link).ok()?))
}

/// Whether `path`, or a path that was joined to a folder, begins with a `~` that a shell would have
/// expanded.
fn has_home_sign(path: &Path) -> bool {
    let mut way = PathBuf::new();
    path.components().enumerate().any(|(place, part)| {
        way.push(part);
        let Component::Normal(name) = part else { return false };
        let name = name.as_encoded_bytes();
        (name == b"~" || (place == 0 && name.starts_with(b"~"))) && !way.exists()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_file_is_told_by_its_kind() {
        let root = tempfile::tempdir().unwrap();
        let (fifo, socket, file) =
            (root.path().join("fifo"), root.path().join("socket"), root.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::write(&file, b"").unwrap();
        let kinds = [&fifo, &socket, &PathBuf::from("/dev/null"), &file, &root.path().to_owned()]
            .map(|path| special(fs::metadata(path).unwrap().file_type()));
        assert_eq!(kinds, [Some("FIFO"), Some("socket"), Some("device"), None, None]);
    }

    #[test]
    fn outputs_are_known_by_their_marker_or_as_runs() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_output(root.path()));
        fs::write(root.path().join(".lock"), b"").unwrap();
        assert!(mark_new_output(root.path()).unwrap() && is_output(root.path()));
        fs::write(root.path().join("a.png"), b"").unwrap();
        assert!(mark_new_output(root.path()).unwrap(), "it stays marked");
        let folder = |name: &str, files: &[&str]| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            files.iter().for_each(|file| fs::write(folder.join(file), b"").unwrap());
            folder
        };
        let pictures = folder("pictures", &["a.png"]);
        assert!(!mark_new_output(&pictures).unwrap() && !is_output(&pictures), "it is not pixtok's alone");
        mark_output(&pictures).unwrap();
        assert!(is_output(&pictures));
        assert!(is_output(&folder("run", &["config.toml", "metrics.jsonl"])));
        assert!(!is_output(&folder("project", &["config.toml"])));
    }

    #[test]
    fn why_nothing_is_there_is_said() {
        let root = tempfile::tempdir().unwrap();
        let (link, target) = (root.path().join("link"), root.path().join("gone"));
        symlink(&target, &link).unwrap();
        let leads = format!("is a link to {}, which does not exist", target.display());
        assert_eq!(absence(&link), leads);
        assert!(absence(&link.join("run")).ends_with(&leads));
        for path in [&link, &link.join("run")] {
            assert!(make_folder(path).unwrap_err().to_string().contains(&leads));
        }
        assert_eq!(absence(&target), "does not exist");
        let here = env::current_dir().unwrap();
        let relative = format!("does not exist in the current folder, {}", here.display());
        assert_eq!(absence(Path::new("gone/x")), relative);
        for path in ["~/pictures", "~someone/pictures", "configs/~/pictures"] {
            assert!(absence(Path::new(path)).contains("write the folder itself"), "{path}");
        }
        assert_eq!(absence(Path::new("a~b/~c")), relative);
    }
}
