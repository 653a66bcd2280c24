//! A list of images, with one JSON object per line.
//!
//! `path` (or `image`, or `file_name`) names the image, relative to the list's folder. `key` names
//! the sample; without it, the path without its extension is the key. `label` follows the rule in
//! `labels`; fields such as `text` and `caption` follow the rule in `captions`. All other fields go
//! to `json`, and so does a label or text that cannot be converted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::captions::{self, Told};
use super::labels::{Labels, Raw, Survey};
use super::metadata::lines::JsonLines;
use super::spelling::Folders;
use pixtok_base::Carried;

use super::{Altered, DataError, Encoded, Input, Sample, SampleStream, Selection, key, keys_of};
use crate::data::Fingerprint;
use crate::data::fingerprint::MOST_FILES;
use pixtok_base::paths::special;

/// A list.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    lines: u64,
    fingerprint: String,
    fields: Fields,
    notes: Vec<String>,
}

/// The names of the fields. The first name that is present and not null counts.
#[derive(Debug, Clone)]
struct Fields {
    image: Vec<String>,
    label: String,
    text: Vec<String>,
    labels: Labels,
}

impl List {
    /// Reads the whole list to count its lines, to hash it and to decide how its labels are used.
    pub(super) fn open(path: &Path, selection: &Selection) -> Result<List, DataError> {
        let fail = |source| DataError::File { path: path.to_owned(), source };
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(fail)?);
        let mut hasher = blake3::Hasher::new();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        let (mut lines, mut blank) = (0, true);
        loop {
            let bytes = reader.fill_buf().map_err(fail)?;
            if bytes.is_empty() {
                break;
            }
            for &byte in bytes {
                if byte == b'\n' {
                    blank = true;
                } else if blank && !byte.is_ascii_whitespace() {
                    blank = false;
                    lines += 1;
                }
            }
            hasher.update(bytes);
            let length = bytes.len();
            reader.consume(length);
        }
        let fingerprint = hasher.finalize().to_hex().to_string();
        let mut list =
            List { path: path.to_owned(), lines, fingerprint, fields: Fields::of(selection), notes: vec![] };
        list.settle(selection)?;
        Ok(list)
    }

    fn settle(&mut self, selection: &Selection) -> Result<(), DataError> {
        let (mut survey, mut odd, mut texts) = (Survey::default(), None, 0_u64);
        let mut lines = JsonLines::open(&self.path)?;
        // An export stops at a broken line.
        while let Ok(Some((_, (object, _)))) = lines.next() {
            let line = lines.number;
            let label = object.get(&self.fields.label).and_then(Raw::of_json);
            survey.add(label.as_ref(), || format!("line {line}"));
            match captions::look(&object, &self.fields.text) {
                Told::Words | Told::Blank => texts += 1,
                Told::Odd(text) => {
                    let (count, _) = odd.get_or_insert_with(|| (0_u64, format!("{text} on line {line}")));
                    *count += 1;
                }
                Told::Nothing => {}
            }
        }
        let what = format!("the field {}", self.fields.label);
        let (given, asked) = (selection.classes.as_ref(), selection.label.is_some());
        self.fields.labels = survey.settle(&what, None, given, asked, &mut self.notes)?;
        if let (Some(name), 0) = (&selection.text, texts) {
            let reason = match odd {
                Some((_, example)) => format!("none of its texts is a string, as {example}; name another"),
                None => format!("no line of {} has that field", self.path.display()),
            };
            return Err(DataError::Unclear(format!("--text-column {name}: {reason}")));
        }
        if let Some((count, example)) = odd {
            self.notes.push(format!(
                "texts that are not strings and stay in json: {count}, for instance {example}"
            ));
        }
        Ok(())
    }
}

impl Fields {
    fn of(selection: &Selection) -> Fields {
        let names = |asked: &Option<String>, usual: &[&str]| match asked {
            Some(name) => vec![name.clone()],
            None => usual.iter().map(|&name| name.to_owned()).collect(),
        };
        Fields {
            image: names(&selection.image, &["path", "image", "file_name"]),
            label: selection.label.clone().unwrap_or_else(|| "label".to_owned()),
            text: names(&selection.text, &captions::NAMES),
            labels: Labels::none(),
        }
    }
}

impl Input for List {
    fn kind(&self) -> &'static str {
        "list"
    }

    fn classes(&self) -> &[String] {
        self.fields.labels.classes()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn len(&self) -> Option<u64> {
        Some(self.lines)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn sizes(&self) -> Result<Option<String>, DataError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let distance = self.lines.div_ceil(MOST_FILES as u64).max(1);
        let (mut lines, mut paths) = (JsonLines::open(&self.path)?, vec![]);
        // As in `settle`, nothing after a broken line is read.
        for number in 0.. {
            let Ok(Some((_, (mut object, _)))) = lines.next() else { break };
            if number % distance == 0 {
                paths.extend(take_path(&mut object, &self.fields.image).map(|path| folder.join(path)));
            }
        }
        let meta = |index: usize| fs::metadata(&paths[index]).ok();
        Ok(Fingerprint::new(String::new(), paths.len(), meta).sizes())
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        let (lines, folders) = (JsonLines::open(&self.path)?, Folders::default());
        Ok(Box::new(Stream { path: self.path.clone(), lines, folders, fields: self.fields.clone() }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError> {
        keys_of(self.stream()?, &self.path, each)
    }
}

struct Stream {
    path: PathBuf,
    lines: JsonLines,
    folders: Folders,
    fields: Fields,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        while let Some((_, (mut object, non_finite))) = self.lines.next()? {
            let Some(path) = take_path(&mut object, &self.fields.image) else {
                let names: Vec<String> = self.fields.image.iter().map(|name| format!("`{name}`")).collect();
                return Err(self.lines.bad(format!("no image path; give it as {}", names.join(" or "))));
            };
            let key = self.key(&mut object, &path)?;
            if !wanted(&key) {
                continue;
            }
            let path = self.path.parent().unwrap_or(Path::new("")).join(path);
            let full = || std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            let image = existing(&path, &mut self.folders);
            let tried = image.is_err().then(full);
            let label = self.take_label(&mut object);
            let text = captions::take(&mut object, &self.fields.text);
            let json = (!object.is_empty()).then_some(object);
            let altered = Altered { non_finite, ..Altered::default() };
            return Ok(Some(Sample { key, image, label, text, json, altered, tried }));
        }
        Ok(None)
    }
}

impl Stream {
    fn key(&self, object: &mut Carried, path: &str) -> Result<String, DataError> {
        let own = object.remove("key").filter(|key| key.get() != "null");
        let raw = match own.map(|key| serde_json::from_str(key.get()).map_err(|_| key)) {
            Some(Ok(key)) => key,
            None => key::without_extension(path.trim_start_matches('/')).to_owned(),
            Some(Err(other)) => {
                return Err(self.lines.bad(format!("the key {other} is not a string; quote it")));
            }
        };
        let place = || format!("line {}", self.lines.number);
        key::key(&raw).map_err(|reason| key::refusal(&self.path, place(), &raw, reason))
    }

    /// The number of the label. A label without a number stays in `json`.
    fn take_label(&self, object: &mut Carried) -> Option<i64> {
        let Fields { label: name, labels, .. } = &self.fields;
        let label = labels.number(Raw::of_json(object.get(name)?).as_ref())?;
        object.remove(name);
        Some(label)
    }
}

/// Removes and returns the first of the fields that is present and not null, if it is a path.
fn take_path(object: &mut Carried, names: &[String]) -> Option<String> {
    let name = names.iter().find(|&name| object.get(name).is_some_and(|value| value.get() != "null"))?;
    let path: String = serde_json::from_str(object.remove(name)?.get()).ok()?;
    Some(path).filter(|path| !path.is_empty())
}

fn existing(path: &Path, folders: &mut Folders) -> Result<Encoded, String> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err("its path is a folder".to_owned()),
        Ok(meta) => match special(meta.file_type()) {
            Some(kind) => Err(format!("its path is a {kind}")),
            None => Ok(Encoded::File(path.to_owned())),
        },
        Err(error) => match folders.find(path)? {
            Some(path) => Ok(Encoded::File(path)),
            None => Err(format!("cannot find it: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{all, carried, failure, folder, keys};
    use super::*;
    use crate::data::SampleSet;
    use crate::data::make_fifo;

    /// A list with these lines beside `a.png` and `b/c.d.jpg`.
    fn list(text: &str) -> (tempfile::TempDir, SampleSet) {
        let root = folder(&["a.png", "b/c.d.jpg"]);
        let path = root.path().join("list.jsonl");
        fs::write(&path, text).unwrap();
        let set = SampleSet::open(&path).unwrap();
        (root, set)
    }

    #[test]
    fn fields_go_where_they_belong() {
        let (root, set) = list(concat!(
            "\u{feff}{\"path\": \"a.png\", \"text\": \"x\", \"label\": -3, \"key\": \"k/1.2\", \"w\": 5}\r\n",
            "\n  \t\r\n",
            "{\"image\": \"b/c.d.jpg\", \"caption\": \"y\", \"text\": null}\n",
            "{\"file_name\": \"./a.png\", \"image\": null}",
        ));
        assert_eq!((set.kind(), set.len(), set.classes().len()), ("list", Some(3), 0));
        let samples = all(&set);
        let a = Ok(Encoded::File(root.path().join("a.png")));
        let expected = Sample {
            key: "k/1_2".into(),
            image: a,
            label: Some(-3),
            text: Some("x".into()),
            json: carried(json!({"w": 5})),
            altered: Altered::default(),
            tried: None,
        };
        assert_eq!(samples[0], expected);
        assert_eq!((samples[1].key.as_str(), samples[1].text.as_deref()), ("b/c_d", Some("y")));
        assert_eq!(samples[1].image, Ok(Encoded::File(root.path().join("b/c.d.jpg"))));
        assert_eq!((samples[2].key.as_str(), samples[2].text.as_deref()), ("a", None));
        assert!(samples[2].image.is_ok());
        assert_eq!(all(&set), samples, "a second stream begins at the start");
    }

    #[test]
    fn an_absolute_path_is_read_and_its_key_is_not() {
        let root = folder(&["x/a.png"]);
        let path = root.path().join("x/a.png");
        let (_list, set) = list(&json!({"path": path.to_str().unwrap()}).to_string());
        let samples = all(&set);
        assert_eq!(samples[0].image, Ok(Encoded::File(path.clone())));
        let key = path.with_extension("");
        // The folder's name begins with a dot, before the last `/`.
        assert_eq!(samples[0].key, key.to_str().unwrap().trim_start_matches('/'));
    }

    #[test]
    fn what_is_missing_is_a_bad_sample_and_what_does_not_convert_stays_in_json() {
        let (root, set) = list(concat!(
            "{\"path\": \"no/where.png\"}\n",
            "{\"path\": \"b\", \"key\": \"folder\"}\n",
            "{\"path\": \"fifo.png\"}\n",
            "{\"path\": \"a.png\", \"label\": 1.5, \"text\": [\"one\"]}\n",
            "{\"path\": \"a.png\", \"label\": 2, \"text\": [\"one\", 2]}\n",
            "{\"path\": \"a.png\", \"caption\": [\"one\", \"two\"], \"text\": null}\n",
        ));
        make_fifo(&root.path().join("fifo.png"));
        let mut samples = all(&set);
        let bad = [("cannot find it", "no/where.png"), ("is a folder", "b"), ("is a FIFO", "fifo.png")];
        for (sample, (part, name)) in samples.drain(..3).zip(bad) {
            let reason = sample.image.unwrap_err();
            assert!(reason.contains(part), "{reason}");
            assert_eq!(sample.tried, Some(root.path().join(name)));
        }
        assert!(samples.iter().all(|sample| sample.tried.is_none()));
        assert_eq!((samples[0].label, samples[0].text.as_deref()), (None, Some("one")));
        assert_eq!(samples[0].json, carried(json!({"label": 1.5})));
        assert_eq!(samples[1].json, carried(json!({"label": 2, "text": ["one", 2]})));
        assert_eq!(samples[2].text.as_deref(), Some("one"));
        assert_eq!(samples[2].json, carried(json!({"captions": ["one", "two"], "text": null})));
        let notes = set.notes();
        for (note, part) in notes.iter().zip([
            "labels of the field label are not used: 1.5 (line 4)",
            "texts that are not strings and stay in json: 1",
        ]) {
            assert!(note.contains(part), "{note}");
        }
        assert_eq!(notes.len(), 2);
    }

    #[test]
    fn labels_convert_and_fields_are_chosen() {
        let (_root, set) = list(concat!(
            "{\"path\": \"a.png\", \"label\": \"dog\"}\n",
            "{\"path\": \"b/c.d.jpg\", \"label\": \"cat\"}\n",
        ));
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!(all(&set).iter().map(|sample| sample.label).collect::<Vec<_>>(), [Some(1), Some(0)]);
        let root = folder(&["a.png"]);
        let path = root.path().join("l.jsonl");
        fs::write(
            &path,
            "{\"file\": \"a.png\", \"kind\": \"3\", \"words\": \"x\", \"label\": \"y\", \"tags\": [1,2]}\n",
        )
        .unwrap();
        let name = |name: &str| Some(name.to_owned());
        let selection = Selection {
            image: name("file"),
            label: name("kind"),
            text: name("words"),
            ..Selection::default()
        };
        let sample = &all(&SampleSet::select(&path, &selection).unwrap())[0];
        assert_eq!((sample.label, sample.text.as_deref()), (Some(3), Some("x")));
        assert_eq!(sample.json, carried(json!({"label": "y", "tags": [1, 2]})));
        for (selection, part) in [
            (Selection { label: name("gone"), ..Selection::default() }, "the field gone: no sample has one"),
            (Selection { text: name("gone"), ..Selection::default() }, "--text-column gone"),
            (
                Selection { text: name("tags"), ..Selection::default() },
                "--text-column tags: none of its texts is a string, as [1,2] on line 1",
            ),
            (
                Selection { split: name("train"), ..Selection::default() },
                "--split train (data.split, data.val_split in a config) is for Parquet files",
            ),
        ] {
            let message = SampleSet::select(&path, &selection).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn broken_lines_are_named() {
        for (line, parts) in [
            ("{\"path\": ", ["not a JSON object", "column"]),
            ("[\"a.png\"]", ["not a JSON object", "write one object per line"]),
            ("{\"label\": 1}", ["no image path", "file_name"]),
            ("{\"path\": 7}", ["no image path", "file_name"]),
            ("{\"path\": \"\"}", ["no image path", "file_name"]),
            ("{\"path\": \"a.png\", \"key\": 7}", ["the key 7", "quote it"]),
            ("{\"path\": \"a.png\", \"key\": \"\"}", ["is empty", "\"\""]),
            ("{\"path\": \"a.png\", \"key\": \"/x\"}", ["is absolute", "\"/x\""]),
            ("{\"path\": \"a.png\", \"key\": \"x/../y\"}", ["`..`", "\"x/../y\""]),
            ("{\"path\": \"../a.png\"}", ["`..`", "\"../a\""]),
            ("{\"path\": \"b\\\\a.png\"}", ["backslash", "a"]),
            ("{\"path\": \"a\\u0000.png\"}", ["NUL", "a"]),
        ] {
            let (_root, set) = list(&format!("{{\"path\": \"a.png\"}}\n\n{line}\n{{\"path\": \"a.png\"}}\n"));
            let (samples, error) = failure(&set);
            assert_eq!(samples.len(), 1, "{line}");
            let message = error.to_string();
            for part in [parts[0], parts[1], "list.jsonl, line 3: "] {
                assert!(message.contains(part), "{line}: {message}");
            }
        }
    }

    #[test]
    fn numbers_stay_and_what_is_none_is_null_and_counted() {
        let (_root, set) = list(concat!(
            "{\"path\": \"a.png\", \"id\": 123456789012345678901234567890, \"x\": [NaN, -Infinity], \"label\": NaN}\n",
            "{\"path\": \"a.png\", \"key\": \"b\", \"label\": 3, \"x\": \"NaN\"}\n",
        ));
        let samples = all(&set);
        let json = samples[0].json.as_ref().unwrap().to_string();
        assert_eq!(json, "{\"id\":123456789012345678901234567890,\"label\":null,\"x\":[null,null]}");
        let found: Vec<_> = samples.iter().map(|sample| (sample.label, sample.altered.non_finite)).collect();
        assert_eq!(found, [(None, 3), (Some(3), 0)]);
    }

    #[test]
    fn refused_lines_are_not_looked_up() {
        let (_root, set) = list("{\"path\": \"x.png\"}\n{\"path\": \"a.png\"}\n{\"path\": \"y.png\"}\n");
        let (asked, got) = keys(&set, |key| key == "a");
        assert_eq!((asked, got), (vec!["x".into(), "a".into(), "y".into()], vec!["a".into()]));
    }

    #[test]
    fn the_content_is_the_fingerprint() {
        let text = "{\"path\": \"a.png\", \"label\": 1}\n";
        let (_root, set) = list(text);
        let (_again, same) = list(text);
        let (_other, other) = list(&text.replace('1', "2"));
        assert_eq!(set.fingerprint(), same.fingerprint());
        assert_ne!(set.fingerprint(), other.fingerprint());
    }
}
