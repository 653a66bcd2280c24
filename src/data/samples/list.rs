//! A list of images: a JSON object a line.
//!
//! `path` (or `image`, or `file_name`) names the image, relative to the list's folder. `key` names the sample; without it
//! the path does, without its extension. `text` (or `caption`) and `label`, an integer, are taken over; whatever else there
//! is goes to `json`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::spelling::Folders;
use super::{DataError, Encoded, Input, Sample, SampleStream, key, keys_of};

/// The longest line that is read.
const LINE_LIMIT: u64 = 1 << 26;

/// A list.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    lines: u64,
    fingerprint: String,
}

impl List {
    /// Reads the list once, to count it and to know it again.
    pub(super) fn open(path: &Path) -> Result<List, DataError> {
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
        Ok(List { path: path.to_owned(), lines, fingerprint })
    }
}

impl Input for List {
    fn kind(&self) -> &'static str {
        "list"
    }

    fn len(&self) -> Option<u64> {
        Some(self.lines)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        let path = self.path.clone();
        let file = File::open(&path).map_err(|source| DataError::File { path: path.clone(), source })?;
        Ok(Box::new(Stream { path, reader: BufReader::new(file), line: 0, folders: Folders::default() }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<Vec<String>, DataError> {
        keys_of(self.stream()?, &self.path, each)?;
        Ok(vec![])
    }
}

struct Stream {
    path: PathBuf,
    reader: BufReader<File>,
    /// The number of the line that was read last.
    line: u64,
    folders: Folders,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        while let Some(mut object) = self.next_object()? {
            let Some(path) = take_path(&mut object) else {
                let reason = "no path of an image; give it as `path`, `image` or `file_name`";
                return Err(self.bad_line(reason.to_owned()));
            };
            let key = self.key(&mut object, &path)?;
            if !wanted(&key) {
                continue;
            }
            let path = self.path.parent().unwrap_or(Path::new("")).join(path);
            let mut image = existing(path, &mut self.folders);
            let (label, text) = match (take_label(&mut object), take_text(&mut object)) {
                (Ok(label), Ok(text)) => (label, text),
                (Err(reason), _) | (_, Err(reason)) => {
                    image = Err(reason);
                    (None, None)
                }
            };
            let json = (!object.is_empty()).then_some(object);
            return Ok(Some(Sample { key, image, label, text, json }));
        }
        Ok(None)
    }
}

impl Stream {
    fn bad_line(&self, reason: String) -> DataError {
        DataError::BadLine { path: self.path.clone(), line: self.line, reason }
    }

    /// The object on the next line that is not blank.
    fn next_object(&mut self) -> Result<Option<Map<String, Value>>, DataError> {
        loop {
            self.line += 1;
            let mut bytes = Vec::new();
            let mut limited = (&mut self.reader).take(LINE_LIMIT);
            limited
                .read_until(b'\n', &mut bytes)
                .map_err(|source| DataError::File { path: self.path.clone(), source })?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() as u64 == LINE_LIMIT {
                return Err(self.bad_line(format!("more than {LINE_LIMIT} bytes; write one object a line")));
            }
            // A byte order mark, which some editors put first.
            let mark: &[u8] = if self.line == 1 { b"\xef\xbb\xbf" } else { b"" };
            let line = bytes.strip_prefix(mark).unwrap_or(&bytes);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match serde_json::from_slice(line) {
                Ok(Value::Object(object)) => Ok(Some(object)),
                Ok(_) => Err(self.bad_line("no JSON object; write one object a line".to_owned())),
                Err(error) => {
                    // Its line number is that within this line.
                    let words = error.to_string();
                    let words = words.split(" at line ").next().unwrap_or_default();
                    let column = error.column();
                    let reason =
                        format!("no JSON object ({words}, column {column}); write one object a line");
                    Err(self.bad_line(reason))
                }
            };
        }
    }

    fn key(&self, object: &mut Map<String, Value>, path: &str) -> Result<String, DataError> {
        let raw = match object.remove("key") {
            Some(Value::String(key)) => key,
            Some(Value::Null) | None => key::without_extension(path.trim_start_matches('/')).to_owned(),
            Some(other) => return Err(self.bad_line(format!("the key {other} is no string; quote it"))),
        };
        let place = || format!("line {}", self.line);
        key::key(&raw).map_err(|reason| key::refusal(&self.path, place(), &raw, reason))
    }
}

/// Takes the first of `names` that is there and not null.
fn take(object: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    let name = names.iter().find(|&&name| object.get(name).is_some_and(|value| !value.is_null()))?;
    object.remove(*name)
}

fn take_path(object: &mut Map<String, Value>) -> Option<String> {
    match take(object, &["path", "image", "file_name"]) {
        Some(Value::String(path)) if !path.is_empty() => Some(path),
        _ => None,
    }
}

fn take_label(object: &mut Map<String, Value>) -> Result<Option<i64>, String> {
    let Some(value) = take(object, &["label"]) else { return Ok(None) };
    value.as_i64().map(Some).ok_or_else(|| format!("the label {value} is no 64-bit integer"))
}

fn take_text(object: &mut Map<String, Value>) -> Result<Option<String>, String> {
    match take(object, &["text", "caption"]) {
        Some(Value::String(text)) => Ok(Some(text)),
        None => Ok(None),
        Some(other) => Err(format!("the text {other} is no string")),
    }
}

fn existing(path: PathBuf, folders: &mut Folders) -> Result<Encoded, String> {
    match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => Err("its path is a folder".to_owned()),
        Ok(_) => Ok(Encoded::File(path)),
        Err(error) => match folders.find(&path)? {
            Some(path) => Ok(Encoded::File(path)),
            None => Err(format!("cannot find it: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{all, failure, folder, keys};
    use super::*;
    use crate::data::SampleSet;

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
            json: json!({"w": 5}).as_object().cloned(),
        };
        assert_eq!(samples[0], expected);
        assert_eq!((samples[1].key.as_str(), samples[1].text.as_deref()), ("b/c_d", Some("y")));
        assert_eq!(samples[1].image, Ok(Encoded::File(root.path().join("b/c.d.jpg"))));
        assert_eq!((samples[2].key.as_str(), samples[2].text.as_deref()), ("a", None));
        assert!(samples[2].image.is_ok());
        assert_eq!(all(&set), samples, "a second stream begins anew");
    }

    #[test]
    fn an_absolute_path_is_read_and_its_key_is_not() {
        let root = folder(&["x/a.png"]);
        let path = root.path().join("x/a.png");
        let (_list, set) = list(&json!({"path": path.to_str().unwrap()}).to_string());
        let samples = all(&set);
        assert_eq!(samples[0].image, Ok(Encoded::File(path.clone())));
        let key = path.with_extension("");
        // The folder's name begins with a dot, and stands before the last `/`.
        assert_eq!(samples[0].key, key.to_str().unwrap().trim_start_matches('/'));
    }

    #[test]
    fn what_is_missing_or_of_the_wrong_type_is_a_bad_sample() {
        let (_root, set) = list(concat!(
            "{\"path\": \"nowhere.png\"}\n",
            "{\"path\": \"b\", \"key\": \"folder\"}\n",
            "{\"path\": \"a.png\", \"label\": \"cat\"}\n",
            "{\"path\": \"a.png\", \"label\": 1.5}\n",
            "{\"path\": \"a.png\", \"text\": [1]}\n",
        ));
        let reasons: Vec<String> = all(&set).into_iter().map(|sample| sample.image.unwrap_err()).collect();
        for (reason, part) in reasons.iter().zip(["cannot find it", "is a folder", "\"cat\"", "1.5", "[1]"]) {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(reasons.len(), 5);
    }

    #[test]
    fn broken_lines_are_named() {
        for (line, parts) in [
            ("{\"path\": ", ["no JSON object", "column"]),
            ("[\"a.png\"]", ["no JSON object", "write one object a line"]),
            ("{\"label\": 1}", ["no path", "file_name"]),
            ("{\"path\": 7}", ["no path", "file_name"]),
            ("{\"path\": \"\"}", ["no path", "file_name"]),
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
