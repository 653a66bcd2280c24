//! Finds images that two data sets have in common, whatever their names: the same files, or copies.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{Copies, Dataset};

/// The images of a data set that also belong to another set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Images that are in the other set themselves: in the same file at the same place.
    pub shared: Option<Shared>,
    /// Other images that are byte copies of images in it.
    pub copies: Option<Copies>,
}

/// Images that two data sets have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The number of images.
    pub images: usize,
    /// The name of the first image.
    pub example: String,
}

impl Dataset {
    /// The images that `other` has too, among those that an evaluation of at most `max_images`
    /// uses. First real paths are compared, so a link counts as its target; within an archive, the
    /// places of the images are compared. Then, for two folders, files of the same size are
    /// compared by the hashes of their contents, up to 1,000 images and 1 GiB. So there may be more
    /// copies than are found.
    #[must_use]
    pub fn overlap(&self, other: &Dataset, max_images: Option<usize>) -> Overlap {
        let evaluated: BTreeSet<usize> = self.evaluated(max_images).collect();
        let images = self.shared_images(other);
        let shared: Vec<usize> = images.intersection(&evaluated).copied().collect();
        let known = images.into_iter().chain((0..self.len()).filter(|image| !evaluated.contains(image)));
        let copies = self.copies_of(other, &known.collect());
        let shared = shared
            .first()
            .map(|&first| Shared { images: shared.len(), example: self.name(first).into_owned() });
        Overlap { shared, copies }
    }

    /// The images that `other` has too.
    fn shared_images(&self, other: &Dataset) -> BTreeSet<usize> {
        let mut places = Places::default();
        // Several links may lead to one file.
        let mut own: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for file in 0..self.files() {
            if let Some(real) = places.real(self, file) {
                own.entry(real).or_default().push(file);
            }
        }
        let mut shared = BTreeSet::new();
        for theirs in 0..other.files() {
            let Some(ours) = places.real(other, theirs).and_then(|real| own.get(&real)) else { continue };
            let within: HashSet<u64> =
                other.images_of(theirs).filter_map(|image| other.place_in_file(image)).collect();
            let has = |image: &usize| self.place_in_file(*image).is_some_and(|place| within.contains(&place));
            shared.extend(ours.iter().flat_map(|&file| self.images_of(file)).filter(has));
        }
        shared
    }
}

/// The real paths of the folders that hold the files.
#[derive(Default)]
struct Places(HashMap<PathBuf, Option<PathBuf>>);

impl Places {
    /// The real path of a file of `set`; `None` for a broken link. Only links and folders need a
    /// system call, not each file.
    fn real(&mut self, set: &Dataset, file: usize) -> Option<PathBuf> {
        let path = set.file(file);
        if set.may_be_link(file) {
            return path.canonicalize().ok();
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name()?;
        if let Some(real) = self.0.get(folder) {
            return Some(real.as_ref()?.join(name));
        }
        let real = folder.canonicalize().ok();
        self.0.insert(folder.to_owned(), real.clone());
        Some(real?.join(name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::data::Split;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Each file has different content.
            fs::write(path, file).unwrap();
        }
        root
    }

    fn overlap(val: &Path, train: &Path) -> Option<(usize, String)> {
        let open = |path: &Path| Dataset::open(path, Split::All).unwrap();
        let Overlap { shared, copies } = open(val).overlap(&open(train), None);
        assert_eq!(copies, None);
        shared.map(|found| (found.images, found.example))
    }

    #[test]
    fn files_are_compared_by_where_they_really_lie() {
        let root =
            folder(&["train/a.png", "train/val/b.png", "train/val/c.png", "other/b.png", "other/c.png"]);
        let at = |name: &str| root.path().join(name);
        assert_eq!(overlap(&at("train/val"), &at("train")), Some((2, "b.png".into())));
        assert_eq!(overlap(&at("train"), &at("train")), Some((3, "a.png".into())));
        assert_eq!(overlap(&at("train"), &at("train/val")), Some((2, "val/b.png".into())));
        assert_eq!(overlap(&at("other"), &at("train")), None, "names alone are nothing");
        // A folder that is a link, a link to the folder, and a link to a file.
        symlink(at("other"), at("train/more")).unwrap();
        symlink(at("train"), at("again")).unwrap();
        assert_eq!(overlap(&at("other"), &at("again")), Some((2, "b.png".into())));
        fs::create_dir(at("farm")).unwrap();
        symlink(at("train/a.png"), at("farm/z.png")).unwrap();
        symlink(at("gone.png"), at("farm/y.png")).unwrap();
        assert_eq!(overlap(&at("farm"), &at("train")), Some((1, "z.png".into())));
        symlink(at("train/a.png"), at("farm/x.png")).unwrap();
        assert_eq!(overlap(&at("farm"), &at("train")), Some((2, "x.png".into())), "two links to one file");
    }

    #[test]
    fn only_images_that_are_evaluated_count() {
        let root = folder(&["train/a.png", "val/b.png", "val/c.png", "val/d.png", "val/e.png"]);
        let at = |name: &str| root.path().join(name);
        symlink(at("train/a.png"), at("val/y.png")).unwrap();
        fs::copy(at("train/a.png"), at("val/z.png")).unwrap();
        let open = |name: &str| Dataset::open(&at(name), Split::All).unwrap();
        let found = |max_images| {
            let Overlap { shared, copies } = open("val").overlap(&open("train"), max_images);
            (shared.map(|shared| shared.example), copies.is_some())
        };
        assert_eq!(found(None), (Some("y.png".into()), true));
        assert_eq!(open("val").evaluated(Some(1)).collect::<Vec<_>>(), [0]);
        assert_eq!(found(Some(1)), (None, false));
    }

    #[test]
    fn a_link_across_the_parts_of_a_split_is_found() {
        let names: Vec<String> = (0..40).map(|n| format!("{n}.png")).collect();
        let root = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let open = |split| Dataset::open(root.path(), split).unwrap();
        let (train, val) = (open(Split::Train { val_share: 0.3 }), open(Split::Val { val_share: 0.3 }));
        assert_eq!(val.overlap(&train, None), Overlap { shared: None, copies: None });
        let (trained, validated) = (train.file(0), val.file(0));
        fs::remove_file(&validated).unwrap();
        symlink(trained, &validated).unwrap();
        let val = open(Split::Val { val_share: 0.3 });
        assert_eq!(val.overlap(&train, None).shared.map(|shared| shared.images), Some(1));
    }

    #[test]
    fn images_of_archives_are_compared_by_their_places() {
        let root = tempfile::tempdir().unwrap();
        for (name, count) in [("a.tar", 30), ("b.tar", 2)] {
            let mut tar = tar::Builder::new(fs::File::create(root.path().join(name)).unwrap());
            for image in 0..count {
                let mut header = tar::Header::new_gnu();
                header.set_size(1);
                header.set_cksum();
                tar.append_data(&mut header, format!("{image}.png"), &b"x"[..]).unwrap();
            }
            tar.finish().unwrap();
        }
        let both = root.path();
        assert_eq!(overlap(&both.join("b.tar"), both), Some((2, "b.tar/0.png".into())));
        assert_eq!(overlap(&both.join("b.tar"), &both.join("a.tar")), None);
        // The parts of a split have the same files but no image in common.
        let open = |split| Dataset::open(both, split).unwrap();
        let (train, val) = (open(Split::Train { val_share: 0.3 }), open(Split::Val { val_share: 0.3 }));
        assert_eq!(val.overlap(&train, None).shared, None);
        let shared = open(Split::All).overlap(&val, None).shared.unwrap();
        assert_eq!((shared.images, shared.example), (val.len(), val.name(0).into_owned()));
    }
}
