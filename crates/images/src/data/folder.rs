//! A folder tree of images.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use walkdir::{DirEntry, WalkDir};

use super::index::Index;
use super::omitted::{OmittedFiles, is_omitted_folder};
use super::samples::key::{composed, readable};
use super::samples::parquet::splits::known;
use super::{DataError, Split};
use pixtok_base::paths::{is_output, special};

/// The endings of image files, in upper or lower case. The content of a file decides what it really
/// is.
pub const EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "pnm", "pbm", "pgm",
    "ppm", "pam",
];

/// The image files below a folder, sorted by the code points of their relative paths.
#[derive(Debug)]
pub struct ImageFolder {
    root: PathBuf,
    index: Index,
    /// The images that are links.
    links: Index,
    labels: Vec<String>,
    /// The classes of folders whose names are different spellings of a label.
    respelt: HashMap<String, usize>,
    notes: Vec<String>,
    passed_over: Vec<(&'static str, u64)>,
}

impl ImageFolder {
    /// Lists the images in `root` and its subfolders, by their endings ([`EXTENSIONS`]). Follows
    /// symbolic links. Skips hidden files, everything that is neither a file nor a folder, and
    /// folders that are hidden, hold thumbnails or deleted files, or were written by pixtok; these
    /// rules do not apply to `root` itself. Reads no file.
    ///
    /// # Errors
    /// When the folder does not exist, is not a folder, cannot be read completely, or has no image
    /// of the requested part.
    pub fn open(root: &Path, split: Split) -> Result<ImageFolder, DataError> {
        Self::list(root, split, walk(root), &|_| ())
    }

    /// The same as [`ImageFolder::open`]; `found_more` is told how many more images were found.
    ///
    /// # Errors
    /// The same as [`ImageFolder::open`].
    pub fn open_watched(
        root: &Path,
        split: Split,
        found_more: &dyn Fn(u64),
    ) -> Result<ImageFolder, DataError> {
        Self::list(root, split, walk(root), found_more)
    }

    /// The same as [`ImageFolder::open`] for all images, including those in folders that pixtok
    /// wrote.
    ///
    /// # Errors
    /// The same as [`ImageFolder::open`].
    pub fn open_with_outputs(root: &Path) -> Result<ImageFolder, DataError> {
        Self::list(root, Split::All, Walk { with_outputs: true, ..walk(root) }, &|_| ())
    }

    fn list(
        root: &Path,
        split: Split,
        mut entries: Walk,
        found_more: &dyn Fn(u64),
    ) -> Result<ImageFolder, DataError> {
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(DataError::NotAFolder(root.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataError::Missing(root.to_owned()));
            }
            Err(source) => return Err(DataError::Unreadable { path: root.to_owned(), source }),
        }
        let (mut index, mut links) = (Index::default(), Index::default());
        let (mut labels, mut shards, mut found) = (BTreeSet::new(), BTreeSet::new(), 0);
        while let Some(entry) = entries.next() {
            if let Ok(entry) = &entry
                && entry.file_type().is_file()
            {
                match shard_of(entry) {
                    Some(shard) => drop(shards.insert(shard)),
                    None => entries.omitted.file(entry.file_name()),
                }
            }
            let is_link = entry.as_ref().is_ok_and(DirEntry::path_is_symlink);
            let Some(path) = image_path(entry, root)? else { continue };
            let relative = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes();
            found += 1;
            found_more(1);
            if let Some(folder) = first_folder(relative).map(String::from_utf8_lossy)
                && !labels.contains(folder.as_ref())
            {
                labels.insert(folder.into_owned());
            }
            if split.takes(relative) {
                index.push(relative);
                if is_link {
                    links.push(relative);
                }
            }
        }
        let mut notes = entries.omitted.words(root);
        let passed_over = entries.omitted.counts();
        if found == 0 {
            return Err(DataError::empty(root, &notes));
        }
        if index.len() > u32::MAX as usize {
            return Err(DataError::TooManyFiles(root.to_owned()));
        }
        if index.is_empty() {
            return Err(split.empty(found));
        }
        index.sort();
        links.sort();
        let (mut labels, mut respelt) = classes(labels);
        if !labels.is_empty() && labels.iter().all(|label| shards.contains(label)) {
            notes.push(format!(
                "the folders in {} ({} …) are taken for img2dataset's shards, not for classes, since its files lie beside \
                 them",
                root.display(),
                labels[0]
            ));
            labels.clear();
            respelt.clear();
        }
        if let Some(name) = respelt.keys().min() {
            notes.push(format!(
                "class folders in {} that are one class with another, since only the Unicode spelling (NFC, \
                 NFD) of their names differs: {}, for instance {name}",
                root.display(),
                respelt.len()
            ));
        }
        if !labels.is_empty() && labels.iter().all(|label| known(label).is_some()) {
            notes.push(format!(
                "the folders in {} are named like splits ({}), and the images of all are taken; give one of them to take it alone",
                root.display(),
                labels.join(", ")
            ));
        }
        Ok(ImageFolder { root: root.to_owned(), index, links, labels, respelt, notes, passed_over })
    }

    /// The path of the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no image. Never true after [`ImageFolder::open`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The path of image `index` relative to the folder, with `/` between its parts. Bytes that are
    /// not UTF-8 are written as `\xFF`.
    #[must_use]
    pub fn name(&self, index: usize) -> Cow<'_, str> {
        readable(self.index.get(index))
    }

    /// Whether the name of image `index` is UTF-8.
    pub(super) fn is_utf8(&self, index: usize) -> bool {
        str::from_utf8(self.index.get(index)).is_ok()
    }

    /// Whether image `index` is a link to a file.
    pub(super) fn is_link(&self, index: usize) -> bool {
        self.links.find(self.index.get(index)).is_some()
    }

    /// The index of the image at `path`.
    pub(super) fn find(&self, path: &Path) -> Option<usize> {
        self.index.find(path.strip_prefix(&self.root).ok()?.as_os_str().as_bytes())
    }

    /// The path of image `index`.
    #[must_use]
    pub fn path(&self, index: usize) -> PathBuf {
        self.root.join(OsStr::from_bytes(self.index.get(index)))
    }

    /// A sentence for each kind of file that is skipped in the folder or treated specially.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many files and folders are skipped in the folder, for each reason that occurs.
    pub(super) fn passed_over(&self) -> &[(&'static str, u64)] {
        &self.passed_over
    }

    /// The class of image `index`, an index into [`ImageFolder::labels`]; `None` if it lies
    /// directly in the folder.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<usize> {
        let folder = String::from_utf8_lossy(first_folder(self.index.get(index))?);
        let own = self.labels.binary_search_by(|label| label.as_str().cmp(&folder)).ok();
        own.or_else(|| self.respelt.get(folder.as_ref()).copied())
    }

    /// The class names: the first-level folders with images in them, sorted; the same for every
    /// split. If a name has several Unicode spellings, the first one is the class. Empty if all of
    /// these folders are shards that img2dataset wrote as files: `00000/` beside `00000_stats.json`
    /// or `00000.parquet`.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// A hash (blake3, hexadecimal) of the relative paths in order.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for path in self.index.iter() {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Walks through a folder and its subfolders, following links, without the skipped folders.
pub(super) fn walk(root: &Path) -> Walk {
    let entries = WalkDir::new(root).follow_links(true).into_iter();
    Walk { root: root.to_owned(), with_outputs: false, entries, omitted: OmittedFiles::default() }
}

/// See [`walk`].
pub(super) struct Walk {
    root: PathBuf,
    /// Whether folders that pixtok wrote are walked too.
    with_outputs: bool,
    entries: walkdir::IntoIter,
    /// What was skipped, except for files, which the caller counts.
    pub(super) omitted: OmittedFiles,
}

impl Iterator for Walk {
    type Item = walkdir::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = self.entries.next()?;
            let Ok(found) = &entry else { return Some(entry) };
            if found.depth() == 0 || !found.file_type().is_dir() {
                if let Some(kind) = special(found.file_type())
                    && !is_hidden(found.file_name())
                {
                    let path = found.path();
                    self.omitted.special(kind, path.strip_prefix(&self.root).unwrap_or(path));
                }
                return Some(entry);
            }
            if is_omitted_folder(found.file_name().as_bytes()) {
                self.omitted.folder(found.file_name());
            } else if !self.with_outputs && is_output(found.path()) {
                let path = found.path();
                self.omitted.output(path.strip_prefix(&self.root).unwrap_or(path));
            } else {
                return Some(entry);
            }
            self.entries.skip_current_dir();
        }
    }
}

/// The name of the shard's folder, if `entry` is a file that img2dataset writes beside it:
/// statistics, or a Parquet list.
fn shard_of(entry: &DirEntry) -> Option<String> {
    let name = entry.file_name().to_str().filter(|_| entry.depth() == 1)?;
    let list = || name.strip_suffix(".parquet").filter(|stem| is_number(stem));
    name.strip_suffix("_stats.json").or_else(list).map(str::to_owned)
}

/// Whether a name is a number, as img2dataset names shards.
pub(super) fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The path of a walk's entry if it is an image file.
pub(super) fn image_path(
    entry: walkdir::Result<DirEntry>,
    root: &Path,
) -> Result<Option<PathBuf>, DataError> {
    match entry {
        Ok(entry)
            if entry.file_type().is_file()
                && has_extension(entry.path())
                && !is_hidden(entry.file_name()) =>
        {
            Ok(Some(entry.into_path()))
        }
        Ok(_) => Ok(None),
        Err(error) => {
            let path = error.path().unwrap_or(root).to_owned();
            // A link to nothing is listed like any other file, so that it is reported as a bad
            // image.
            let dangling = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) && !path.exists();
            if dangling && error.loop_ancestor().is_none() {
                return Ok((has_extension(&path) && !path.file_name().is_some_and(is_hidden)).then_some(path));
            }
            Err(DataError::Unreadable { path, source: error.into() })
        }
    }
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

pub(super) fn has_extension(path: &Path) -> bool {
    let Some(extension) = path.extension() else { return false };
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The class names among the names of first-level folders. For each name that is a different
/// spelling of an earlier one, also the index of the earlier class. The others keep their order,
/// and so their numbers.
fn classes(folders: BTreeSet<String>) -> (Vec<String>, HashMap<String, usize>) {
    let (mut labels, mut respelt) = (vec![], HashMap::new());
    let mut places: HashMap<String, usize> = HashMap::new();
    for folder in folders {
        let place = *places.entry(composed(&folder).into_owned()).or_insert(labels.len());
        if place == labels.len() {
            labels.push(folder);
        } else {
            respelt.insert(folder, place);
        }
    }
    (labels, respelt)
}

fn first_folder(relative: &[u8]) -> Option<&[u8]> {
    relative.iter().position(|&byte| byte == b'/').map(|end| &relative[..end])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::data::Dataset;
    use crate::data::make_fifo;
    use crate::picture::{self, DecodeOptions};

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        root
    }

    fn names(dataset: &ImageFolder) -> Vec<String> {
        (0..dataset.len()).map(|index| dataset.name(index).into_owned()).collect()
    }

    #[test]
    fn files_are_found_and_sorted_by_code_point() {
        let root = folder(&[
            "b/two.PNG",
            "b/Z.jpeg",
            "b/é.gif",
            "a-b/x.webp",
            "a/x.tiff",
            "top.ppm",
            "notes.txt",
            ".hidden.png",
            ".git/x.png",
            "a/.DS_Store",
            "jpg",
        ]);
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        let expected = ["a-b/x.webp", "a/x.tiff", "b/Z.jpeg", "b/two.PNG", "b/é.gif", "top.ppm"];
        assert_eq!(names(&dataset), expected);
        assert_eq!(dataset.labels(), ["a", "a-b", "b"]);
        let labels: Vec<_> = (0..6).map(|index| dataset.label(index)).collect();
        assert_eq!(labels, [Some(1), Some(0), Some(2), Some(2), Some(2), None]);
        assert_eq!(dataset.path(4), root.path().join("b/é.gif"));
    }

    #[test]
    fn links_are_followed_and_broken_ones_kept() {
        let root = folder(&["real/a.png"]);
        let elsewhere = folder(&["b.png"]);
        symlink(elsewhere.path().join("b.png"), root.path().join("link.png")).unwrap();
        symlink(elsewhere.path(), root.path().join("folder")).unwrap();
        symlink("nowhere.png", root.path().join("broken.png")).unwrap();
        symlink("nowhere.txt", root.path().join("broken.txt")).unwrap();
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        assert_eq!(names(&dataset), ["broken.png", "folder/b.png", "link.png", "real/a.png"]);
        symlink(root.path(), root.path().join("real/loop")).unwrap();
        let message = ImageFolder::open(root.path(), Split::All).unwrap_err().to_string();
        assert!(message.contains("real/loop") && message.contains("loop"), "{message}");
    }

    #[test]
    fn names_that_are_not_utf8_have_a_path() {
        let root = folder(&["a.png"]);
        let odd = root.path().join(OsStr::from_bytes(b"\xFF.png"));
        fs::write(&odd, b"").unwrap();
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        assert_eq!(dataset.path(1), odd);
        assert_eq!(dataset.name(1), "\\xFF.png");
    }

    #[test]
    fn what_is_passed_over_is_counted() {
        let root = folder(&[
            "cat/a.png",
            "cat/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg",
            "$RECYCLE.BIN/S-1-5-21/x.jpg",
            ".thumbnails/a.jpg",
            "cat/b.HEIC",
            "cat/.c.jpg",
            "cat/a.txt",
            "Thumbs.db",
        ]);
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        assert_eq!(
            (names(&dataset), dataset.labels()),
            (vec!["cat/a.png".to_owned()], &["cat".to_owned()][..])
        );
        let notes = dataset.notes();
        for (note, parts) in notes.iter().zip([
            ["1 file is passed over in ", ": 1 .heic; "],
            ["3 folders are passed over in ", ": $RECYCLE.BIN, .thumbnails, @eaDir"],
            ["1 hidden image is passed over in ", "for instance .c.jpg"],
        ]) {
            assert!(parts.iter().all(|part| note.contains(part)), "{note}");
        }
        assert_eq!(notes.len(), 3);
        assert!(ImageFolder::open(&root.path().join("cat/@eaDir"), Split::All).is_ok(), "asked for by name");
        let plain = folder(&["a.png", "a.txt"]);
        assert!(ImageFolder::open(plain.path(), Split::All).unwrap().notes().is_empty());
    }

    #[test]
    fn what_is_no_file_is_passed_over_and_counted() {
        let root = folder(&["cat/a.png"]);
        let at = |name: &str| root.path().join(name);
        for name in ["cat/b.png", "cat/c.png", "cat/.d.png"] {
            make_fifo(&at(name));
        }
        let _listener = UnixListener::bind(at("s.png")).unwrap();
        symlink("/dev/null", at("e.jpg")).unwrap();
        // Reading a FIFO would wait forever.
        let dataset = Dataset::open(root.path(), Split::All).unwrap();
        assert_eq!((dataset.len(), dataset.name(0)), (1, "cat/a.png".into()));
        let notes: Vec<&String> = dataset.notes().collect();
        let [note] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(note.starts_with("2 FIFOs, 1 device, 1 socket are passed over in "), "{note}");
        // As archives, they are not a data set.
        make_fifo(&at("x.tar"));
        assert_eq!(Dataset::open(root.path(), Split::All).unwrap().len(), 1);
        let message = Dataset::open(&at("x.tar"), Split::All).unwrap_err().to_string();
        assert!(message.contains("x.tar is a FIFO, and images are read from files"), "{message}");
        // A path that became a FIFO later.
        let Err(error) = picture::read(&at("cat/b.png"), &DecodeOptions::default()) else { panic!("read") };
        assert_eq!(error.to_string(), "cannot read it: it is a FIFO, not a file");
    }

    #[test]
    fn what_pixtok_wrote_is_passed_over_below_the_folder_that_is_given() {
        let root = folder(&[
            "cat/a.png",
            "old/config.toml",
            "old/metrics.jsonl",
            "old/samples/step-000001.png",
            "deep/out/.pixtok-output",
            "deep/out/cat/a.png",
            "project/config.toml",
            "project/b.png",
        ]);
        symlink(root.path().join("deep/out"), root.path().join("link")).unwrap();
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        assert_eq!(names(&dataset), ["cat/a.png", "project/b.png"]);
        assert_eq!(dataset.labels(), ["cat", "project"]);
        let [note] = dataset.notes() else { panic!("{:?}", dataset.notes()) };
        assert!(note.starts_with("3 folders that pixtok wrote are passed over in "), "{note}");
        let with_outputs = ImageFolder::open_with_outputs(root.path()).unwrap();
        let expected = ["cat/a.png", "deep/out/cat/a.png", "link/cat/a.png", "old/samples/step-000001.png"];
        assert_eq!(names(&with_outputs), [&expected[..], &["project/b.png"]].concat());
        assert!(with_outputs.notes().iter().all(|note| !note.contains("pixtok wrote")));
        // If the user names it, it is read, with all folders in it that are not marked themselves.
        for (given, expected) in [("old", "samples/step-000001.png"), ("link", "cat/a.png")] {
            assert_eq!(names(&ImageFolder::open(&root.path().join(given), Split::All).unwrap()), [expected]);
        }
        let message = ImageFolder::open(&root.path().join("deep"), Split::All).unwrap_err().to_string();
        assert!(message.contains("no images") && message.contains("for instance out; to read"), "{message}");
    }

    #[test]
    fn shard_folders_are_no_classes() {
        let labels = |files: &[&str]| {
            let dataset = ImageFolder::open(folder(files).path(), Split::All).unwrap();
            (dataset.labels().len(), dataset.label(0), dataset.notes().len())
        };
        let images = ["00000/000000000.jpg", "00000/000000000.txt", "00001/000010000.jpg"];
        assert_eq!(labels(&images), (2, Some(0), 0), "these may be classes");
        for beside in [["00000_stats.json", "00001_stats.json"], ["00000.parquet", "00001.parquet"]] {
            assert_eq!(labels(&[&images[..], &beside].concat()), (0, None, 1));
            assert_eq!(labels(&[&images[..], &beside[..1]].concat()).0, 2, "{} alone", beside[0]);
        }
        // Neither is a different spelling of an existing class.
        let (one, two) = ("caf\u{e9}", "cafe\u{301}");
        let root = folder(&[&format!("{one}/a.png"), &format!("{two}/b.png"), &format!("{two}_stats.json")]);
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        let labels: Vec<_> = (0..2).map(|index| dataset.label(index)).collect();
        assert_eq!((labels, dataset.labels().len(), dataset.notes().len()), (vec![None, None], 0, 1));
    }

    #[test]
    fn two_spellings_of_a_folder_are_one_class() {
        let (one, two) = ("caf\u{e9}", "cafe\u{301}");
        let files = [format!("{one}/a.png"), format!("{two}/b.png"), "cafz/c.png".into(), "d.png".into()];
        let root = folder(&files.each_ref().map(String::as_str));
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        assert_eq!(dataset.labels(), [two, "cafz"]);
        let labels: Vec<_> = (0..4).map(|index| (dataset.name(index), dataset.label(index))).collect();
        let expected = [(&files[1], Some(0)), (&files[0], Some(0)), (&files[2], Some(1)), (&files[3], None)];
        for (name, label) in expected {
            assert!(labels.contains(&(name.as_str().into(), label)), "{labels:?}");
        }
        let [note] = dataset.notes() else { panic!("{:?}", dataset.notes()) };
        assert!(note.contains("of their names differs: 1, for instance "), "{note}");
        // The only spelling keeps its place.
        let root = folder(&[&files[1], &files[2]].map(String::as_str));
        let dataset = ImageFolder::open(root.path(), Split::All).unwrap();
        assert_eq!((dataset.labels(), dataset.notes().len()), (&[two.to_owned(), "cafz".to_owned()][..], 0));
    }

    #[test]
    fn splits_are_disjoint_and_stable() {
        let files: Vec<String> = (0..1000).map(|i| format!("c{}/{i}.jpg", i % 3)).collect();
        let root = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let open = |split| names(&ImageFolder::open(root.path(), split).unwrap());
        let (train, val) = (open(Split::Train { val_share: 0.1 }), open(Split::Val { val_share: 0.1 }));
        assert!((70..=130).contains(&val.len()), "{}", val.len());
        let mut both = [train, val.clone()].concat();
        both.sort();
        assert_eq!(both, open(Split::All));
        let more = open(Split::Val { val_share: 0.2 });
        assert!(val.iter().all(|name| more.contains(name)));
        let message = ImageFolder::open(root.path(), Split::Val { val_share: 1e-9 }).unwrap_err().to_string();
        assert!(message.contains("of 1000 for validation"), "{message}");
    }

    #[test]
    fn folders_without_images_are_explained() {
        let root = folder(&["notes.txt"]);
        let open = |path: &Path| ImageFolder::open(path, Split::All).unwrap_err().to_string();
        let message = open(root.path());
        assert!(message.contains("no images") && message.contains("jpeg, jfif"), "{message}");
        let message = open(folder(&["0a1b", "x.heic"]).path());
        for part in ["no images in ", "2 files are passed over", "1 without one, 1 .heic"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(open(&root.path().join("gone")).contains("does not exist"));
        assert!(open(&root.path().join("notes.txt")).contains("is a file"));
    }

    #[test]
    fn the_fingerprint_tells_file_sets_apart() {
        let fingerprint = |files: &[&str]| {
            let root = folder(files);
            ImageFolder::open(root.path(), Split::All).unwrap().fingerprint()
        };
        assert_eq!(fingerprint(&["a.png", "b.png"]), fingerprint(&["b.png", "a.png"]));
        assert_ne!(fingerprint(&["a.png", "b.png"]), fingerprint(&["a.png", "c.png"]));
    }
}
