//! Finding files by names in another Unicode normalisation (NFC, NFD).

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::key::composed;

/// The contents of folders that have been searched.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// For each folder, its names by composed form. In practice a name has at most one other
    /// spelling.
    listed: HashMap<PathBuf, HashMap<String, Vec<String>>>,
}

impl Folders {
    /// The file that `path` names in another spelling, if there is one. The folders in the path may
    /// also be spelt differently.
    ///
    /// # Errors
    /// In words, when several files fit.
    pub(super) fn find(&mut self, path: &Path) -> Result<Option<PathBuf>, String> {
        // ASCII names have only one spelling.
        if path.to_str().is_none_or(str::is_ascii) {
            return Ok(None);
        }
        let mut found = PathBuf::new();
        for part in path.components() {
            let direct = found.join(part);
            found = match part {
                Component::Normal(name) if !direct.exists() => {
                    let Some(name) = name.to_str().filter(|name| !name.is_ascii()) else { return Ok(None) };
                    match self.of(&found).get(composed(name).as_ref()).map(Vec::as_slice) {
                        Some([other]) => found.join(other),
                        Some(several) => {
                            return Err(format!("{} files are spelt like {name}; rename one", several.len()));
                        }
                        None => return Ok(None),
                    }
                }
                _ => direct,
            };
        }
        Ok(found.is_file().then_some(found))
    }

    fn of(&mut self, folder: &Path) -> &HashMap<String, Vec<String>> {
        self.listed.entry(folder.to_owned()).or_insert_with(|| {
            let mut names: HashMap<String, Vec<String>> = HashMap::new();
            // For a list in the current folder, the path of its folder is empty.
            let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            for entry in fs::read_dir(shown).into_iter().flatten().flatten() {
                if let Ok(name) = entry.file_name().into_string()
                    && !name.is_ascii()
                {
                    names.entry(composed(&name).into_owned()).or_default().push(name);
                }
            }
            names
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_either_spelling() {
        let root = tempfile::tempdir().unwrap();
        let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
        for (stored, asked) in [(composed, apart), (apart, composed)] {
            let folder = root.path().join(format!("{stored}-folder"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(format!("{stored}.png")), b"").unwrap();
            let path = root.path().join(format!("{asked}-folder/{asked}.png"));
            let found = Folders::default().find(&path).unwrap();
            assert_eq!(found, Some(folder.join(format!("{stored}.png"))));
            assert_eq!(Folders::default().find(&path.with_extension("jpg")), Ok(None));
            fs::remove_dir_all(folder).unwrap();
        }
        assert_eq!(Folders::default().find(&root.path().join("plain.png")), Ok(None));
    }

    #[test]
    fn several_spellings_are_several_files() {
        let root = tempfile::tempdir().unwrap();
        // Two marks on a letter may come in either order.
        for name in ["q\u{323}\u{307}.png", "q\u{307}\u{323}.png"] {
            fs::write(root.path().join(name), b"").unwrap();
        }
        assert_eq!(Folders::default().find(&root.path().join("\u{e9}.png")), Ok(None));
        // Letters with a composed form have a third spelling.
        for name in ["\u{1e69}.png", "s\u{307}\u{323}.png"] {
            fs::write(root.path().join(name), b"").unwrap();
        }
        let message = Folders::default().find(&root.path().join("s\u{323}\u{307}.png")).unwrap_err();
        assert!(message.contains("2 files"), "{message}");
    }
}
