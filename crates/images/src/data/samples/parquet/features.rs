//! What Hugging Face's `datasets` stores in a file about its columns.

use ::parquet::file::metadata::FileMetaData;
use serde_json::{Map, Value};

/// The declared features of columns; empty if the file has none.
#[derive(Debug, Default)]
pub(super) struct Features {
    features: Map<String, Value>,
    /// The class names of columns.
    classes: Vec<(String, Vec<String>)>,
}

impl Features {
    pub(super) fn of(file: &FileMetaData) -> Features {
        let pairs = file.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
        let text = pairs.iter().find(|pair| pair.key == "huggingface").and_then(|pair| pair.value.as_deref());
        let info: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let Some(features) = info.pointer("/info/features").and_then(Value::as_object) else {
            return Features::default();
        };
        let names = |feature: &Value| -> Option<Vec<String>> {
            let names = feature.get("names")?.as_array()?;
            let names: Option<Vec<String>> =
                names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
            names.filter(|_| is_a(feature, "ClassLabel"))
        };
        let classes =
            features.iter().filter_map(|(name, feature)| Some((name.clone(), names(feature)?))).collect();
        Features { features: features.clone(), classes }
    }

    /// Whether the column is declared to hold images.
    pub(super) fn is_image(&self, name: &str) -> bool {
        self.features.get(name).is_some_and(|feature| is_a(feature, "Image"))
    }

    /// The class names of a column, in order.
    pub(super) fn classes(&self, name: &str) -> Option<&[String]> {
        self.classes.iter().find(|(column, _)| column == name).map(|(_, names)| names.as_slice())
    }

    /// The column with class names, if there is exactly one.
    pub(super) fn only_class_label(&self) -> Option<&str> {
        match self.classes.as_slice() {
            [(name, _)] => Some(name),
            _ => None,
        }
    }
}

fn is_a(feature: &Value, kind: &str) -> bool {
    feature.get("_type").and_then(Value::as_str) == Some(kind)
}
