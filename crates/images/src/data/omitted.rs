//! What is skipped in an input. It is counted while the input is listed, then reported once in
//! words.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use super::EXTENSIONS;

/// Names, in upper or lower case, of folders with thumbnails, deleted files or a system's own
/// files: Synology, QNAP, Windows, macOS, NetApp, ext4. Hidden folders are skipped as well.
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
/// Endings of files that describe pictures, and of files that file managers leave. They are not
/// counted, since they are not pictures with an unusual ending.
const TEXTS: [&str; 17] = [
    "txt", "text", "caption", "json", "jsonl", "csv", "tsv", "xml", "yaml", "yml", "toml", "md", "html",
    "htm", "log", "db", "ini",
];
/// Endings of archives, which may hold images but are not searched.
const ARCHIVES: [&str; 12] =
    ["tar", "tgz", "gz", "bz2", "xz", "zst", "lz4", "zip", "7z", "rar", "parquet", "tfrecord"];
/// The most endings that are counted separately; names made from URLs can each have their own.
const MOST_ENDINGS: usize = 256;
/// The most endings or folders that a message lists.
const SAID: usize = 16;

/// Whether a folder with this name is skipped.
pub(super) fn is_omitted_folder(name: &[u8]) -> bool {
    name.starts_with(b".") || FOLDERS.iter().any(|folder| name.eq_ignore_ascii_case(folder.as_bytes()))
}

/// Whether a file with this name is a hidden image. The files that macOS writes beside others
/// (`._a.jpg`) are not images.
pub(super) fn is_hidden_image(name: &[u8]) -> bool {
    let ending = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    name.starts_with(b".")
        && !name.starts_with(b"._")
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known.as_bytes()))
}

/// A count, with an example.
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

    /// The result of `words` for the count and the example, if the count is not 0.
    pub(super) fn said(&self, words: impl FnOnce(u64, &str) -> String) -> Option<String> {
        (self.count > 0).then(|| words(self.count, &self.example))
    }
}

/// What is skipped in a folder and its subfolders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OmittedFiles {
    /// Files by their ending in lower case; empty for files without one.
    endings: BTreeMap<String, u64>,
    /// The number of files with other endings, beyond the most that are counted separately.
    other_endings: u64,
    /// Folders by name.
    folders: BTreeMap<String, u64>,
    /// Folders that pixtok wrote.
    outputs: Tally,
    hidden: Tally,
    /// Entries that are neither files nor folders, by kind.
    specials: BTreeMap<String, u64>,
    /// The path of the first such entry.
    special: Option<String>,
}

impl OmittedFiles {
    /// Counts the file `name` if it is skipped.
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

    /// Counts a skipped folder; see [`is_omitted_folder`].
    pub(super) fn folder(&mut self, name: &OsStr) {
        *self.folders.entry(name.to_string_lossy().into_owned()).or_default() += 1;
    }

    /// Counts a folder that pixtok wrote; `path` is relative to the start of the walk.
    pub(super) fn output(&mut self, path: &Path) {
        self.outputs.add(1, || path.display().to_string());
    }

    /// Counts an entry that is neither a file nor a folder, by its kind. `path` is relative to the
    /// start of the walk.
    pub(super) fn special(&mut self, kind: &str, path: &Path) {
        *self.specials.entry(kind.to_owned()).or_default() += 1;
        self.special.get_or_insert_with(|| path.display().to_string());
    }

    /// A sentence for each kind of file that was skipped in `root`, a folder of images.
    pub(super) fn words(&self, root: &Path) -> Vec<String> {
        let endings = EXTENSIONS.join(", ");
        self.in_words(root, &format!("convert or rename the pictures among them to one of {endings}"))
    }

    /// A sentence for each kind of file that was skipped in `root`, a folder of tars or of Parquet
    /// files.
    pub(super) fn words_beside_shards(&self, root: &Path) -> Vec<String> {
        self.in_words(root, "put the pictures among them in a folder of their own")
    }

    /// How many are skipped for each reason that occurs.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let archive = |ending: &String| ARCHIVES.contains(&ending.as_str());
        let of = |archives: bool| {
            let files = self.endings.iter().filter(|(ending, _)| archive(ending) == archives);
            files.map(|(_, count)| count).sum::<u64>()
        };
        let (archives, endings) = (of(true), of(false));
        let counts = [
            ("for the ending", endings + self.other_endings),
            ("as archives", archives),
            ("as hidden", self.hidden.count),
            ("as folders that are hidden or hold thumbnails", self.folders.values().sum()),
            ("as folders that pixtok wrote", self.outputs.count),
            ("since they are not files", self.specials.values().sum()),
        ];
        counts.into_iter().filter(|&(_, count)| count > 0).collect()
    }

    fn in_words(&self, root: &Path, remedy: &str) -> Vec<String> {
        let root = root.display();
        let is_archive = |ending: &str| ARCHIVES.contains(&ending);
        let (archives, others): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .endings
            .iter()
            .map(|(ending, &count)| (ending.clone(), count))
            .partition(|(ending, _)| is_archive(ending));
        let files: u64 = archives.values().sum();
        let archives = (files > 0).then(|| {
            format!(
                "{} passed over in {root}: {}; give one of them or the folder in which they lie, or unpack them",
                number(files, "archive is", "archives are"),
                list_endings(&archives)
            )
        });
        let files = others.values().sum::<u64>() + self.other_endings;
        let endings = (files > 0).then(|| {
            format!(
                "{} passed over in {root} for the ending: {}; {remedy}",
                number(files, "file is", "files are"),
                self.list_endings(&others),
            )
        });
        let folders: u64 = self.folders.values().sum();
        let folders = (folders > 0).then(|| {
            format!(
                "{} passed over in {root} as hidden or with thumbnails, deleted files or system files: {}",
                number(folders, "folder is", "folders are"),
                list(&self.folders, |name, count| {
                    if count > 1 { format!("{name} ({count})") } else { name.to_owned() }
                })
            )
        });
        let outputs = self.outputs.said(|count, example| {
            let folders = number(count, "folder that pixtok wrote is", "folders that pixtok wrote are");
            format!("{folders} passed over in {root}, for instance {example}; to read such a folder, give it by itself")
        });
        let hidden = self.hidden.said(|count, example| {
            let files = number(count, "hidden image is", "hidden images are");
            format!("{files} passed over in {root}, for instance {example}")
        });
        let specials = self.special.as_ref().map(|example| {
            let count: u64 = self.specials.values().sum();
            let is = if count == 1 { "is" } else { "are" };
            let kinds = list(&self.specials, |kind, count| number(count, kind, &format!("{kind}s")));
            format!("{kinds} {is} passed over in {root}, since only files are read, for instance {example}")
        });
        [archives, endings, folders, outputs, hidden, specials].into_iter().flatten().collect()
    }

    fn list_endings(&self, endings: &BTreeMap<String, u64>) -> String {
        let mut text = list_endings(endings);
        if self.other_endings > 0 {
            let _ = write!(text, ", {} with others", self.other_endings);
        }
        text
    }
}

fn list_endings(endings: &BTreeMap<String, u64>) -> String {
    list(endings, |ending, count| {
        if ending.is_empty() {
            format!("{count} without one")
        } else if ending.chars().all(char::is_alphanumeric) {
            format!("{count} .{ending}")
        } else {
            format!("{count} {:?}", format!(".{ending}"))
        }
    })
}

/// What is skipped in tars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OmittedMembers {
    /// Links to members that are not in their tar.
    pub(super) links: Tally,
    /// Members in skipped folders.
    pub(super) in_folders: Tally,
    pub(super) hidden: Tally,
    /// Members without an ending, which would show what a member is.
    pub(super) without_ending: Tally,
    /// Members whose key has no image, text, label or JSON.
    pub(super) unused: Tally,
    /// Bytes after an end mark that don't belong to a tar.
    pub(super) after_end: Tally,
    /// Tars that consist only of an end mark.
    pub(super) empty: Tally,
}

impl OmittedMembers {
    /// Adds the counts of another tar.
    pub(super) fn append(&mut self, other: OmittedMembers) {
        let OmittedMembers { links, in_folders, hidden, without_ending, unused, after_end, empty } = other;
        self.links.append(links);
        self.in_folders.append(in_folders);
        self.hidden.append(hidden);
        self.without_ending.append(without_ending);
        self.unused.append(unused);
        self.after_end.append(after_end);
        self.empty.append(empty);
    }

    /// How many members are skipped for each reason that occurs.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = [
            ("as links to nothing", self.links.count),
            ("in folders that are hidden or hold thumbnails", self.in_folders.count),
            ("as hidden", self.hidden.count),
            ("without an ending", self.without_ending.count),
            ("without an image", self.unused.count),
        ];
        counts.into_iter().filter(|&(_, count)| count > 0).collect()
    }

    /// A sentence for each kind of member that was skipped in the tars.
    pub(super) fn words(&self) -> Vec<String> {
        let said = |tally: &Tally, one: &str, many: &str| {
            tally.said(|count, example| format!("{}, for instance {example}", number(count, one, many)))
        };
        [
            said(
                &self.links,
                "link in tars is passed over, since it leads to no file of its tar",
                "links in tars are passed over, since they lead to no file of their tar",
            ),
            said(
                &self.in_folders,
                "member of a tar is passed over, since its folder is hidden or holds thumbnails, deleted files or system files",
                "members of tars are passed over, since their folders are hidden or hold thumbnails, deleted files or system files",
            ),
            said(
                &self.hidden,
                "hidden image in a tar is passed over",
                "hidden images in tars are passed over",
            ),
            said(
                &self.without_ending,
                "member of a tar is passed over, since it has no ending to tell what it is",
                "members of tars are passed over, since they have no ending to tell what they are",
            ),
            said(
                &self.unused,
                "member of a tar is passed over, since nothing beside it is an image, a text, a label or JSON",
                "members of tars are passed over, since nothing beside them is an image, a text, a label or JSON",
            ),
            said(
                &self.after_end,
                "byte after the end mark of a tar is passed over, since no tar begins there",
                "bytes after the end marks of tars are passed over, since no tar begins there",
            ),
            said(&self.empty, "tar is empty", "tars are empty"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Lists the highest counts first, and equal ones by name.
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
        assert_eq!(files(&["a.jpg", "a.text", "b.jpg", "b.CAPTION"]), [""; 0]);
        let words = files(&["a.HEIC", "b.heic", "c.jpg_large", "d", "e.1", "f.jpg ", ".g.jpg", "h.avif"]);
        assert!(
            words[0].starts_with(
                "7 files are passed over in x for the ending: 2 .heic, 1 without one, 1 .1, 1 .avif, 1 \".jpg \", 1 \".jpg_large\"; convert"
            ),
            "{words:?}"
        );
        assert_eq!(words[1], "1 hidden image is passed over in x, for instance .g.jpg");
        let words = files(&["a.tar", "b.tar", "c.zip", "d.heic"]);
        assert!(words[0].starts_with("3 archives are passed over in x: 2 .tar, 1 .zip; give"), "{words:?}");
        assert!(words[1].starts_with("1 file is passed over in x for the ending: 1 .heic; "), "{words:?}");
    }

    #[test]
    fn what_is_skipped_is_counted_by_its_reason() {
        let mut omitted = OmittedFiles::default();
        for name in ["a.heic", "b.avif", "c.heic", ".d.jpg", "e.zip", "notes.txt", "f.png"] {
            omitted.file(OsStr::new(name));
        }
        omitted.folder(OsStr::new("@eaDir"));
        let expected: [(&str, u64); 4] = [
            ("for the ending", 3),
            ("as archives", 1),
            ("as hidden", 1),
            ("as folders that are hidden or hold thumbnails", 1),
        ];
        assert_eq!(omitted.counts(), expected);
        assert!(OmittedFiles::default().counts().is_empty());
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
