//! Finds images of a folder that are byte copies of images in another folder, whatever their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;

use super::Dataset;
use super::fingerprint::queried;
use super::pass::spread;

/// Limits on reading, since the search comes before the work.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The number of evenly spaced images that are looked for in the other folder.
    images: usize,
    /// The bytes of the files in both folders that are read as a whole. Probes have the same limit
    /// again, and each counts as `OPENING` bytes.
    bytes: u64,
}

const LIMITS: Limits = Limits { images: 1000, bytes: 1 << 30 };
/// Opening a file takes about as long as reading this number of bytes.
const OPENING: u64 = 1 << 14;
/// The length of each part of a file that a probe reads.
const PART: u64 = 1 << 12;

/// The hash of a file's content, or of parts of it.
type Digest = [u8; 32];

/// Images of a folder that are byte copies of images in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The number of copies found.
    images: usize,
    /// The number of images that were compared with at least one file of the same size in the other
    /// folder.
    compared: usize,
    /// Whether there may be more copies, because comparing all files would take too long.
    more: bool,
    /// The first copy, and the image that it equals.
    example: (String, String),
}

impl Copies {
    /// The start of a sentence that says how many of the images, called `what`, are copies, and
    /// names the first. `total` is the size of the set that was searched for copies.
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
        format!("{least}{images} of {total} {what}{compared} {are}, for instance {own}, a copy of {other}")
    }
}

impl Dataset {
    /// The images that are byte copies of images of `other`, except for those in `shared`. Only
    /// files of the same size are compared: first a few parts of each, then the whole files if
    /// these agree. `None` for archives.
    pub(super) fn copies_of(&self, other: &Dataset, shared: &BTreeSet<usize>) -> Option<Copies> {
        self.find_copies(other, shared, LIMITS)
    }

    fn find_copies(&self, other: &Dataset, shared: &BTreeSet<usize>, limits: Limits) -> Option<Copies> {
        if !(self.is_folder() && other.is_folder()) {
            return None;
        }
        let Chosen { own, peers, all } = self.choose(other, shared, limits);
        let probed = |set, files: &[(usize, u64)]| -> Vec<(Digest, usize, u64)> {
            let probe = |&(file, size): &(usize, u64)| Some((probe(set, file, size)?, file, size));
            files.par_iter().filter_map(probe).collect()
        };
        let mut alike: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (digest, file, _) in probed(other, &peers) {
            alike.entry(digest).or_default().push(file);
        }
        let suspects = probed(self, &own).into_iter().filter_map(|(digest, file, size)| {
            let peers = alike.get(&digest)?;
            Some(Suspect { file, size, peers })
        });
        let (found, all_read) = self.read_whole(other, suspects.collect(), limits.bytes);
        let (&first, &original) = found.first_key_value()?;
        Some(Copies {
            images: found.len(),
            compared: own.len(),
            more: !(all && all_read),
            example: (self.name(first).into_owned(), other.name(original).into_owned()),
        })
    }

    /// Chooses which files are compared, without reading any.
    fn choose(&self, other: &Dataset, shared: &BTreeSet<usize>, limits: Limits) -> Chosen {
        let mut by_size: HashMap<u64, Vec<usize>> = HashMap::new();
        for (file, size) in other.known_sizes() {
            by_size.entry(size).or_default().push(file);
        }
        let may_be_copy = |(file, size): &(usize, u64)| by_size.contains_key(size) && !shared.contains(file);
        let candidates: Vec<(usize, u64)> = self.known_sizes().filter(may_be_copy).collect();
        let probes = (limits.bytes / OPENING) as usize;
        // At least as many probes are left for the files that they are compared with.
        let count = candidates.len().min(limits.images).min(probes / 2);
        let mut own: Vec<_> = (0..count).map(|k| candidates[spread(k, count, candidates.len())]).collect();
        let mut of_size: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, size) in &own {
            *of_size.entry(*size).or_default() += 1;
        }
        // First the sizes at which a probe in the other folder is most likely to find a copy.
        let others = |size: &u64| by_size.get(size).map_or(0, Vec::len);
        let mut sizes: Vec<(u64, usize)> = of_size.into_iter().collect();
        sizes.sort_by_key(|(size, count)| others(size) / count);
        let mut all = count == candidates.len() && self.knows_all_sizes() && other.knows_all_sizes();
        let (mut peers, mut left) = (vec![], probes - count);
        for (size, _) in sizes {
            let files = by_size.get(&size).map_or(&[][..], Vec::as_slice);
            let affordable = files.len().min(left);
            all &= affordable == files.len();
            left -= affordable;
            peers.extend((0..affordable).map(|k| (files[spread(k, affordable, files.len())], size)));
        }
        let compared: BTreeSet<u64> = peers.iter().map(|(_, size)| *size).collect();
        own.retain(|(_, size)| compared.contains(size));
        Chosen { own, peers, all }
    }

    /// Finds the `suspects` that equal one of their peers, with the first such peer. Also returns
    /// whether all files could be read within `left` bytes. Second peers are read after all first
    /// ones, so that an image with many peers leaves bytes for the others.
    fn read_whole(
        &self,
        other: &Dataset,
        mut suspects: Vec<Suspect>,
        mut left: u64,
    ) -> (BTreeMap<usize, usize>, bool) {
        let (mut found, mut all) = (BTreeMap::new(), true);
        // Keyed by whether it is a file of `self`, and by its index.
        let mut contents: HashMap<(bool, usize), Option<Digest>> = HashMap::new();
        for rank in 0.. {
            suspects.retain(|suspect| rank < suspect.peers.len());
            if suspects.is_empty() {
                break;
            }
            let mut unread = vec![];
            suspects.retain(|suspect| {
                let mut pair = vec![(true, suspect.file), (false, suspect.peers[rank])];
                pair.retain(|file| !contents.contains_key(file));
                let cost = suspect.size.max(OPENING) * pair.len() as u64;
                let affordable = cost <= left;
                if affordable {
                    left -= cost;
                    contents.extend(pair.iter().map(|&file| (file, None)));
                    unread.append(&mut pair);
                }
                all &= affordable;
                affordable
            });
            let read: Vec<_> = unread
                .into_par_iter()
                .map(|(own, file)| ((own, file), hashed(if own { self } else { other }, file)))
                .collect();
            contents.extend(read);
            suspects.retain(|suspect| {
                let peer = suspect.peers[rank];
                let Some(own) = contents[&(true, suspect.file)] else { return false };
                let equal = contents[&(false, peer)] == Some(own);
                if equal {
                    found.insert(suspect.file, peer);
                }
                !equal
            });
        }
        (found, all)
    }

    /// The files whose sizes the fingerprint queried, except for empty ones.
    fn known_sizes(&self) -> impl Iterator<Item = (usize, u64)> {
        queried(self.files()).zip(self.stated().1.iter().copied()).filter(|&(_, size)| size > 0)
    }

    /// Whether the fingerprint queried the sizes of all files.
    fn knows_all_sizes(&self) -> bool {
        self.stated().1.len() == self.files()
    }
}

/// The files that are compared, each with its size.
struct Chosen {
    /// The images to look for, in order.
    own: Vec<(usize, u64)>,
    /// Files of the other folder, in order within each size.
    peers: Vec<(usize, u64)>,
    /// Whether all possible copies are among them.
    all: bool,
}

/// An image whose probe agrees with probes of images in the other folder.
struct Suspect<'a> {
    file: usize,
    size: u64,
    /// Files of the other folder, in order.
    peers: &'a [usize],
}

/// A hash of the size of a file of `set` and of its first, middle and last bytes; `None` if they
/// cannot be read.
fn probe(set: &Dataset, file: usize, size: u64) -> Option<Digest> {
    let opened = File::open(set.file(file)).ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    let length = size.min(PART);
    let mut starts = vec![0, (size - length) / 2, size - length];
    starts.dedup();
    let mut part = vec![0; length as usize];
    for start in starts {
        opened.read_exact_at(&mut part, start).ok()?;
        hasher.update(&part);
    }
    Some(*hasher.finalize().as_bytes())
}

/// A hash of the content of a file of `set`; `None` if it cannot be read.
fn hashed(set: &Dataset, file: usize) -> Option<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(set.file(file)).ok()?).ok()?;
    Some(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::Split;

    /// A folder with these files.
    fn images<T: AsRef<[u8]>>(files: &[(&str, T)]) -> (tempfile::TempDir, Dataset) {
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
        let words = "2 of 5 images are byte copies of training images, for instance w.png, a copy of c/d.png";
        assert_eq!(found.words(5, "images"), words);
        // The copy with the same path is known already.
        let found = val.copies_of(&train, &BTreeSet::from([1])).unwrap();
        let words = "1 of 5 images is a byte copy of a training image, for instance x.png, a copy of b.png";
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
        // One image with its two files of the same size, and one with one of two.
        let found = find(9, 5).unwrap();
        assert_eq!((found.images, found.compared, found.more), (2, 2, true));
        let found = find(9, 7).unwrap();
        assert_eq!((found.images, found.compared, found.more), (2, 3, false));
        assert_eq!(find(9, 0), None);
    }

    /// A folder of `count` images of `size` bytes each, all different. `rename` gives the number in
    /// an image's name.
    fn alike(count: usize, size: usize, rename: impl Fn(usize) -> usize) -> (tempfile::TempDir, Dataset) {
        let names: Vec<String> = (0..count).map(|image| format!("{:02}.ppm", rename(image))).collect();
        let files: Vec<_> =
            names.iter().enumerate().map(|(image, name)| (name.as_str(), vec![image as u8; size])).collect();
        images(&files)
    }

    #[test]
    fn images_of_one_size_share_the_budget() {
        let (_train, train) = alike(50, 30_000, |image| image);
        let limits = |files: u64| Limits { images: 1000, bytes: files * OPENING };
        for rename in [|image: usize| image, |image: usize| 49 - image] {
            let (_val, val) = alike(50, 30_000, rename);
            let found = val.find_copies(&train, &BTreeSet::new(), limits(30)).unwrap();
            assert_eq!((found.compared, found.more), (15, true));
            assert!(found.images > 1, "{found:?}");
        }
        // One image is compared with all, although reading all would take too long.
        let (_val, val) = images(&[("copy.ppm", vec![49; 30_000])]);
        let found = val.find_copies(&train, &BTreeSet::new(), limits(60)).unwrap();
        let words =
            "1 of 1 images is a byte copy of a training image, for instance copy.ppm, a copy of 49.ppm";
        assert_eq!(found.words(1, "images"), words);
        // With more images than can be compared, not only the first ones by name are.
        let found = val.find_copies(&train, &BTreeSet::new(), limits(26));
        assert_eq!(found, None);
        let (_val, val) = images(&[("copy.ppm", vec![48; 30_000])]);
        let found = val.find_copies(&train, &BTreeSet::new(), limits(26)).unwrap();
        assert_eq!((found.images, found.more), (1, true));
    }

    #[test]
    fn files_are_compared_whole_where_their_probes_agree() {
        let length = 5 * PART as usize;
        // The files differ where no probe reads.
        let almost = |byte: u8| {
            [vec![7; PART as usize + 9], vec![byte], vec![7; length - 10 - PART as usize]].concat()
        };
        let (_train, train) = images(&[("a.ppm", almost(1)), ("b.ppm", almost(2)), ("c.ppm", almost(3))]);
        let (_val, val) = images(&[("x.ppm", almost(4)), ("y.ppm", almost(2)), ("z.ppm", almost(3))]);
        let files = [(&val, 0), (&val, 1), (&train, 0)];
        let [one, two, three] = files.map(|(set, file)| probe(set, file, length as u64).unwrap());
        assert!(one == two && two == three);
        let find = |bytes| val.find_copies(&train, &BTreeSet::new(), Limits { images: 9, bytes });
        let found = find(1 << 20).unwrap();
        let example = ("y.ppm".to_owned(), "b.ppm".to_owned());
        assert_eq!(found, Copies { images: 2, compared: 3, more: false, example: example.clone() });
        // Six probes, and bytes for the three images and their first two peers.
        let found = find(5 * length as u64).unwrap();
        assert_eq!(found, Copies { images: 1, compared: 3, more: true, example });
    }
}
