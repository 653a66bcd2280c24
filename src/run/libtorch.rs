//! The version of libtorch, for reports.

use std::fs;
use std::path::{Path, PathBuf};

/// The version and path of the libtorch library that this process has loaded.
#[must_use]
pub fn libtorch() -> String {
    let Some(lib) = loaded_library() else { return "loaded from an unknown location".to_owned() };
    format!("{} in {} (keep this folder: pixtok loads libtorch from it)", libtorch_version(), lib.display())
}

/// The version of the loaded libtorch.
#[must_use]
pub fn libtorch_version() -> String {
    known_version().unwrap_or_else(|| "of unknown version".to_owned())
}

/// The version of the loaded libtorch, if its folder states it.
#[must_use]
pub fn known_version() -> Option<String> {
    loaded_library().and_then(|lib| lib.parent().and_then(version_of))
}

/// The folder of the library file that this process has mapped. It may differ from the expected
/// one.
fn loaded_library() -> Option<PathBuf> {
    library_folder(&fs::read_to_string("/proc/self/maps").unwrap_or_default())
}

/// The folder of `libtorch_cpu` in the text of `/proc/self/maps`, whose lines end with a path.
fn library_folder(maps: &str) -> Option<PathBuf> {
    let line = maps.lines().find(|line| line.contains("/libtorch_cpu."))?;
    Path::new(&line[line.find('/')?..]).parent().map(Path::to_path_buf)
}

/// Reads the wheel's `version.py` or the plain archive's `build-version`.
fn version_of(root: &Path) -> Option<String> {
    if let Ok(version) = fs::read_to_string(root.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let python = fs::read_to_string(root.join("version.py")).ok()?;
    let quoted = python.lines().find_map(|line| line.strip_prefix("__version__ = '"))?;
    Some(quoted.trim_end_matches('\'').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_where_it_is_mapped() {
        let maps = "55d0-55d1 r--p 00000000 08:01 12 /usr/bin/x\n\
                    7f00-7f01 r-xp 00000000 08:01 13   /a b/torch/lib/libtorch_cpu.so\n";
        assert_eq!(library_folder(maps), Some(PathBuf::from("/a b/torch/lib")));
        assert_eq!(library_folder(""), None);
    }

    #[test]
    fn the_version_is_read_from_either_file() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(version_of(root.path()), None);
        fs::write(root.path().join("version.py"), "x = 1\n__version__ = '2.13.0+cu130'\n").unwrap();
        assert_eq!(version_of(root.path()).as_deref(), Some("2.13.0+cu130"));
        fs::write(root.path().join("build-version"), "2.13.0+cpu\n").unwrap();
        assert_eq!(version_of(root.path()).as_deref(), Some("2.13.0+cpu"));
    }
}
