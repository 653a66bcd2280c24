//! A TOML value for serde to read, with the errors of whoever reads it.

use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

/// A TOML value as a serde deserializer.
#[derive(Debug)]
pub struct Node<E>(Value, PhantomData<E>);

impl<E> Node<E> {
    /// Of this value.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value, PhantomData)
    }
}

impl<'de, E: Error> Deserializer<'de> for Node<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Datetime(datetime) => visitor.visit_string(datetime.to_string()),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Node::<E>::new));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Table(table) => visitor.visit_map(entries(table)),
        }
    }

    /// TOML has no null: a key that is present is set.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        match self.0 {
            Value::String(variant) => {
                let variant: StringDeserializer<E> = variant.into_deserializer();
                visitor.visit_enum(variant)
            }
            Value::Table(table) => visitor.visit_enum(MapAccessDeserializer::new(entries(table))),
            other => Err(wrong_type(&other, &format!("one of {}", variants.join(", ")))),
        }
    }

    /// A derived struct would accept a list as its fields in order. A config names its fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        match self.0 {
            Value::Table(table) => visitor.visit_map(entries(table)),
            other => Err(wrong_type(&other, "a table")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// What [`wrong_type`] calls a list.
pub const LIST: &str = "array";

fn wrong_type<E: Error>(found: &Value, expected: &str) -> E {
    E::invalid_type(Unexpected::Other(found.type_str()), &expected)
}

fn entries<'de, E: Error>(table: Table) -> MapDeserializer<'de, impl Iterator<Item = (String, Node<E>)>, E> {
    MapDeserializer::new(table.into_iter().map(|(key, value)| (key, Node::new(value))))
}

impl<'de, E: Error> IntoDeserializer<'de, E> for Node<E> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
