//! Extra fields of an image: a JSON object whose values keep their original spelling, so that no
//! number is rounded.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Words that some programs write in JSON for numbers that are not finite.
const NOT_FINITE: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// A JSON object. Its fields are sorted by name, and its values are kept as text.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Box<RawValue>>")]
pub struct Carried(BTreeMap<String, Box<RawValue>>);

impl Carried {
    /// Parses the text of an object.
    ///
    /// # Errors
    /// If it is not JSON, or not an object ([`serde_json::Error::is_data`]).
    pub fn parse(text: &[u8]) -> Result<Carried, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Parses like [`Carried::parse`], but replaces each NaN, Infinity and -Infinity outside
    /// strings by null. Also returns how many there were.
    ///
    /// # Errors
    /// The same as [`Carried::parse`].
    pub fn parse_finite(text: &[u8]) -> Result<(Carried, u64), serde_json::Error> {
        Carried::parse(text).map(|object| (object, 0)).or_else(|error| {
            let (finite, count) = finite(text);
            if count == 0 { Err(error) } else { Ok((Carried::parse(&finite)?, count)) }
        })
    }

    /// Whether the object has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|value| &**value)
    }

    /// Removes a field and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0.remove(name)
    }

    /// Adds a field, or replaces the field of that name.
    pub fn insert(&mut self, name: &str, value: &Value) {
        // The text of a value is JSON.
        if let Ok(value) = RawValue::from_string(value.to_string()) {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Renames a field.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.0.remove(from) {
            self.0.insert(to.to_owned(), value);
        }
    }
}

impl From<BTreeMap<String, Box<RawValue>>> for Carried {
    fn from(fields: BTreeMap<String, Box<RawValue>>) -> Carried {
        Carried(fields.into_iter().map(|(name, value)| (name, compact(value))).collect())
    }
}

impl PartialEq for Carried {
    fn eq(&self, other: &Carried) -> bool {
        let pairs = || self.0.iter().zip(&other.0);
        self.0.len() == other.0.len() && pairs().all(|((a, x), (b, y))| a == b && x.get() == y.get())
    }
}

impl fmt::Display for Carried {
    /// Writes the object as JSON on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}:{}", Value::from(name.as_str()), value.get())?;
        }
        f.write_str("}")
    }
}

/// Tracks which bytes of a JSON text lie within strings.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Moves past a byte, and returns whether it lies within a string.
    fn pass(&mut self, byte: u8) -> bool {
        let inside = self.inside;
        if self.escaped {
            self.escaped = false;
        } else if inside && byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.inside = !inside;
        }
        inside
    }
}

/// Removes white space outside strings, so that the value fits on one line.
fn compact(value: Box<RawValue>) -> Box<RawValue> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if !value.get().bytes().any(is_space) {
        return value;
    }
    let mut strings = Strings::default();
    let mut text = value.get().to_owned();
    // A character of several bytes is not a quote, a backslash or a space.
    text.retain(|c| {
        let byte = u8::try_from(c).unwrap_or(b'x');
        strings.pass(byte) || !is_space(byte)
    });
    RawValue::from_string(text).unwrap_or(value)
}

/// `text` with null for each number that is not finite, and how many there were.
fn finite(text: &[u8]) -> (Vec<u8>, u64) {
    let (mut strings, mut finite, mut count) = (Strings::default(), Vec::with_capacity(text.len()), 0);
    let mut at = 0;
    while at < text.len() {
        match NOT_FINITE.iter().find(|word| !strings.inside && text[at..].starts_with(word)) {
            Some(word) => {
                finite.extend_from_slice(b"null");
                count += 1;
                at += word.len();
            }
            None => {
                strings.pass(text[at]);
                finite.push(text[at]);
                at += 1;
            }
        }
    }
    (finite, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_written() {
        // As a program may write it, on several lines.
        let text = "{\"z\": 1.50, \"big\": [ 123456789012345678901234567890 ,\n1e999, -0],\t\"n\": {\"b\": 1, \"a\": \" \\\" x \\\\\"}, \
                    \"half\": \"\\ud800\"}";
        let object = Carried::parse(text.as_bytes()).unwrap();
        let line = "{\"big\":[123456789012345678901234567890,1e999,-0],\"half\":\"\\ud800\",\"n\":{\"b\":1,\"a\":\" \\\" x \\\\\"},\"z\":1.50}";
        assert_eq!(object.to_string(), line);
        assert_eq!(serde_json::to_string(&object).unwrap(), line);
        assert_eq!(Carried::parse(line.as_bytes()).unwrap(), object);
        let rounded = line.replace("1.50", "1.5");
        assert_ne!(Carried::parse(rounded.as_bytes()).unwrap(), object);
    }

    #[test]
    fn what_is_no_number_is_null_outside_strings() {
        let parse = |text: &str| Carried::parse_finite(text.as_bytes());
        let (object, count) =
            parse("{\"a\": NaN, \"b\": [-Infinity,Infinity , \"NaN\"], \"NaN\": \"\\\"-Infinity\"}").unwrap();
        assert_eq!(
            (object.to_string().as_str(), count),
            ("{\"NaN\":\"\\\"-Infinity\",\"a\":null,\"b\":[null,null,\"NaN\"]}", 3)
        );
        assert_eq!(parse("{\"a\": \"NaN\"}").unwrap().1, 0);
        for broken in ["{\"a\": -NaN}", "{\"a\": NaN1}", "{\"a\": +Infinity}", "{\"a\": nan}", "{\"a\": NaN"]
        {
            assert!(
                parse(broken).unwrap_err().is_syntax() || parse(broken).unwrap_err().is_eof(),
                "{broken}"
            );
        }
        assert!(parse("[NaN]").unwrap_err().is_data());
    }
}
