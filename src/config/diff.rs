//! How two configs differ, key by key.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

/// One key whose value is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Dotted, from the root.
    pub key: String,
    /// As TOML; nothing where the key was not.
    pub old: Option<String>,
    /// As TOML; nothing where the key is no more.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    /// `optimizer.lr: 0.002 -> 0.001`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(f, "{}: {} -> {}", self.key, shown(&self.old), shown(&self.new))
    }
}

/// All changes from `old` to `new`, sorted by key. Tables are compared by their keys, lists as wholes.
#[must_use]
pub fn diff(old: &Table, new: &Table) -> Vec<Change> {
    let (old, new) = (flattened(old), flattened(new));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Change { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() })
        .collect()
}

/// Dotted keys and their values as TOML.
pub(super) fn flattened(table: &Table) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    flatten_into(&mut flat, "", table);
    flat
}

fn flatten_into(flat: &mut BTreeMap<String, String>, prefix: &str, table: &Table) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten_into(flat, &format!("{key}."), inner),
            leaf => {
                flat.insert(key, leaf.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(old: &str, new: &str) -> Vec<String> {
        diff(&old.parse().unwrap(), &new.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn changes_are_flat_and_sorted() {
        let old = "seed = 1\n[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n[optimizer]\nlr = 0.002";
        let new = "seed = 1\n[quantizer]\nkind = \"vq\"\nlevels = [8, 6]\nema.decay = 0.99\n[optimizer]\nlr = 0.001";
        assert_eq!(
            lines(old, new),
            [
                "optimizer.lr: 0.002 -> 0.001",
                "quantizer.ema.decay: (not set) -> 0.99",
                "quantizer.kind: \"fsq\" -> \"vq\"",
                "quantizer.levels: [8, 5] -> [8, 6]",
            ]
        );
        assert!(lines(old, old).is_empty());
    }

    #[test]
    fn a_table_that_becomes_a_value_shows_on_both_sides() {
        assert_eq!(lines("a.b = 1", "a = 1"), ["a: (not set) -> 1", "a.b: 1 -> (not set)"]);
    }
}
