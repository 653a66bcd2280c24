//! Files beside the images of a folder: a `.txt`, `.text` or `.caption` with the same name holds
//! the caption, a `.json` with the same name other fields; and `metadata.jsonl` or `metadata.csv`.

mod companions;
mod texts;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use self::companions::{Companions, Kind, Spellings};
use super::captions::{self, Told, has_words};
use super::labels::{Labels, Raw, Survey};
use super::metadata::lines::{Object, Span};
use super::metadata::{Line, Metadata};
use super::{DataError, Sample, Selection};
use crate::data::ImageFolder;
use crate::data::omitted::Tally;
use pixtok_base::Carried;

/// The metadata of the images in a folder.
#[derive(Debug)]
pub(super) struct Beside {
    metadata: Vec<Metadata>,
    /// The metadata file that was read most recently, opened, and its index in `metadata`.
    open: Mutex<Option<(u32, File)>>,
    /// Indexed by image; empty if there are no files beside any image.
    known: Vec<Known>,
    /// Paths of files whose path is not simply the image's path with the usual ending.
    elsewhere: HashMap<(usize, Kind), PathBuf>,
    label: String,
    /// The fields that give captions.
    text: Vec<String>,
    /// The text files that give captions, in order of precedence.
    texts: Vec<Kind>,
    /// The labels in the metadata, if they are taken.
    pub(super) labels: Option<Labels>,
}

/// What is known about one image.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The index of a metadata file, and the position of the image's line in it.
    line: Option<(u32, Span)>,
    /// Whether the image has a file of each kind.
    has: [bool; 4],
}

impl Known {
    fn has(&self, kind: Kind) -> bool {
        self.has[kind as usize]
    }

    /// Whether the fields are taken from the `.json`: metadata takes precedence.
    fn is_of_json(&self) -> bool {
        self.has(Kind::Json) && self.line.is_none()
    }

    /// How many files of these kinds it has.
    fn count(&self, kinds: &[Kind]) -> usize {
        kinds.iter().filter(|kind| self.has(**kind)).count()
    }
}

/// Adds a note with the number of `what` and an example, if there are any.
fn note(tally: &Tally, what: &str, notes: &mut Vec<String>) {
    notes.extend(tally.said(|count, example| format!("{what}: {count}, for instance {example}")));
}

impl Beside {
    /// Examines the folder `root`, which holds these images.
    pub(super) fn of(
        root: &Path,
        images: &ImageFolder,
        selection: &Selection,
        notes: &mut Vec<String>,
    ) -> Result<Beside, DataError> {
        let Companions { metadata, files, tables, respelt } = Companions::below(root);
        note(&tables, "tables that are not used, since only metadata.jsonl and metadata.csv are read", notes);
        note(&respelt, "files that differ from another only in the case of their ending, not used", notes);
        let usual = || captions::NAMES.map(str::to_owned).to_vec();
        let mut beside = Beside {
            metadata: vec![],
            open: Mutex::default(),
            known: vec![],
            elsewhere: HashMap::new(),
            label: selection.label.clone().unwrap_or_else(|| "label".to_owned()),
            text: selection.text.clone().map_or_else(usual, |name| vec![name]),
            texts: Kind::TEXTS.to_vec(),
            labels: None,
        };
        let mut captions = Captions::default();
        if metadata.is_empty() && files.iter().all(HashMap::is_empty) {
            return beside.asked_for(selection, images, false, &captions).map(|()| beside);
        }
        beside.known = vec![Known::default(); images.len()];
        let spellings = Spellings::of(images);
        for (kind, files) in Kind::ALL.into_iter().zip(files).filter(|(_, files)| !files.is_empty()) {
            beside.assign(kind, files, root, images, &spellings, notes)?;
        }
        let survey = beside.read(root, &metadata, images, &spellings, &mut captions, notes)?;
        beside.asked_for(selection, images, survey.is_some(), &captions)?;
        if let Some(survey) = survey {
            let what = format!("the field {} of the metadata", beside.label);
            let asked = selection.label.is_some();
            let labels = survey.settle(&what, None, selection.classes.as_ref(), asked, notes)?;
            match (labels.are_taken(), images.labels().is_empty()) {
                (true, false) => {
                    notes.push("labels come from the metadata; the class folders are not used".to_owned());
                }
                (false, false) => notes.push("labels come from the class folders".to_owned()),
                _ => {}
            }
            beside.labels = Some(labels).filter(Labels::are_taken);
        }
        captions.count(&beside, images, notes);
        beside.count_json(images, notes);
        if beside.metadata.is_empty() && beside.known.iter().all(|known| known.has == [false; 4]) {
            beside.known.clear();
        }
        Ok(beside)
    }

    /// Assigns the files of one kind to the images they belong to.
    fn assign(
        &mut self,
        kind: Kind,
        mut files: HashMap<PathBuf, OsString>,
        root: &Path,
        images: &ImageFolder,
        spellings: &Spellings,
        notes: &mut Vec<String>,
    ) -> Result<(), DataError> {
        let mut of_none = Tally::default();
        for index in 0..images.len() {
            let stem = images.path(index).with_extension("");
            if let Some(ending) = files.remove(&stem) {
                let file = images.path(index).with_extension(&ending);
                self.give(index, kind, file, ending != kind.ending());
            }
        }
        let mut rest: Vec<(PathBuf, OsString)> = files.into_iter().collect();
        rest.sort();
        for (stem, ending) in rest {
            let below = stem.strip_prefix(root).unwrap_or(&stem);
            let file = || {
                // `with_extension` would cut the name at its last dot.
                let mut name = stem.clone().into_os_string();
                name.push(".");
                name.push(&ending);
                PathBuf::from(name)
            };
            match spellings.image_beside(below)? {
                Some(index) if !self.known[index].has(kind) => self.give(index, kind, file(), true),
                Some(index) if self.elsewhere.contains_key(&(index, kind)) => {
                    let (file, image) = (file(), images.path(index));
                    return Err(DataError::Unclear(format!(
                        "{} is not the only .{} of {}: another is spelt like it; rename one",
                        file.display(),
                        kind.ending(),
                        image.display()
                    )));
                }
                _ => of_none.add(1, || {
                    let file = file();
                    file.strip_prefix(root).unwrap_or(&file).display().to_string()
                }),
            }
        }
        note(&of_none, &format!(".{} files that belong to no image and are not used", kind.ending()), notes);
        Ok(())
    }

    fn give(&mut self, index: usize, kind: Kind, file: PathBuf, elsewhere: bool) {
        self.known[index].has[kind as usize] = true;
        if elsewhere {
            self.elsewhere.insert((index, kind), file);
        }
    }

    /// Reads the metadata. Returns its labels, if it has any.
    fn read(
        &mut self,
        root: &Path,
        files: &[PathBuf],
        images: &ImageFolder,
        spellings: &Spellings,
        captions: &mut Captions,
        notes: &mut Vec<String>,
    ) -> Result<Option<Survey>, DataError> {
        let (mut survey, mut labelled) = (Survey::default(), 0);
        let mut missing = Tally::default();
        captions.in_metadata = vec![false; images.len()];
        let mut unclear = None;
        for path in files {
            let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
            let folder = path.parent().unwrap_or(root);
            let (mut nowhere, mut again, mut nameless, mut named) =
                (Tally::default(), Tally::default(), Tally::default(), 0_u64);
            let number = self.metadata.len() as u32;
            let Beside { known, label, text, .. } = self;
            let metadata = Metadata::read(path, |line: Line| {
                let Some(file) = &line.file_name else {
                    return nameless.add(1, || format!("line {}", line.number));
                };
                named += 1;
                let path = folder.join(file);
                let index = images.find(&path).map_or_else(
                    || spellings.image(path.strip_prefix(root).unwrap_or(&path)),
                    |index| Ok(Some(index)),
                );
                let index = match index {
                    Ok(Some(index)) => index,
                    Ok(None) => return nowhere.add(1, || file.clone()),
                    Err(error) => {
                        unclear.get_or_insert(error);
                        return;
                    }
                };
                if known[index].line.is_some() {
                    return again.add(1, || file.clone());
                }
                known[index].line = Some((number, line.span));
                let value = line.fields.get(label.as_str()).and_then(Raw::of_json);
                labelled += u64::from(value.is_some());
                survey.add(value.as_ref(), || format!("line {} of {name}", line.number));
                captions.see(index, &line.fields, text, || format!("line {} of {name}", line.number));
            })?;
            if let Some(error) = unclear.take() {
                return Err(error);
            }
            if named == 0 {
                notes.push(format!(
                    "{name} is not used: no line has a field file_name that names a file below it"
                ));
                continue;
            }
            self.metadata.push(metadata);
            note(&nameless, &format!("lines of {name} that name no file below it, not used"), notes);
            note(&nowhere, &format!("lines of {name} whose image does not exist"), notes);
            note(&again, &format!("lines of {name} that repeat an image, not used"), notes);
        }
        if !self.metadata.is_empty() {
            for (index, _) in self.known.iter().enumerate().filter(|(_, known)| known.line.is_none()) {
                missing.add(1, || images.name(index).into_owned());
                survey.add(None, String::new);
            }
            note(&missing, "images without a line in the metadata", notes);
        }
        Ok((labelled > 0).then_some(survey))
    }

    /// Counts the `.json` files whose image also has a line in the metadata.
    fn count_json(&self, images: &ImageFolder, notes: &mut Vec<String>) {
        let mut twice = Tally::default();
        for (index, known) in self.known.iter().enumerate() {
            if known.has(Kind::Json) && known.line.is_some() {
                twice.add(1, || images.name(index).into_owned());
            }
        }
        note(&twice, ".json files that are not used, since metadata has a line for their images", notes);
    }

    /// Chooses where captions are taken from if a `name` was asked for: from the field of this
    /// name, which no text file overrules, or if nothing has the field, from text files with this
    /// ending. Returns whether there are such captions.
    fn choose_texts(&mut self, name: &str, images: &ImageFolder, captions: &Captions) -> bool {
        self.texts.clear();
        if captions.in_metadata.contains(&true) || self.has_caption_in_json(images) {
            return true;
        }
        let there = |kind: &Kind| self.known.iter().any(|known| known.has(*kind));
        self.texts = Kind::of_text(name).filter(there).into_iter().collect();
        self.text.clear();
        !self.texts.is_empty()
    }

    fn asked_for(
        &mut self,
        selection: &Selection,
        images: &ImageFolder,
        labels: bool,
        captions: &Captions,
    ) -> Result<(), DataError> {
        let texts = selection.text.as_ref().is_some_and(|name| self.choose_texts(name, images, captions));
        for (flag, asked, there) in
            [("--label-column", &selection.label, labels), ("--text-column", &selection.text, texts)]
        {
            let (Some(name), false) = (asked, there) else { continue };
            let odd = captions
                .odd
                .said(|_, example| format!("none of its texts is a string, as on {example}; name another"));
            let reason = match odd {
                Some(odd) if flag == "--text-column" => odd,
                None if flag == "--text-column" => {
                    let file =
                        Kind::of_text(name).map(|kind| format!(", and no image has a .{}", kind.ending()));
                    format!(
                        "no metadata.jsonl or metadata.csv and no .json beside an image gives it{}",
                        file.unwrap_or_default()
                    )
                }
                _ => "no metadata.jsonl or metadata.csv in the folder gives it for an image".to_owned(),
            };
            return Err(DataError::Unclear(format!("{flag} {name}: {reason}")));
        }
        Ok(())
    }

    /// Adds the metadata of image `index`, whose path is `path`, to its sample.
    pub(super) fn tell(&self, index: usize, path: &Path, sample: &mut Sample) -> Result<(), String> {
        let Some(known) = self.known.get(index) else { return Ok(()) };
        if let Some((number, span)) = known.line {
            let (mut fields, non_finite) = self.line(number, span)?;
            sample.altered.non_finite = non_finite;
            if let Some(labels) = &self.labels {
                sample.label = labels.number(fields.get(&self.label).and_then(Raw::of_json).as_ref());
                if sample.label.is_some() {
                    fields.remove(&self.label);
                }
            }
            sample.text = captions::take(&mut fields, &self.text);
            sample.json = (!fields.is_empty()).then_some(fields);
        }
        if !sample.text.as_deref().is_some_and(has_words)
            && let Some(text) = self.text_beside(index, path)?
        {
            sample.text = Some(text);
        }
        if known.is_of_json() {
            let (json, non_finite) = self.json_beside(index, path)?;
            (sample.json, sample.altered.non_finite) = (Some(json), non_finite);
            captions::take_from_json(sample, &self.text);
        }
        Ok(())
    }

    /// The fields of a metadata line.
    fn line(&self, number: u32, span: Span) -> Result<Object, String> {
        let metadata = &self.metadata[number as usize];
        // No code panics while it holds the lock.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open.take() {
            Some((own, file)) if own == number => file,
            _ => metadata.open()?,
        };
        let (_, file) = open.insert((number, file));
        metadata.fields(file, span)
    }

    /// A hash of the files beside the images, which becomes part of the folder's hash; `None` if
    /// there are none.
    pub(super) fn fingerprint(&self) -> Option<blake3::Hash> {
        if self.known.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for metadata in &self.metadata {
            hasher.update(metadata.blake3.as_bytes());
        }
        for known in &self.known {
            hasher.update(&[Kind::Txt, Kind::Json].map(|kind| u8::from(known.has(kind))));
        }
        // Only where there are any, so that other folders keep the hashes that token sets recorded
        // before these files were taken.
        let more = [Kind::Text, Kind::Caption];
        if self.known.iter().any(|known| more.iter().any(|&kind| known.has(kind))) {
            hasher.update(b"more");
            for known in &self.known {
                hasher.update(&more.map(|kind| u8::from(known.has(kind))));
            }
        }
        Some(hasher.finalize())
    }
}

/// The captions found in the metadata.
#[derive(Default)]
struct Captions {
    in_metadata: Vec<bool>,
    /// Texts in metadata that are not strings.
    odd: Tally,
}

impl Captions {
    fn see(&mut self, index: usize, fields: &Carried, names: &[String], place: impl FnOnce() -> String) {
        match captions::look(fields, names) {
            Told::Words => self.in_metadata[index] = true,
            Told::Odd(_) => self.odd.add(1, place),
            Told::Blank | Told::Nothing => {}
        }
    }

    fn count(&self, beside: &Beside, images: &ImageFolder, notes: &mut Vec<String>) {
        let (mut with, mut without, mut twice) = (0_u64, Tally::default(), Tally::default());
        let (mut several, mut in_json, mut others) = (Tally::default(), Tally::default(), Tally::default());
        for (index, (known, &in_metadata)) in beside.known.iter().zip(&self.in_metadata).enumerate() {
            let name = || images.name(index).into_owned();
            let texts = known.count(&beside.texts);
            if let not_taken @ 1.. = known.count(&Kind::TEXTS) - texts {
                others.add(not_taken as u64, name);
            }
            match texts {
                0 => {}
                _ if in_metadata => twice.add(1, name),
                1 => {}
                _ => several.add(1, name),
            }
            if texts > 0 || in_metadata {
                with += 1;
            } else if known.is_of_json() && !beside.text.is_empty() {
                in_json.add(1, name);
            } else {
                without.add(1, name);
            }
        }
        note(&self.odd, "texts in metadata that are not strings and stay in json", notes);
        note(&others, "text files that are not used, since --text-column names other captions", notes);
        note(&twice, "text files that are not used, since metadata has the text of their images", notes);
        let endings = Kind::TEXTS.map(|kind| format!(".{}", kind.ending())).join(", ");
        let what = "images with several text files, of which the first with words is taken";
        note(&several, &format!("{what} ({endings})"), notes);
        if with > 0 {
            notes.push(format!("captions: {with} of {} images have one", beside.known.len()));
            note(&in_json, "images whose only caption may be in their .json", notes);
            note(&without, "images without a caption", notes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::tests::{all, carried, folder};
    use super::*;
    use crate::data::{SampleSet, Split};

    /// A folder with these images, all empty, and these other files.
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
            assert_eq!(samples[1].json, carried(json!({"extra": "5"})));
            assert_eq!(set.classes(), ["cat", "dog"]);
            let before = set.fingerprint();
            fs::write(root.path().join(name), content.replace("lines", "words")).unwrap();
            assert_ne!(SampleSet::open(root.path()).unwrap().fingerprint(), before);
        }
    }

    #[test]
    fn metadata_is_read_with_semicolons_and_tabs() {
        for separator in [";", "\t"] {
            let lines = [
                ["file_name", "text", "label"],
                ["a/1.jpg", "\"one, two\"", "dog"],
                ["2.jpg", "\"x;\ty\"", "cat"],
            ];
            let csv = lines.map(|cells| cells.join(separator)).join("\n");
            let (_root, set) = images(&["a/1.jpg", "2.jpg"], &[("metadata.csv", csv.as_bytes())]);
            let samples = all(&set);
            let found: Vec<_> = samples.iter().map(|sample| (sample.label, sample.text.as_deref())).collect();
            assert_eq!(found, [(Some(0), Some("x;\ty")), (Some(1), Some("one, two"))], "{csv}");
            let root = folder(&["1.jpg"]);
            let broken = format!("file_name{separator}text\n1.jpg{separator}a{separator}b\n");
            fs::write(root.path().join("metadata.csv"), broken).unwrap();
            let message = SampleSet::open(root.path()).unwrap_err().to_string();
            assert!(message.contains("line 2: 3 cells where the first line has 2"), "{message}");
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
            "name no file below it, not used: 1, for instance line 3",
            "whose image does not exist: 1, for instance gone.jpg",
            "repeat an image, not used: 1, for instance 1.jpg",
            "images without a line in the metadata: 3, for instance 2.jpg",
            "since metadata has the text of their images: 1, for instance 1.jpg",
            "captions: 3 of 4 images have one",
            "images without a caption: 1, for instance 4.jpg",
            "belong to no image and are not used: 1, for instance notes.txt",
        ] {
            assert!(notes.contains(part), "{part} is missing: {notes}");
        }
    }

    #[test]
    fn metadata_of_something_else_is_left_and_said() {
        let (_root, set) = images(&["1.jpg"], &[("metadata.csv", b"id;age\n1;2\n")]);
        assert_eq!((texts(&set), set.notes().len()), (vec![None], 1));
        assert!(set.notes()[0].starts_with("metadata.csv is not used: "), "{:?}", set.notes());
        for (name, content, part) in [
            (
                "metadata.jsonl",
                "{\"file_name\": \"1.jpg\"}\nno\n",
                "metadata.jsonl, line 2: not a JSON object",
            ),
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

    #[test]
    fn json_beside_an_image_is_taken_as_in_tars() {
        let files: [(&str, &[u8]); 6] = [
            ("1.json", b"{\"label\": 3, \"url\": \"u\"}"),
            ("2.JSON", b"{\"w\": 1}"),
            ("3.v1.json", b"{}"),
            ("4.json", b"[1]"),
            ("5.json", b"{"),
            ("annotations.json", b"{}"),
        ];
        let (root, set) = images(&["1.jpg", "2.jpg", "3.v1.jpg", "4.jpg", "5.jpg"], &files);
        let samples = all(&set);
        let json: Vec<_> = samples.iter().map(|sample| sample.json.clone()).collect();
        let expected = [
            carried(json!({"label": 3, "url": "u"})),
            carried(json!({"w": 1})),
            carried(json!({})),
            None,
            None,
        ];
        assert_eq!(json, expected);
        for (sample, part) in samples[3..].iter().zip(["the JSON is not an object", "broken JSON"]) {
            assert!(sample.image.as_ref().unwrap_err().contains(part), "{sample:?}");
        }
        assert_eq!(
            set.notes(),
            [".json files that belong to no image and are not used: 1, for instance annotations.json"]
        );
        fs::write(root.path().join("metadata.csv"), "file_name,w\n1.jpg,8\n").unwrap();
        let set = SampleSet::open(root.path()).unwrap();
        assert_eq!(all(&set)[0].json, carried(json!({"w": "8"})));
        let notes = set.notes().join("\n");
        assert!(
            notes.contains("since metadata has a line for their images: 1, for instance 1.jpg"),
            "{notes}"
        );
    }

    #[test]
    fn captions_have_the_endings_and_fields_that_they_have_in_tars() {
        let files: [(&str, &[u8]); 11] = [
            ("1.caption", b"caption"),
            ("2.TEXT", b"text\n"),
            ("2.caption", b"caption"),
            ("3.txt", b" \n"),
            ("3.caption", b"caption"),
            ("4.json", b"{\"caption\": \"in json\", \"w\": 1}"),
            ("5.json", b"{\"text\": [\"one\", \"two\"]}"),
            ("6.json", b"{\"text\": \"only\"}"),
            ("7.txt", b"beside"),
            ("7.json", b"{\"caption\": \"in json\"}"),
            ("lost.text", b"of no image"),
        ];
        let names = ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg", "7.jpg", "8.jpg"];
        let (root, set) = images(&names, &files);
        let samples = all(&set);
        let found: Vec<_> = samples.iter().map(|sample| sample.text.as_deref()).collect();
        let expected = ["caption", "text", "caption", "in json", "one", "only", "beside"].map(Some);
        assert_eq!(found, [&expected[..], &[None]].concat());
        let json: Vec<_> = samples[3..7].iter().map(|sample| sample.json.clone()).collect();
        let expected = [json!({"w": 1}), json!({"captions": ["one", "two"]})].map(carried);
        assert_eq!(json[..2], expected);
        assert_eq!(json[2..], [None, carried(json!({"caption": "in json"}))]);
        let notes = set.notes().join("\n");
        for part in [
            "of which the first with words is taken (.txt, .text, .caption): 2, for instance 2.jpg",
            "captions: 4 of 8 images have one",
            "images whose only caption may be in their .json: 3, for instance 4.jpg",
            "images without a caption: 1, for instance 8.jpg",
            ".text files that belong to no image and are not used: 1, for instance lost.text",
        ] {
            assert!(notes.contains(part), "{part} is missing: {notes}");
        }
        // A field that is asked for is looked for in the JSON too, and not in text files.
        let select = |name: &str| {
            let selection = Selection { text: Some(name.to_owned()), ..Selection::default() };
            SampleSet::select(root.path(), &selection)
        };
        let set = select("caption").unwrap();
        let expected = [None, None, None, Some("in json"), None, None, Some("in json"), None];
        assert_eq!(texts(&set).iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        let notes = set.notes().join("\n");
        let words = "not used, since --text-column names other captions: 6, for instance 1.jpg";
        assert!(notes.contains(words) && !notes.contains("several text files"), "{notes}");
        let message = select("gone").unwrap_err().to_string();
        assert!(message.contains("--text-column gone: no metadata.jsonl"), "{message}");
        // An ending that no field is named like.
        for name in ["txt", ".TXT"] {
            let set = select(name).unwrap();
            let samples = all(&set);
            let found: Vec<_> = samples.iter().map(|sample| sample.text.as_deref().map(str::trim)).collect();
            assert_eq!(found, [None, None, Some(""), None, None, None, Some("beside"), None]);
            assert_eq!(samples[5].json, carried(json!({"text": "only"})));
            let notes = set.notes().join("\n");
            for part in [
                "not used, since --text-column names other captions: 4, for instance 1.jpg",
                "captions: 2 of 8 images have one",
                "images without a caption: 6, for instance 1.jpg",
            ] {
                assert!(notes.contains(part), "{part} is missing: {notes}");
            }
        }
        for name in ["3.txt", "7.txt"] {
            fs::remove_file(root.path().join(name)).unwrap();
        }
        let message = select("txt").unwrap_err().to_string();
        assert!(message.ends_with("beside an image gives it, and no image has a .txt"), "{message}");
    }

    #[test]
    fn of_endings_in_several_cases_one_is_taken_whatever_the_order() {
        // Some file systems list files in the order of their hashes, others as they were made.
        let (endings, images) = (["txt", "TXT", "Txt"], 9);
        let names: Vec<String> = (0..images).map(|image| format!("{image}.jpg")).collect();
        let root = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for image in 0..images {
            for k in 0..endings.len() {
                let ending = endings[(image + k) % endings.len()];
                fs::write(root.path().join(format!("{image}.{ending}")), ending).unwrap();
            }
        }
        let set = SampleSet::open(root.path()).unwrap();
        assert_eq!(texts(&set), vec![Some("TXT".to_owned()); images]);
        let words = "differ from another only in the case of their ending, not used: 18, for instance 0.Txt";
        assert!(set.notes()[0].contains(words), "{:?}", set.notes());
    }

    #[test]
    fn the_hash_of_a_folder_stays_unless_it_has_further_endings() {
        let root = folder(&["1.jpg", "2.jpg", "3.jpg", "1.txt", "2.json"]);
        let hash = || {
            let images = ImageFolder::open(root.path(), Split::All).unwrap();
            let beside = Beside::of(root.path(), &images, &Selection::default(), &mut vec![]).unwrap();
            beside.fingerprint().unwrap()
        };
        // For each image whether it has a .txt and a .json.
        assert_eq!(hash(), blake3::hash(&[1, 0, 0, 1, 0, 0]));
        let mut hashes = vec![hash()];
        for name in ["3.caption", "3.text", "2.text"] {
            fs::write(root.path().join(name), "").unwrap();
            assert!(!hashes.contains(&hash()), "{name}");
            hashes.push(hash());
        }
    }

    #[test]
    fn names_match_in_either_spelling() {
        let (one, two) = ("caf\u{e9}", "cafe\u{301}");
        for (image, other) in [(one, two), (two, one)] {
            let line = format!("file_name,words\n{other}/{other}.png,hello\n");
            let files: [(&str, &[u8]); 3] = [
                ("metadata.csv", line.as_bytes()),
                (&format!("{other}.TXT"), b"text"),
                (&format!("{other}.json"), b"{\"a\": 1}"),
            ];
            let (root, set) = images(&[&format!("{image}/{image}.png"), &format!("{image}.png")], &files);
            let samples = all(&set);
            assert_eq!(samples[0].text.as_deref(), Some("text"));
            assert_eq!(samples[0].json, carried(json!({"a": 1})));
            assert_eq!(samples[1].json, carried(json!({"words": "hello"})));
            // If two files match the name, the one with the exact spelling counts.
            fs::write(root.path().join(format!("{image}.txt")), b"exact").unwrap();
            assert_eq!(texts(&SampleSet::open(root.path()).unwrap())[0].as_deref(), Some("exact"));
        }
        let marks = ["s\u{307}\u{323}", "s\u{323}\u{307}", "\u{1e69}"];
        let pictures = marks.map(|name| format!("{name}.png"));
        for (beside, content) in
            [(format!("{}.txt", marks[2]), ""), ("metadata.csv".into(), "file_name\n\u{1e69}.png\n")]
        {
            let root = folder(&[&pictures[0], &pictures[1]]);
            fs::write(root.path().join(beside), content).unwrap();
            let message = SampleSet::open(root.path()).unwrap_err().to_string();
            assert!(message.contains("2 images are spelt like it"), "{message}");
        }
        let root = folder(&[&pictures[0]]);
        for name in &marks[1..] {
            fs::write(root.path().join(format!("{name}.txt")), "").unwrap();
        }
        let message = SampleSet::open(root.path()).unwrap_err().to_string();
        assert!(message.contains("is not the only .txt of"), "{message}");
    }

    #[test]
    fn class_folders_count_where_the_labels_of_metadata_do_not_convert() {
        for (name, content) in [
            ("metadata.jsonl", "{\"file_name\": \"a/1.jpg\", \"label\": 0.5}\n"),
            ("metadata.csv", "file_name,label\na/1.jpg,0.5\nb/2.jpg,1\n"),
        ] {
            let (_root, set) = images(&["a/1.jpg", "b/2.jpg"], &[(name, content.as_bytes())]);
            let labels: Vec<_> = all(&set).iter().map(|sample| sample.label).collect();
            assert_eq!((labels, set.classes().len()), (vec![Some(0), Some(1)], 2));
            let notes = set.notes().join("\n");
            for part in
                ["labels of the field label of the metadata are not used: ", "come from the class folders"]
            {
                assert!(notes.contains(part), "{notes}");
            }
        }
    }

    #[test]
    fn texts_that_are_asked_for_and_are_no_strings_are_refused() {
        let root = folder(&["1.jpg"]);
        fs::write(root.path().join("metadata.jsonl"), "{\"file_name\": \"1.jpg\", \"tags\": 7}\n").unwrap();
        let selection = Selection { text: Some("tags".into()), ..Selection::default() };
        let message = SampleSet::select(root.path(), &selection).unwrap_err().to_string();
        assert!(
            message.contains("--text-column tags: none of its texts is a string, as on line 1"),
            "{message}"
        );
    }

    #[test]
    fn lists_of_captions_stay_whole_and_empty_ones_give_way() {
        let lines = "{\"file_name\": \"1.jpg\", \"caption\": [\"a\", \"b\"], \"x\": NaN}\n\
                     {\"file_name\": \"2.jpg\", \"text\": \"\"}\n";
        let files: [(&str, &[u8]); 2] = [("metadata.jsonl", lines.as_bytes()), ("2.txt", b"beside")];
        let (_root, set) = images(&["1.jpg", "2.jpg"], &files);
        assert_eq!(texts(&set), [Some("a".into()), Some("beside".into())]);
        let samples = all(&set);
        assert_eq!(samples[0].json, carried(json!({"captions": ["a", "b"], "x": null})));
        assert_eq!((samples[0].altered.non_finite, samples[1].altered.non_finite), (1, 0));
        assert!(set.notes().join("\n").contains("captions: 2 of 2 images have one"), "{:?}", set.notes());
    }

    #[test]
    fn tables_under_other_names_are_said() {
        let root = folder(&["a.png", "captions.csv", "sub/labels.tsv"]);
        let set = SampleSet::open(root.path()).unwrap();
        let words = set.notes().join("\n");
        assert!(
            words.contains("tables that are not used") && words.contains(": 2, for instance "),
            "{words}"
        );
    }
}
