//! Deserializes a config, with structured errors.
//!
//! serde reports errors through the deserializer's own error type, and TOML's error is a finished
//! sentence. [`Problem`] keeps the unknown name and the allowed names, so that a suggestion can be
//! made from them. It also passes through the buffer that serde uses for internally tagged enums,
//! in which positions are lost.

use std::fmt::{self, Display};

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

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
        let found = Type { words: found.to_string(), is_list: matches!(found, Unexpected::Seq) };
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
    serde_path_to_error::deserialize(Node(Value::Table(table.clone())))
        .map_err(|error| (error.path().clone(), error.into_inner()))
}

/// A TOML value as a serde deserializer.
struct Node(Value);

impl<'de> Deserializer<'de> for Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Datetime(datetime) => visitor.visit_string(datetime.to_string()),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Node));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Table(table) => visitor.visit_map(entries(table)),
        }
    }

    /// TOML has no null: a key that is present is set.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            Value::Table(table) => visitor.visit_enum(MapAccessDeserializer::new(entries(table))),
            other => Err(wrong_type(&other, format!("one of {}", variants.join(", ")))),
        }
    }

    /// A derived struct would accept a list as its fields in order. A config names its fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Table(table) => visitor.visit_map(entries(table)),
            other => Err(wrong_type(&other, "a table".to_owned())),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

fn wrong_type(found: &Value, expected: String) -> Problem {
    let found = Type { words: found.type_str().to_owned(), is_list: found.is_array() };
    Problem::WrongType { found, expected: Type { words: expected, is_list: false } }
}

fn entries<'de>(table: Table) -> MapDeserializer<'de, impl Iterator<Item = (String, Node)>, Problem> {
    MapDeserializer::new(table.into_iter().map(|(key, value)| (key, Node(value))))
}

impl<'de> IntoDeserializer<'de, Problem> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
