//! A list of a data set's files, so that a message can later name a changed file.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, Write};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::fingerprint::MOST_FILES;

/// The zstd level; a fast one, since the list is written at every start of a run.
const LEVEL: i32 = 3;

/// The names and sizes of files: images of a folder, or archives. Above 100,000 files it holds only
/// their number.
///
/// Its byte form is zstd of JSON lines: `{"files":2}`, then one `["cat/a.png",1234]` per file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    count: u64,
    /// The files; empty if there are too many.
    files: Vec<(String, u64)>,
}

/// The first line of the list.
#[derive(Serialize, Deserialize)]
struct Head {
    files: u64,
}

impl FileList {
    /// # Errors
    /// When zstd fails.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut lines = zstd::Encoder::new(vec![], LEVEL)?;
        serde_json::to_writer(&mut lines, &Head { files: self.count })?;
        for file in &self.files {
            lines.write_all(b"\n")?;
            serde_json::to_writer(&mut lines, file)?;
        }
        lines.write_all(b"\n")?;
        lines.finish()
    }

    /// # Errors
    /// When the bytes were not made by [`FileList::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let mut lines = io::BufReader::new(zstd::Decoder::new(bytes)?).lines();
        let head = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let Head { files: count } = serde_json::from_str(&head)?;
        let file =
            |line: io::Result<String>| -> io::Result<(String, u64)> { Ok(serde_json::from_str(&line?)?) };
        Ok(Self { count, files: lines.map(file).collect::<io::Result<_>>()? })
    }

    /// Describes how `now` differs, with one file for each kind of difference; `None` if the lists
    /// do not show a difference.
    fn changes(&self, now: &FileList) -> Option<String> {
        if self.files.is_empty() || now.files.is_empty() {
            return None;
        }
        let then: HashMap<&str, u64> = self.files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        let (mut new, mut resized) = (Kind::default(), Kind::default());
        let mut still = 0;
        for (name, size) in &now.files {
            match then.get(name.as_str()) {
                None => new.add(name),
                Some(earlier) => {
                    still += 1;
                    if earlier != size {
                        resized.add(&format!("{name} ({earlier} bytes, now {size})"));
                    }
                }
            }
        }
        let mut gone = Kind::default();
        if still < self.files.len() {
            let names: HashMap<&str, u64> =
                now.files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
            let missing = self.files.iter().filter(|(name, _)| !names.contains_key(name.as_str()));
            missing.for_each(|(name, _)| gone.add(name));
        }
        let said = [
            new.words("file is new", "files are new"),
            gone.words("file is gone", "files are gone"),
            resized.words("file has another size", "files have other sizes"),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// The number of files that changed in one way, and the first of them.
#[derive(Default)]
struct Kind {
    count: u64,
    first: String,
}

impl Kind {
    fn add(&mut self, name: &str) {
        if self.count == 0 {
            self.first = name.to_owned();
        }
        self.count += 1;
    }

    fn words(&self, one: &str, many: &str) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(format!("1 {one}, {}", self.first)),
            count => Some(format!("{count} {many}, for instance {}", self.first)),
        }
    }
}

impl Dataset {
    /// The list of its files, if there are not too many.
    #[must_use]
    pub fn file_list(&self) -> FileList {
        let count = self.files();
        let listed = if count <= MOST_FILES { count } else { 0 };
        let files = (0..listed).map(|file| (self.file_name(file), self.stated().1[file])).collect();
        FileList { count: count as u64, files }
    }

    /// Describes what changed since its files were `earlier`: changed files by name, or else the
    /// newest file and the numbers of files then and now.
    #[must_use]
    pub fn changes_since(&self, earlier: Option<&FileList>) -> String {
        let now = self.file_list();
        let counts = earlier.map(|earlier| format!("{} files then, {} now", earlier.count, now.count));
        let named = earlier.and_then(|earlier| earlier.changes(&now));
        let newest = || match self.newest() {
            Some(name) => format!("the newest file is {name}"),
            None => "the files can't be asked for their times".to_owned(),
        };
        let unknown = || format!("{} files now, and the run has no list of those it began with", now.count);
        format!("{}; {}", named.unwrap_or_else(newest), counts.unwrap_or_else(unknown))
    }

    /// The file that was written last. Queries all files, many at a time.
    fn newest(&self) -> Option<String> {
        let written = |file: usize| Some((fs::metadata(self.file(file)).ok()?.modified().ok()?, file));
        let (_, file) = (0..self.files()).into_par_iter().filter_map(written).max()?;
        Some(self.file_name(file))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::data::Split;

    fn write(root: &Path, name: &str, bytes: &[u8], seconds: u64) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    fn open(root: &Path) -> Dataset {
        Dataset::open(root, Split::All).unwrap()
    }

    #[test]
    fn changed_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for (name, bytes) in [("cat/a.png", &b"1"[..]), ("b\n.png", b"22"), ("é.png", b"333")] {
            write(root, name, bytes, 1);
        }
        let list = open(root).file_list();
        let list = FileList::from_bytes(&list.to_bytes().unwrap()).unwrap();
        assert_eq!(list, open(root).file_list());
        write(root, "cat/new.png", b"1", 1);
        assert_eq!(open(root).changes_since(Some(&list)), "1 file is new, cat/new.png; 3 files then, 4 now");
        fs::rename(root.join("é.png"), root.join("x.png")).unwrap();
        write(root, "cat/a.png", b"longer", 1);
        assert_eq!(
            open(root).changes_since(Some(&list)),
            "2 files are new, for instance cat/new.png; 1 file is gone, é.png; 1 file has another size, \
             cat/a.png (1 bytes, now 6); 3 files then, 4 now"
        );
    }

    #[test]
    fn without_a_list_the_newest_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "a.png", b"1", 5);
        write(root, "sub/b.png", b"1", 9);
        write(root, "z.png", b"1", 7);
        let many = FileList { count: 250_000, files: vec![] };
        assert_eq!(FileList::from_bytes(&many.to_bytes().unwrap()).unwrap(), many);
        assert_eq!(
            open(root).changes_since(Some(&many)),
            "the newest file is sub/b.png; 250000 files then, 3 now"
        );
        let words = open(root).changes_since(None);
        assert!(
            words.starts_with("the newest file is sub/b.png; 3 files now, and the run has no"),
            "{words}"
        );
        // The content of archives changed, or nothing.
        let same = open(root).file_list();
        assert!(open(root).changes_since(Some(&same)).starts_with("the newest file is "));
        assert!(FileList::from_bytes(b"no zstd").is_err());
    }
}
