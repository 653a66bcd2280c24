//! Which images of a folder are byte copies of images in another folder, under any names.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use rayon::prelude::*;

use super::Dataset;
use super::fingerprint::queried;
use super::pass::spread;

/// How much is read at most, since the search comes before the work.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Images that are looked for in the other folder, evenly spaced.
    images: usize,
    /// Bytes of files of both folders.
    bytes: u64,
}

const LIMITS: Limits = Limits { images: 1000, bytes: 1 << 30 };
/// To open a file takes about as long as to read so many bytes.
const OPENING: u64 = 1 << 14;

/// The hash of a file's content.
type Digest = [u8; 32];

/// Images of a folder that are byte copies of images in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// How many were found.
    images: usize,
    /// How many were compared, since files of the same size are in the other folder.
    compared: usize,
    /// Whether there may be more, since to compare all would take too long.
    more: bool,
    /// The first, and the image that it is a copy of.
    example: (String, String),
}

impl Copies {
    /// A sentence's beginning that says how many of the `total` images that are called `what` are
    /// copies, and names the first.
    #[must_use]
    pub fn words(&self, total: usize, what: &str) -> String {
        let Self { images, compared, more, example: (own, other) } = self;
        let (least, compared) = if *more {
            ("at least ", format!(" ({compared} of them compared)"))
        } else {
            ("", String::new())
        };
        let are = if *images == 1 {
            "is a byte copy of a training image"
        } else {
            "are byte copies of training images"
        };
        format!("{least}{images} of {total} {what}{compared} {are}, for instance {own} of {other}")
    }
}

impl Dataset {
    /// Its images that are byte copies of images of `other`, but for those in `shared`. Only files of
    /// the same size are compared. None for archives.
    pub(super) fn copies_of(&self, other: &Dataset, shared: &BTreeSet<usize>) -> Option<Copies> {
        self.find_copies(other, shared, LIMITS)
    }

    fn find_copies(&self, other: &Dataset, shared: &BTreeSet<usize>, limits: Limits) -> Option<Copies> {
        if !(self.is_folder() && other.is_folder()) {
            return None;
        }
        let mut by_size: HashMap<u64, Vec<usize>> = HashMap::new();
        for (file, size) in other.known_sizes() {
            by_size.entry(size).or_default().push(file);
        }
        let may_be_copy = |(file, size): &(usize, u64)| by_size.contains_key(size) && !shared.contains(file);
        let candidates: Vec<(usize, u64)> = self.known_sizes().filter(may_be_copy).collect();
        let count = candidates.len().min(limits.images);
        let (mut own, mut peers, mut left) = (vec![], vec![], limits.bytes);
        let mut whole = count == candidates.len() && self.knows_all_sizes() && other.knows_all_sizes();
        for (file, size) in (0..count).map(|k| candidates[spread(k, count, candidates.len())]) {
            let cost = size.max(OPENING);
            let affordable = (left / cost) as usize;
            if affordable == 0 {
                whole = false;
                continue;
            }
            // Those of a size that came before are there already.
            let mut files = by_size.remove(&size).unwrap_or_default();
            whole &= files.len() < affordable;
            files.truncate(affordable - 1);
            left -= cost * (files.len() as u64 + 1);
            own.push(file);
            peers.extend(files);
        }
        let originals: Vec<_> = peers.par_iter().filter_map(|&file| hashed(other, file)).collect();
        // Of several that are equal, the first by name.
        let originals: HashMap<Digest, usize> = originals.into_iter().rev().collect();
        let hashes: Vec<_> = own.par_iter().filter_map(|&file| hashed(self, file)).collect();
        let mut found = hashes.iter().filter_map(|(digest, file)| Some((*file, *originals.get(digest)?)));
        let (first, original) = found.next()?;
        Some(Copies {
            images: 1 + found.count(),
            compared: own.len(),
            more: !whole,
            example: (self.name(first).into_owned(), other.name(original).into_owned()),
        })
    }

    /// The files whose sizes the fingerprint asked for, but for empty ones.
    fn known_sizes(&self) -> impl Iterator<Item = (usize, u64)> {
        queried(self.files()).zip(self.stated().1.iter().copied()).filter(|&(_, size)| size > 0)
    }

    /// Whether it asked for the sizes of all files.
    fn knows_all_sizes(&self) -> bool {
        self.stated().1.len() == self.files()
    }
}

/// The content of a file of `set` as a hash, and the file; none if it cannot be read.
fn hashed(set: &Dataset, file: usize) -> Option<(Digest, usize)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(set.file(file)).ok()?).ok()?;
    Some((*hasher.finalize().as_bytes(), file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::Split;

    /// A folder with these files.
    fn images(files: &[(&str, &str)]) -> (tempfile::TempDir, Dataset) {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let dataset = Dataset::open(root.path(), Split::All).unwrap();
        (root, dataset)
    }

    const TRAIN: [(&str, &str); 5] =
        [("a.png", "one"), ("b.png", "two"), ("c/d.png", "three"), ("c/e.png", "three"), ("empty.png", "")];
    const VAL: [(&str, &str); 5] =
        [("v.png", ""), ("w.png", "three"), ("x.png", "two"), ("y.png", "six"), ("z.png", "fourteen")];

    #[test]
    fn copies_are_found_by_their_content_under_any_name() {
        let ((_train, train), (_val, val)) = (images(&TRAIN), images(&VAL));
        let found = val.copies_of(&train, &BTreeSet::new()).unwrap();
        assert_eq!((found.images, found.compared, found.more), (2, 3, false));
        let words = "2 of 5 images are byte copies of training images, for instance w.png of c/d.png";
        assert_eq!(found.words(5, "images"), words);
        // Those of the same path are known already.
        let found = val.copies_of(&train, &BTreeSet::from([1])).unwrap();
        let words = "1 of 5 images is a byte copy of a training image, for instance x.png of b.png";
        assert_eq!(found.words(5, "images"), words);
        assert_eq!(val.copies_of(&train, &BTreeSet::from([1, 2])), None);
        let (_other, other) = images(&[("a.png", "ten")]);
        assert_eq!(val.copies_of(&other, &BTreeSet::new()), None, "sizes alone are nothing");
    }

    #[test]
    fn what_was_not_compared_is_said() {
        let ((_train, train), (_val, val)) = (images(&TRAIN), images(&VAL));
        let find = |images, files: u64| {
            val.find_copies(&train, &BTreeSet::new(), Limits { images, bytes: files * OPENING })
        };
        let found = find(1, 9).unwrap();
        let words = found.words(5, "images");
        assert!(words.starts_with("at least 1 of 5 images (1 of them compared) is a byte copy"), "{words}");
        // One with its two of the same size, and one with one of two.
        let found = find(9, 5).unwrap();
        assert_eq!((found.images, found.compared, found.more), (1, 2, true));
        let found = find(9, 7).unwrap();
        assert_eq!((found.images, found.compared, found.more), (2, 3, false));
        assert_eq!(find(9, 0), None);
    }
}
