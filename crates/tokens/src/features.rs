//! The types of columns in the form that Python's `datasets` takes (`Features.from_dict`).

use std::collections::HashSet;

use serde_json::{Value, json};

use super::Layout;

/// A column of single values.
pub(super) fn value(dtype: &str) -> Value {
    json!({ "dtype": dtype, "_type": "Value" })
}

/// The ids of a row: a list, with its length if all rows have the same.
pub(super) fn ids(layout: &Layout) -> Value {
    // `Sequence` is what every version of `datasets` knows. From 4 on it reads it as `List`.
    let mut list = json!({ "feature": value(layout.dtype.name()), "_type": "Sequence" });
    if let Some(length) = layout.length {
        list["length"] = length.into();
    }
    list
}

/// The labels: classes by name, or plain numbers.
pub(super) fn label(layout: &Layout) -> Value {
    let distinct: HashSet<&String> = layout.classes.iter().collect();
    // `ClassLabel` refuses a name that occurs twice.
    if layout.classes.is_empty() || distinct.len() < layout.classes.len() {
        return value("int64");
    }
    json!({ "names": layout.classes, "_type": "ClassLabel" })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn lists_have_their_length_and_labels_their_names() {
        let mut layout = fixture::layouts()[0].clone();
        assert_eq!(
            ids(&layout),
            json!({ "feature": { "dtype": "uint16", "_type": "Value" }, "length": 35, "_type": "Sequence" })
        );
        assert_eq!(ids(&fixture::ragged_layouts()[0]).get("length"), None);
        assert_eq!(label(&layout), json!({ "dtype": "int64", "_type": "Value" }));
        layout.classes = vec!["b".into(), "a".into()];
        assert_eq!(label(&layout), json!({ "names": ["b", "a"], "_type": "ClassLabel" }));
        layout.classes.push("b".into());
        assert_eq!(label(&layout), json!({ "dtype": "int64", "_type": "Value" }));
    }
}
