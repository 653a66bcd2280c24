//! A folder of images in sorted order, with the first-level folders as classes. Files beside the
//! images are used too: see `beside`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::beside::Beside;
use super::labels::{Labels, Raw};
use super::{Altered, DataError, Encoded, Input, Sample, SampleStream, Selection, key, keys_of};
use crate::data::{Fingerprint, ImageFolder, Split};

/// An image folder.
#[derive(Debug)]
pub(super) struct Folder {
    dataset: Arc<ImageFolder>,
    beside: Arc<Beside>,
    /// The labels: from the class folders, unless files beside the images have labels.
    labels: Labels,
    notes: Vec<String>,
}

impl Folder {
    pub(super) fn open(path: &Path, selection: &Selection) -> Result<Folder, DataError> {
        let dataset = ImageFolder::open(path, Split::All)?;
        check_keys(path, &dataset)?;
        let mut notes = dataset.notes().to_vec();
        let beside = Beside::of(path, &dataset, selection, &mut notes)?;
        let labels = match &beside.labels {
            Some(labels) => labels.clone(),
            None => {
                if selection.classes.is_none() {
                    notes.extend(numbered_otherwise(dataset.labels()));
                }
                Labels::of_folders(dataset.labels(), selection.classes.as_ref())?
            }
        };
        Ok(Folder { dataset: Arc::new(dataset), beside: Arc::new(beside), labels, notes })
    }
}

/// A note if the names of all class folders are numbers that differ from their labels.
fn numbered_otherwise(folders: &[String]) -> Option<String> {
    let numbers: Option<Vec<usize>> = folders.iter().map(|name| name.parse().ok()).collect();
    let (label, _) = numbers?.into_iter().enumerate().find(|(label, number)| label != number)?;
    Some(format!(
        "class folders are numbered in sorted order, not by the numbers in their names: folder {} is label {label}; \
         --classes FILE sets another order",
        folders[label]
    ))
}

impl Input for Folder {
    fn kind(&self) -> &'static str {
        "folder"
    }

    fn classes(&self) -> &[String] {
        self.labels.classes()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn len(&self) -> Option<u64> {
        Some(self.dataset.len() as u64)
    }

    fn fingerprint(&self) -> String {
        let own = self.dataset.fingerprint();
        match self.beside.fingerprint() {
            Some(beside) => blake3::hash(format!("{own}{beside}").as_bytes()).to_hex().to_string(),
            None => own,
        }
    }

    fn sizes(&self) -> Result<Option<String>, DataError> {
        let meta = |index| fs::metadata(self.dataset.path(index)).ok();
        Ok(Fingerprint::new(String::new(), self.dataset.len(), meta).sizes())
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        let (dataset, beside) = (Arc::clone(&self.dataset), Arc::clone(&self.beside));
        Ok(Box::new(Stream { dataset, beside, labels: self.labels.clone(), next: 0 }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError> {
        keys_of(self.stream()?, self.dataset.root(), each)
    }
}

struct Stream {
    dataset: Arc<ImageFolder>,
    beside: Arc<Beside>,
    labels: Labels,
    next: usize,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        while self.next < self.dataset.len() {
            let index = self.next;
            self.next += 1;
            let image = self.dataset.path(index);
            let key = match key_of(&self.dataset, index) {
                Ok(key) => key,
                // `open` has checked all keys.
                Err(reason) => return Err(unsafe_key(&image, &self.dataset.name(index), reason)),
            };
            if wanted(&key) {
                let class = self.dataset.label(index).map(|at| Raw::Word(self.dataset.labels()[at].clone()));
                let label = self.labels.number(class.as_ref());
                let named = self.dataset.is_utf8(index);
                let found =
                    if named { Ok(Encoded::File(image.clone())) } else { Err(key::NOT_UTF8.to_owned()) };
                let altered = Altered::default();
                let mut sample =
                    Sample { key, image: found, label, text: None, json: None, altered, tried: None };
                if let Err(reason) = self.beside.tell(index, &image, &mut sample) {
                    sample.image = Err(reason);
                }
                return Ok(Some(sample));
            }
        }
        Ok(None)
    }
}

/// The key of an image. A name that is not UTF-8 cannot be a key; it is returned as it is, for
/// messages.
fn key_of(dataset: &ImageFolder, index: usize) -> Result<String, &'static str> {
    let name = dataset.name(index);
    if dataset.is_utf8(index) { key::key(key::without_extension(&name)) } else { Ok(name.into_owned()) }
}

fn unsafe_key(path: &Path, name: &str, reason: &str) -> DataError {
    key::refusal(path, "the name of an image".to_owned(), name, reason)
}

/// Checks all keys, so that images with the same key are noticed before the work starts: `a.jpg`
/// beside `a.png`, `b.c.jpg` beside `b_c.jpg`.
fn check_keys(path: &Path, dataset: &ImageFolder) -> Result<(), DataError> {
    // A data set has at most 2^32 images.
    let mut digests: Vec<(u128, u32)> = Vec::with_capacity(dataset.len());
    for index in 0..dataset.len() {
        let key = key_of(dataset, index)
            .map_err(|reason| unsafe_key(&dataset.path(index), &dataset.name(index), reason))?;
        digests.push((key::digest(&key), index as u32));
    }
    digests.sort_unstable();
    match digests.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let [first, second] = [pair[0].1, pair[1].1].map(|index| dataset.name(index as usize));
            let key = key_of(dataset, pair[0].1 as usize).unwrap_or_default();
            let reason = format!("{first} and {second} would both be {key}; rename or move one of them");
            Err(DataError::KeysClash { path: path.to_owned(), reason })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{all, folder, keys};
    use super::*;
    use crate::data::SampleSet;

    #[test]
    fn images_come_sorted_with_their_classes() {
        let root = folder(&["b/x.1.PNG", "a.b/y.jpg", "top.webp", "b/notes.txt", ".hidden.png"]);
        let set = SampleSet::open(root.path()).unwrap();
        assert_eq!((set.kind(), set.len()), ("folder", Some(3)));
        assert_eq!(set.classes(), ["a.b", "b"]);
        let samples = all(&set);
        let found: Vec<_> = samples.iter().map(|sample| (sample.key.as_str(), sample.label)).collect();
        assert_eq!(found, [("a.b/y", Some(0)), ("b/x_1", Some(1)), ("top", None)]);
        assert_eq!(samples[1].image, Ok(Encoded::File(root.path().join("b/x.1.PNG"))));
        assert!(samples.iter().all(|sample| sample.text.is_none() && sample.json.is_none()));
    }

    #[test]
    fn classes_count_as_a_list_says() {
        let root = folder(&["b/x.png", "10/y.png", "top.png"]);
        let list = root.path().join("classes.list");
        let select = |names: &str| {
            fs::write(&list, names).unwrap();
            let classes = Some(crate::data::Classes::read(&list).unwrap());
            SampleSet::select(root.path(), &Selection { classes, ..Selection::default() })
        };
        let set = select("b\na\n10\n").unwrap();
        assert_eq!(all(&set).iter().map(|sample| sample.label).collect::<Vec<_>>(), [Some(2), Some(0), None]);
        assert_eq!(set.classes(), ["b", "a", "10"]);
        assert!(
            select("b\n").unwrap_err().to_string().contains("the folder \"10\" is not one of the 1 classes")
        );
        // Without a list, class folders are names in sorted order, even if they spell numbers.
        let set = SampleSet::open(root.path()).unwrap();
        assert_eq!(all(&set).iter().map(|sample| sample.label).collect::<Vec<_>>(), [Some(0), Some(1), None]);
    }

    #[test]
    fn numbers_that_are_not_the_labels_are_told() {
        let noted = |folders: &[&str]| {
            numbered_otherwise(&folders.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        assert!(noted(&["0", "1", "10", "2"]).unwrap().contains("folder 10 is label 2"));
        assert!(noted(&["1", "2"]).unwrap().contains("folder 1 is label 0"));
        assert!(
            [&["0", "1"][..], &["00", "01"], &["0", "10", "b"], &[]].iter().all(|it| noted(it).is_none())
        );
    }

    #[test]
    fn splits_that_pass_for_classes_are_told() {
        let set = SampleSet::open(folder(&["train/cat/a.png", "val/b.png"]).path()).unwrap();
        assert!(set.notes()[0].contains("named like splits (train, val)"), "{:?}", set.notes());
        let set = SampleSet::open(folder(&["test/a.png", "cat/b.png"]).path()).unwrap();
        assert_eq!(set.notes().len(), 0);
    }

    #[test]
    fn names_alone_are_the_fingerprint() {
        let root = folder(&["a.png", "b.png"]);
        let before = SampleSet::open(root.path()).unwrap().fingerprint();
        fs::write(root.path().join("a.png"), b"longer").unwrap();
        assert_eq!(SampleSet::open(root.path()).unwrap().fingerprint(), before);
        fs::write(root.path().join("c.png"), b"").unwrap();
        assert_ne!(SampleSet::open(root.path()).unwrap().fingerprint(), before);
    }

    #[test]
    fn sizes_are_known_beside_the_names() {
        let root = folder(&["a.png", "b.png"]);
        let list = root.path().join("list.jsonl");
        fs::write(&list, "{\"path\": \"a.png\"}\n{\"path\": \"b.png\"}\n").unwrap();
        let sizes = |path: &Path| SampleSet::open(path).unwrap().sizes().unwrap().unwrap();
        let before = [sizes(root.path()), sizes(&list)];
        assert_eq!(before[0], before[1]);
        fs::write(root.path().join("b.png"), b"longer").unwrap();
        assert_ne!(sizes(root.path()), before[0]);
        assert_ne!(sizes(&list), before[1]);
    }

    #[test]
    fn two_images_of_a_key_are_refused_at_once() {
        for names in [["c/a.jpg", "c/a.png"], ["a.b.jpg", "a_b.jpg"]] {
            let mut files = names.to_vec();
            files.extend(["a-b.jpg", "c/a-b.jpg", "z.jpg"]);
            let message = SampleSet::open(folder(&files).path()).unwrap_err().to_string();
            for name in names {
                assert!(message.contains(name), "{message}");
            }
            assert!(message.starts_with("keys clash in "), "{message}");
        }
    }

    #[test]
    fn a_backslash_in_a_name_is_refused() {
        let message = SampleSet::open(folder(&["a\\b.jpg"]).path()).unwrap_err().to_string();
        assert!(message.contains("since it has a backslash"), "{message}");
    }

    #[test]
    fn refused_images_are_asked_for_once_and_left_out() {
        let root = folder(&["a.png", "b.png", "c.png"]);
        let set = SampleSet::open(root.path()).unwrap();
        let (asked, got) = keys(&set, |key| key != "b");
        assert_eq!((asked, got), (vec!["a".into(), "b".into(), "c".into()], vec!["a".into(), "c".into()]));
    }
}
