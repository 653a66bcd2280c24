//! Labels, texts and lists of classes as the input has them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::data::DataError;
use crate::data::samples::key::composed;
use pixtok_base::Carried;

/// The mark that some programs write at the start of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A label as the input has it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::data) enum Raw {
    Whole(i128),
    Real(f64),
    Word(String),
    /// Something that cannot be a label, described in words.
    Other(&'static str),
}

impl Raw {
    /// Converts a JSON value; `None` for null.
    pub(in crate::data::samples) fn of_json(value: &RawValue) -> Option<Raw> {
        let text = value.get();
        Some(match text.as_bytes().first() {
            Some(b'n') => return None,
            Some(b't') => Raw::Whole(1),
            Some(b'f') => Raw::Whole(0),
            Some(b'"') => serde_json::from_str(text).map_or(Raw::Other("half a character"), Raw::Word),
            Some(b'[') => Raw::Other("a list"),
            Some(b'{') => Raw::Other("an object"),
            _ => match (text.parse(), text.parse()) {
                (Ok(whole), _) => Raw::Whole(whole),
                (Err(_), Ok(real)) => Raw::Real(real),
                (Err(_), Err(_)) => Raw::Other("no number"),
            },
        })
    }

    /// Whether it means "no label".
    pub(super) fn is_none(&self) -> bool {
        match self {
            Raw::Real(real) => real.is_nan(),
            Raw::Word(word) => word.trim().is_empty(),
            Raw::Whole(_) | Raw::Other(_) => false,
        }
    }

    /// Its value, if it is a whole number.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Raw::Whole(whole) => i64::try_from(*whole).ok(),
            // Below 2^63 every whole float is exact as an integer.
            Raw::Real(real) => (real.fract() == 0.0 && real.abs() < 2f64.powi(63)).then_some(*real as i64),
            Raw::Word(word) => spelt(word),
            Raw::Other(_) => None,
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Raw::Whole(whole) => whole.to_string(),
            Raw::Real(real) => real.to_string(),
            Raw::Word(word) => format!("{:?}", word.chars().take(40).collect::<String>()),
            Raw::Other(words) => (*words).to_owned(),
        }
    }
}

/// The whole number that `word` spells: digits, with an optional sign before them, and optionally a
/// point and zeros after them. `1e3` and `inf` do not count, since they could be names.
pub(super) fn spelt(word: &str) -> Option<i64> {
    let word = word.trim();
    let (whole, rest) = word.split_once('.').unwrap_or((word, ""));
    if rest.bytes().any(|byte| byte != b'0') { None } else { whole.parse().ok() }
}

/// Whether `word` spells a decimal number: digits with a point among them, and an optional sign.
pub(super) fn is_decimal(word: &str) -> bool {
    let word = word.trim();
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let of_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    whole.len() + rest.len() > 0 && of_digits(whole) && of_digits(rest)
}

/// Class names in the order of a file from the user.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
}

impl Classes {
    /// Reads a file with one name per line.
    ///
    /// # Errors
    /// If the file cannot be read, a line is empty or a name occurs twice.
    pub fn read(path: &Path) -> Result<Classes, DataError> {
        let text =
            fs::read_to_string(path).map_err(|source| DataError::File { path: path.to_owned(), source })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
        let names: Vec<String> = text.lines().map(|line| composed(line.trim()).into_owned()).collect();
        let mut seen = HashMap::new();
        for (line, name) in (1..).zip(&names) {
            let bad = |reason| DataError::BadLine { path: path.to_owned(), line, reason };
            if name.is_empty() {
                return Err(bad("it is empty; write the name of a class on each line".to_owned()));
            }
            if let Some(earlier) = seen.insert(name, line) {
                return Err(bad(format!("{name:?} is on line {earlier} too; name each class once")));
            }
        }
        if names.is_empty() {
            let reason = "not a class name; write one per line".to_owned();
            return Err(DataError::BadLine { path: path.to_owned(), line: 1, reason });
        }
        Ok(Classes { path: path.to_owned(), names })
    }
}

/// Parses the JSON object in a file's content. Also returns the number of values in it that are not
/// finite.
///
/// # Errors
/// A message, if it is not one.
pub(in crate::data::samples) fn object_in(bytes: &[u8]) -> Result<(Carried, u64), String> {
    Carried::parse_finite(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)).map_err(|error| {
        if error.is_data() { "the JSON is not an object".to_owned() } else { format!("broken JSON: {error}") }
    })
}

/// Parses the label in a file's content.
///
/// # Errors
/// A message, if it is not text.
pub(in crate::data::samples) fn word(bytes: Vec<u8>) -> Result<Raw, String> {
    let text = String::from_utf8(bytes).map_err(|_| "the label is not UTF-8".to_owned())?;
    let word = text.trim_start_matches('\u{feff}').trim();
    if word.contains(char::is_control) {
        return Err("the label is not text: it has control characters".to_owned());
    }
    Ok(Raw::Word(word.to_owned()))
}

/// Parses the caption in a file's content.
///
/// # Errors
/// A message, if it is not text.
pub(in crate::data::samples) fn caption(bytes: Vec<u8>) -> Result<String, String> {
    let mut text = String::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned())?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}
