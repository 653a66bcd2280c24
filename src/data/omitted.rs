//! What an input has that is passed over: counted while it is listed, said in words, once.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use super::EXTENSIONS;

/// Folders of thumbnails, of deleted files and of a system's own, in any case: Synology, QNAP, Windows, macOS, NetApp,
/// ext4. Hidden ones are passed over as well.
const FOLDERS: [&str; 17] = [
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@tmp",
    "@Recycle",
    "@Recently-Snapshot",
    "@__thumb",
    "$RECYCLE.BIN",
    "RECYCLER",
    "RECYCLED",
    "System Volume Information",
    "FOUND.000",
    "__MACOSX",
    "Network Trash Folder",
    "Temporary Items",
    "~snapshot",
    "lost+found",
];
/// Endings of what is said about pictures, and of what file managers leave. Such files are no pictures under another name.
const TEXTS: [&str; 15] = [
    "txt", "json", "jsonl", "csv", "tsv", "xml", "yaml", "yml", "toml", "md", "html", "htm", "log", "db",
    "ini",
];
/// Different endings that are counted one by one; names taken from addresses can have one each.
const MOST_ENDINGS: usize = 256;
/// As many are said.
const SAID: usize = 16;

/// Whether a folder of this name is passed over.
pub(super) fn is_omitted_folder(name: &[u8]) -> bool {
    name.starts_with(b".") || FOLDERS.iter().any(|folder| name.eq_ignore_ascii_case(folder.as_bytes()))
}

/// Whether a file of this name is hidden and would be an image. What macOS keeps beside each file (`._a.jpg`) is none.
pub(super) fn is_hidden_image(name: &[u8]) -> bool {
    let ending = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    name.starts_with(b".")
        && !name.starts_with(b"._")
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known.as_bytes()))
}

/// How many, and one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    count: u64,
    example: String,
}

impl Tally {
    pub(super) fn add(&mut self, count: u64, example: impl FnOnce() -> String) {
        if self.count == 0 {
            self.example = example();
        }
        self.count += count;
    }

    fn append(&mut self, other: Tally) {
        self.add(other.count, || other.example);
    }

    /// What `words` makes of the number and the example, if there are any.
    fn said(&self, words: impl FnOnce(u64, &str) -> String) -> Option<String> {
        (self.count > 0).then(|| words(self.count, &self.example))
    }
}

/// What is passed over in a folder and its subfolders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OmittedFiles {
    /// Files by their ending in lower case, which is empty where there is none.
    endings: BTreeMap<String, u64>,
    /// Those whose endings are too many to be counted one by one.
    other_endings: u64,
    /// Folders by name.
    folders: BTreeMap<String, u64>,
    hidden: Tally,
}

impl OmittedFiles {
    /// Counts the file `name` if it is passed over.
    pub(super) fn file(&mut self, name: &OsStr) {
        let ending = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.as_encoded_bytes().starts_with(b".") {
            if is_hidden_image(name.as_encoded_bytes()) {
                self.hidden.add(1, || name.to_string_lossy().into_owned());
            }
            return;
        }
        if EXTENSIONS.contains(&ending.as_str()) || TEXTS.contains(&ending.as_str()) {
            return;
        }
        if self.endings.len() == MOST_ENDINGS && !self.endings.contains_key(&ending) {
            self.other_endings += 1;
        } else {
            *self.endings.entry(ending).or_default() += 1;
        }
    }

    /// Counts a folder that [`is_omitted_folder`].
    pub(super) fn folder(&mut self, name: &OsStr) {
        *self.folders.entry(name.to_string_lossy().into_owned()).or_default() += 1;
    }

    /// A sentence for each kind of what was passed over in `root`.
    pub(super) fn words(&self, root: &Path) -> Vec<String> {
        let root = root.display();
        let files = self.endings.values().sum::<u64>() + self.other_endings;
        let endings = (files > 0).then(|| {
            format!(
                "{} passed over in {root} for their endings: {}; convert what is a picture, or rename it, to one of {}",
                number(files, "file is", "files are"),
                self.list_endings(),
                EXTENSIONS.join(", ")
            )
        });
        let folders: u64 = self.folders.values().sum();
        let folders = (folders > 0).then(|| {
            format!(
                "{} passed over in {root} as hidden, thumbnails, deleted files or a system's own: {}",
                number(folders, "folder is", "folders are"),
                list(&self.folders, |name, count| {
                    if count > 1 { format!("{name} ({count})") } else { name.to_owned() }
                })
            )
        });
        let hidden = self.hidden.said(|count, example| {
            let files = number(count, "hidden image is", "hidden images are");
            format!("{files} passed over in {root}, for instance {example}")
        });
        [endings, folders, hidden].into_iter().flatten().collect()
    }

    fn list_endings(&self) -> String {
        let mut text = list(&self.endings, |ending, count| {
            if ending.is_empty() {
                format!("{count} without one")
            } else if ending.chars().all(char::is_alphanumeric) {
                format!("{count} .{ending}")
            } else {
                format!("{count} {:?}", format!(".{ending}"))
            }
        });
        if self.other_endings > 0 {
            let _ = write!(text, ", {} with others", self.other_endings);
        }
        text
    }
}

/// What is passed over in tars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OmittedMembers {
    /// Links that lead to no member of their tar.
    pub(super) links: Tally,
    /// In folders that are passed over.
    pub(super) in_folders: Tally,
    pub(super) hidden: Tally,
    /// Without an ending, which says what a member is.
    pub(super) without_ending: Tally,
    /// Bytes after the end mark that are no tar.
    pub(super) after_end: Tally,
}

impl OmittedMembers {
    /// Adds what was passed over in another tar.
    pub(super) fn append(&mut self, other: OmittedMembers) {
        let OmittedMembers { links, in_folders, hidden, without_ending, after_end } = other;
        self.links.append(links);
        self.in_folders.append(in_folders);
        self.hidden.append(hidden);
        self.without_ending.append(without_ending);
        self.after_end.append(after_end);
    }

    /// A sentence for each kind of what was passed over in the tars.
    pub(super) fn words(&self) -> Vec<String> {
        let instance = |what: String| move |_: u64, example: &str| format!("{what}, for instance {example}");
        let of = |tally: &Tally, one: &str, many: &str, why: &str| {
            tally.said(instance(format!("{} passed over in tars{why}", number(tally.count, one, many))))
        };
        [
            of(&self.links, "link is", "links are", ", since they lead to no file of their tar"),
            of(
                &self.in_folders,
                "member is",
                "members are",
                ", since their folder is hidden, or of thumbnails, deleted files or a system's own",
            ),
            of(&self.hidden, "hidden image is", "hidden images are", ""),
            of(
                &self.without_ending,
                "member is",
                "members are",
                " for want of an ending, which tells its kind",
            ),
            of(&self.after_end, "byte is", "bytes are", " after an end mark, since no tar begins there"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Those with the highest counts first, then by name.
fn list(counts: &BTreeMap<String, u64>, words: impl Fn(&str, u64) -> String) -> String {
    let mut sorted: Vec<(&String, u64)> = counts.iter().map(|(name, &count)| (name, count)).collect();
    sorted.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut said: Vec<String> = sorted.iter().take(SAID).map(|(name, count)| words(name, *count)).collect();
    let left: u64 = sorted.iter().skip(SAID).map(|(_, count)| count).sum();
    if left > 0 {
        said.push(format!("{left} more"));
    }
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        let mut omitted = OmittedFiles::default();
        names.iter().for_each(|name| omitted.file(OsStr::new(name)));
        omitted.words(Path::new("x"))
    }

    #[test]
    fn files_are_counted_by_ending_and_texts_are_not() {
        assert_eq!(files(&["a.JPG", "b.png", "notes.txt", "Thumbs.db", ".DS_Store", "._a.jpg"]), [""; 0]);
        let words = files(&["a.HEIC", "b.heic", "c.jpg_large", "d", "e.1", "f.jpg ", ".g.jpg", "h.avif"]);
        assert!(
            words[0].starts_with(
                "7 files are passed over in x for their endings: 2 .heic, 1 without one, 1 .1, 1 .avif, 1 \".jpg \", 1 \".jpg_large\"; convert"
            ),
            "{words:?}"
        );
        assert_eq!(words[1], "1 hidden image is passed over in x, for instance .g.jpg");
    }

    #[test]
    fn endings_without_number_are_summed() {
        let names: Vec<String> = (0..300).map(|i| format!("a.jpg?{i}")).collect();
        let words = files(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(words[0].starts_with("300 files are ") && words[0].contains(", 240 more, 44 with others; "));
    }

    #[test]
    fn folders_of_thumbnails_are_known_in_any_case() {
        for name in ["@eaDir", "@EADIR", "$recycle.bin", ".thumbnails", "__MACOSX", ".@__thumb", "@Recycle"] {
            assert!(is_omitted_folder(name.as_bytes()), "{name}");
        }
        for name in ["cat", "thumbs", "recycle", "@", "eaDir", "00000"] {
            assert!(!is_omitted_folder(name.as_bytes()), "{name}");
        }
        let mut omitted = OmittedFiles::default();
        for name in ["@eaDir", ".git", "@eaDir"] {
            omitted.folder(OsStr::new(name));
        }
        let words = omitted.words(Path::new("x"));
        assert!(
            words[0].starts_with("3 folders are ") && words[0].ends_with(": @eaDir (2), .git"),
            "{words:?}"
        );
    }
}
