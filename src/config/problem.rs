//! Deserializes a config, with structured errors.
//!
//! serde reports errors through the deserializer's own error type, and TOML's error is a finished
//! sentence. [`Problem`] keeps the unknown name and the allowed names, so that a suggestion can be
//! made from them. It also passes through the buffer that serde uses for internally tagged enums,
//! in which positions are lost.

use std::fmt::{self, Display};

use serde::de::{self, DeserializeOwned, Expected, Unexpected};
use toml::{Table, Value};

use crate::toml_value::{LIST, Node};

/// An error of deserialization, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    UnknownField { field: String, allowed: &'static [&'static str] },
    UnknownVariant { variant: String, allowed: &'static [&'static str] },
    MissingField(&'static str),
    WrongType { found: Type, expected: Type },
    WrongLength { length: usize, expected: String },
    Other(String),
}

/// A type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    /// For a user.
    pub words: String,
    /// Whether it is a list.
    pub is_list: bool,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Problem::Other(message.to_string())
    }

    fn unknown_field(field: &str, allowed: &'static [&'static str]) -> Self {
        Problem::UnknownField { field: field.to_owned(), allowed }
    }

    fn unknown_variant(variant: &str, allowed: &'static [&'static str]) -> Self {
        Problem::UnknownVariant { variant: variant.to_owned(), allowed }
    }

    fn missing_field(field: &'static str) -> Self {
        Problem::MissingField(field)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let is_list = matches!(found, Unexpected::Seq | Unexpected::Other(LIST));
        let found = Type { words: found.to_string(), is_list };
        Problem::WrongType { found, expected: expected_type(&expected.to_string()) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Problem::WrongLength { length, expected: expected_type(&expected.to_string()).words }
    }
}

/// A type by what serde and Rust call it, in the words of a user of TOML.
fn expected_type(expected: &str) -> Type {
    let words = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a string" | "path string" | "variant identifier" => "a string in quotes",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.starts_with("internally tagged enum ") => {
            "a table that names its kind: { kind = \"...\" }"
        }
        _ if expected.starts_with("enum ") => "a string in quotes",
        // The two spellings are for a list that is too short and one that is too long.
        _ => match length_of(expected) {
            Some(length) => return Type { words: format!("a list of {length} numbers"), is_list: true },
            None => expected,
        },
    };
    Type { words: words.to_owned(), is_list: expected == "a sequence" }
}

/// The length in serde's description of a list of fixed length: `an array of length 2`, `2 elements
/// in sequence`.
fn length_of(expected: &str) -> Option<String> {
    let length = expected.strip_prefix("an array of length ").or_else(|| {
        expected
            .strip_suffix(" elements in sequence")
            .or_else(|| expected.strip_suffix(" element in sequence"))
    })?;
    let words = ["no", "one", "two", "three", "four"];
    let length: usize = length.parse().ok()?;
    Some(words.get(length).map_or_else(|| length.to_string(), |word| (*word).to_owned()))
}

/// Deserializes `table` to a `T`.
///
/// # Errors
/// The problem, and the path of keys that serde had entered.
pub(super) fn read_table<T: DeserializeOwned>(
    table: &Table,
) -> Result<T, (serde_path_to_error::Path, Problem)> {
    serde_path_to_error::deserialize(Node::<Problem>::new(Value::Table(table.clone())))
        .map_err(|error| (error.path().clone(), error.into_inner()))
}
