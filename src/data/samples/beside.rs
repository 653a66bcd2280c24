//! What lies beside the images of a folder: a `.txt` of the same name with the caption, `metadata.jsonl` or `metadata.csv`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::labels::{Labels, Raw, Survey, caption, text_of};
use super::metadata::{Line, Metadata, NAMES, Span};
use super::{DataError, Sample, Selection};
use crate::data::ImageFolder;
use crate::data::folder::walk;

/// What is known of the images of a folder.
#[derive(Debug)]
pub(super) struct Beside {
    metadata: Vec<Metadata>,
    /// By the numbers of the images; empty where nothing lies beside any.
    known: Vec<Known>,
    label: String,
    text: Vec<String>,
    /// Of the labels in metadata, if it has any.
    pub(super) labels: Option<Labels>,
}

/// Of one image.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The metadata's number and the place of the line.
    line: Option<(u32, Span)>,
    /// The ending of the file with its caption, in its own case.
    text: Option<[u8; 3]>,
}

/// Things of a kind, counted, with one of them.
#[derive(Default)]
struct Counted {
    count: u64,
    example: Option<String>,
}

impl Counted {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        self.example.get_or_insert_with(example);
    }

    /// `{what}: {count}, as {example}`, if there are any.
    fn note(&self, what: &str, notes: &mut Vec<String>) {
        if let Some(example) = &self.example {
            notes.push(format!("{what}: {}, as {example}", self.count));
        }
    }
}

impl Beside {
    /// Looks through the folder `root` of these images.
    pub(super) fn of(
        root: &Path,
        images: &ImageFolder,
        selection: &Selection,
        notes: &mut Vec<String>,
    ) -> Result<Beside, DataError> {
        let (metadata, mut texts) = companions(root);
        let usual = || vec!["text".to_owned(), "caption".to_owned()];
        let mut beside = Beside {
            metadata: vec![],
            known: vec![],
            label: selection.label.clone().unwrap_or_else(|| "label".to_owned()),
            text: selection.text.clone().map_or_else(usual, |name| vec![name]),
            labels: None,
        };
        if metadata.is_empty() && texts.is_empty() {
            return beside.asked_for(selection, false, false).map(|()| beside);
        }
        beside.known = vec![Known::default(); images.len()];
        for (index, known) in beside.known.iter_mut().enumerate() {
            known.text = texts.remove(&images.path(index).with_extension(""));
        }
        let mut captions = Captions::default();
        let survey = beside.read(root, &metadata, images, &mut captions, notes)?;
        beside.asked_for(selection, survey.is_some(), captions.any())?;
        if let Some(survey) = survey {
            let what = format!("the field {} of the metadata", beside.label);
            let asked = selection.label.is_some();
            let labels = survey.settle(&what, None, selection.classes.as_ref(), asked, notes)?;
            if !images.labels().is_empty() {
                notes.push("labels come from the metadata; the class folders are not taken".to_owned());
            }
            beside.labels = Some(labels);
        }
        captions.count(&beside.known, images, notes);
        let mut alone = Counted::default();
        let mut rest: Vec<&PathBuf> = texts.keys().collect();
        rest.sort();
        rest.iter().for_each(|path| {
            alone.add(|| format!("{}.txt", path.strip_prefix(root).unwrap_or(path).display()))
        });
        alone.note(".txt files that belong to no image and are not taken", notes);
        if beside.metadata.is_empty() && beside.known.iter().all(|known| known.text.is_none()) {
            beside.known.clear();
        }
        Ok(beside)
    }

    /// Reads the metadata; the labels in them, if there are any.
    fn read(
        &mut self,
        root: &Path,
        files: &[PathBuf],
        images: &ImageFolder,
        captions: &mut Captions,
        notes: &mut Vec<String>,
    ) -> Result<Option<Survey>, DataError> {
        let (mut survey, mut labelled) = (Survey::default(), 0);
        let mut missing = Counted::default();
        captions.in_metadata = vec![false; images.len()];
        for path in files {
            let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
            let folder = path.parent().unwrap_or(root);
            let (mut nowhere, mut again, mut nameless, mut named) =
                (Counted::default(), Counted::default(), Counted::default(), 0_u64);
            let number = self.metadata.len() as u32;
            let Beside { known, label, text, .. } = self;
            let metadata = Metadata::read(path, |line: Line| {
                let Some(file) = &line.file_name else {
                    return nameless.add(|| format!("line {}", line.number));
                };
                named += 1;
                let Some(index) = images.find(&folder.join(file)) else {
                    return nowhere.add(|| file.clone());
                };
                if known[index].line.is_some() {
                    return again.add(|| file.clone());
                }
                known[index].line = Some((number, line.span));
                let value = line.fields.get(label.as_str()).and_then(Raw::of_json);
                labelled += u64::from(value.is_some());
                survey.add(value.as_ref(), || format!("line {} of {name}", line.number));
                captions
                    .see(index, text_in(&line.fields, text), || format!("line {} of {name}", line.number));
            })?;
            if named == 0 {
                notes.push(format!(
                    "{name} is not taken: no line has a field file_name that names a file below it"
                ));
                continue;
            }
            self.metadata.push(metadata);
            nameless.note(&format!("lines of {name} that name no file below it, not taken"), notes);
            nowhere.note(&format!("lines of {name} that name no image there is"), notes);
            again.note(&format!("lines of {name} that name an image again, not taken"), notes);
        }
        if !self.metadata.is_empty() {
            for (index, _) in self.known.iter().enumerate().filter(|(_, known)| known.line.is_none()) {
                missing.add(|| images.name(index).into_owned());
                survey.add(None, String::new);
            }
            missing.note("images in no metadata", notes);
        }
        Ok((labelled > 0).then_some(survey))
    }

    fn asked_for(&self, selection: &Selection, labels: bool, texts: bool) -> Result<(), DataError> {
        for (flag, asked, there) in
            [("--label-column", &selection.label, labels), ("--text-column", &selection.text, texts)]
        {
            if let (Some(name), false) = (asked, there) {
                return Err(DataError::Unclear(format!(
                    "{flag} {name}: no metadata.jsonl or metadata.csv in the folder says it of an image"
                )));
            }
        }
        Ok(())
    }

    /// Puts what is known of image `index`, which lies at `path`, into its sample.
    pub(super) fn tell(&self, index: usize, path: &Path, sample: &mut Sample) -> Result<(), String> {
        let Some(known) = self.known.get(index) else { return Ok(()) };
        if let Some((number, span)) = known.line {
            let mut fields = self.metadata[number as usize].fields(span)?;
            if let Some(labels) = &self.labels {
                sample.label = labels.number(fields.get(&self.label).and_then(Raw::of_json).as_ref());
                if sample.label.is_some() {
                    fields.remove(&self.label);
                }
            }
            if let Some(name) = text_in(&fields, &self.text) {
                sample.text = name.1;
                if sample.text.is_some() {
                    fields.remove(&name.0.to_owned());
                }
            }
            sample.json = (!fields.is_empty()).then_some(fields);
        }
        if let (None, Some(ending)) = (&sample.text, known.text) {
            let file = path.with_extension(OsStr::from_bytes(&ending));
            let bytes = fs::read(&file).map_err(|error| format!("cannot read its text: {error}"))?;
            sample.text = Some(caption(bytes)?);
        }
        Ok(())
    }

    /// A hash of what is beside the images, to be part of the folder's; none where there is nothing.
    pub(super) fn fingerprint(&self) -> Option<blake3::Hash> {
        if self.known.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for metadata in &self.metadata {
            hasher.update(metadata.blake3.as_bytes());
        }
        for known in &self.known {
            hasher.update(&[u8::from(known.text.is_some())]);
        }
        Some(hasher.finalize())
    }
}

/// The first of the fields `names` that is there, with its text, if it is one.
fn text_in<'a>(fields: &Map<String, Value>, names: &'a [String]) -> Option<(&'a str, Option<String>)> {
    let name = names.iter().find(|&name| fields.get(name).is_some_and(|value| !value.is_null()))?;
    Some((name, text_of(fields.get(name)?)))
}

/// What captions there are.
#[derive(Default)]
struct Captions {
    in_metadata: Vec<bool>,
    /// Texts in metadata that are no strings.
    odd: Counted,
}

impl Captions {
    fn see(&mut self, index: usize, text: Option<(&str, Option<String>)>, place: impl FnOnce() -> String) {
        match text {
            Some((_, Some(_))) => self.in_metadata[index] = true,
            Some((_, None)) => self.odd.add(place),
            None => {}
        }
    }

    fn any(&self) -> bool {
        self.odd.count > 0 || self.in_metadata.contains(&true)
    }

    fn count(&self, known: &[Known], images: &ImageFolder, notes: &mut Vec<String>) {
        let (mut with, mut without, mut twice) = (0_u64, Counted::default(), Counted::default());
        for (index, (known, &in_metadata)) in known.iter().zip(&self.in_metadata).enumerate() {
            let name = || images.name(index).into_owned();
            if known.text.is_some() && in_metadata {
                twice.add(name);
            }
            if known.text.is_some() || in_metadata {
                with += 1;
            } else {
                without.add(name);
            }
        }
        self.odd.note("texts in metadata that are no strings and stay in json", notes);
        twice.note(".txt files that are not taken, since metadata has the text of their images", notes);
        if with > 0 {
            notes.push(format!("captions: {with} of {} images have one", known.len()));
            without.note("images without a caption", notes);
        }
    }
}

/// The metadata below `root`, those in deeper folders first, and the texts: the endings by the paths without them.
fn companions(root: &Path) -> (Vec<PathBuf>, HashMap<PathBuf, [u8; 3]>) {
    let (mut metadata, mut texts) = (vec![], HashMap::new());
    // What cannot be read has stopped the listing of images.
    for entry in walk(root).filter_map(Result::ok) {
        if !entry.file_type().is_file() {
            continue;
        }
        if NAMES.iter().any(|name| entry.file_name() == *name) {
            metadata.push(entry.into_path());
        } else if let Some(ending) =
            entry.path().extension().filter(|ending| ending.eq_ignore_ascii_case("txt"))
        {
            let mut own = [0; 3];
            own.copy_from_slice(ending.as_bytes());
            texts.insert(entry.path().with_extension(""), own);
        }
    }
    metadata.sort_by_key(|path| (std::cmp::Reverse(path.components().count()), path.clone()));
    (metadata, texts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{all, folder};
    use super::*;
    use crate::data::SampleSet;

    /// A folder of these images with nothing in them, and these other files.
    fn images(images: &[&str], files: &[(&str, &[u8])]) -> (tempfile::TempDir, SampleSet) {
        let root = folder(images);
        for (name, content) in files {
            fs::write(root.path().join(name), content).unwrap();
        }
        let set = SampleSet::open(root.path()).unwrap();
        (root, set)
    }

    fn texts(set: &SampleSet) -> Vec<Option<String>> {
        all(set).into_iter().map(|sample| sample.text).collect()
    }

    #[test]
    fn metadata_is_taken_with_its_commas_quotes_and_marks() {
        let csv = "\u{feff}file_name,text,label,extra\r\na/1.jpg,\"one, \"\"two\"\"\nlines\",dog,5\r\n2.jpg,x,cat,\r\n";
        let jsonl = "\u{feff}{\"file_name\": \"a/1.jpg\", \"text\": \"one, \\\"two\\\"\\nlines\", \"label\": \"dog\", \"extra\": \"5\"}\n\n\
                     {\"file_name\": \"./2.jpg\", \"caption\": \"x\", \"label\": \"cat\"}";
        for (name, content) in [("metadata.csv", csv), ("metadata.jsonl", jsonl)] {
            let (root, set) = images(&["a/1.jpg", "2.jpg"], &[(name, content.as_bytes())]);
            let samples = all(&set);
            let found: Vec<_> = samples.iter().map(|sample| (sample.label, sample.text.as_deref())).collect();
            assert_eq!(found, [(Some(0), Some("x")), (Some(1), Some("one, \"two\"\nlines"))], "{name}");
            assert_eq!(samples[1].json, json!({"extra": "5"}).as_object().cloned());
            assert_eq!(set.classes(), ["cat", "dog"]);
            let before = set.fingerprint();
            fs::write(root.path().join(name), content.replace("lines", "words")).unwrap();
            assert_ne!(SampleSet::open(root.path()).unwrap().fingerprint(), before);
        }
    }

    #[test]
    fn what_names_nothing_and_what_is_left_out_is_counted() {
        let jsonl = b"{\"file_name\": \"1.jpg\", \"text\": \"t\"}\n{\"file_name\": \"gone.jpg\"}\n{\"file_name\": \"../x.jpg\"}\n\
                      {\"file_name\": \"1.jpg\", \"text\": \"again\"}\n";
        let files: [(&str, &[u8]); 5] = [
            ("metadata.jsonl", jsonl),
            ("1.txt", b"beside"),
            ("2.TXT", "\u{feff}two\r\n".as_bytes()),
            ("3.txt", b"\xff"),
            ("notes.txt", b""),
        ];
        let (_root, set) = images(&["1.jpg", "2.jpg", "3.jpg", "4.jpg"], &files);
        assert_eq!(texts(&set), [Some("t".into()), Some("two".into()), None, None]);
        assert!(all(&set)[2].image.as_ref().unwrap_err().contains("not UTF-8"));
        let notes = set.notes().join("\n");
        for part in [
            "name no file below it, not taken: 1, as line 3",
            "that name no image there is: 1, as gone.jpg",
            "name an image again, not taken: 1, as 1.jpg",
            "images in no metadata: 3, as 2.jpg",
            "since metadata has the text of their images: 1, as 1.jpg",
            "captions: 3 of 4 images have one",
            "images without a caption: 1, as 4.jpg",
            "belong to no image and are not taken: 1, as notes.txt",
        ] {
            assert!(notes.contains(part), "{part} is missing: {notes}");
        }
    }

    #[test]
    fn metadata_of_something_else_is_left_and_said() {
        let (_root, set) = images(&["1.jpg"], &[("metadata.csv", b"id;age\n1;2\n")]);
        assert_eq!((texts(&set), set.notes().len()), (vec![None], 1));
        assert!(set.notes()[0].starts_with("metadata.csv is not taken: "), "{:?}", set.notes());
        for (name, content, part) in [
            ("metadata.jsonl", "{\"file_name\": \"1.jpg\"}\nno\n", "metadata.jsonl, line 2: no JSON object"),
            (
                "metadata.csv",
                "file_name,text\n1.jpg,a,b\n",
                "metadata.csv, line 2: 3 cells where the first line has 2",
            ),
        ] {
            let root = folder(&["1.jpg"]);
            fs::write(root.path().join(name), content).unwrap();
            let message = SampleSet::open(root.path()).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_metadata_of_a_deeper_folder_comes_first_and_fields_are_chosen() {
        let files: [(&str, &[u8]); 2] = [
            ("metadata.csv", b"file_name,words,kind\na/1.jpg,far,7\n2.jpg,top,8.0\n"),
            ("a/metadata.csv", b"file_name,words,kind\n1.jpg,near,9\n"),
        ];
        let (root, _) = images(&["a/1.jpg", "2.jpg"], &files);
        let name = |name: &str| Some(name.to_owned());
        let select = |selection| SampleSet::select(root.path(), &selection);
        let chosen = Selection { text: name("words"), label: name("kind"), ..Selection::default() };
        let set = select(chosen).unwrap();
        let found: Vec<_> = all(&set).into_iter().map(|sample| (sample.label, sample.text)).collect();
        assert_eq!(found, [(Some(8), name("top")), (Some(9), name("near"))]);
        for selection in [
            Selection { text: name("gone"), ..Selection::default() },
            Selection { label: name("gone"), ..Selection::default() },
        ] {
            let message = select(selection).unwrap_err().to_string();
            assert!(message.contains("-column gone: no metadata"), "{message}");
        }
    }
}
