//! The differences between two configs, key by key.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::KeyPath;
use super::keys::value_at;

/// A key whose value differs, or a table whose kind differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The path from the root.
    pub path: KeyPath,
    /// The earlier value; absent if the key was not set.
    pub from: Option<Value>,
    /// The current value; absent if the key is not set any more.
    pub to: Option<Value>,
}

impl fmt::Display for Difference {
    /// `optimizer.lr: 0.002 -> 0.001`. A table whose kind differs is shown as it is now, since its
    /// earlier keys mean nothing in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_table = |side: &Option<Value>| side.as_ref().is_some_and(Value::is_table);
        if is_table(&self.from) || is_table(&self.to) {
            let now = self.to.as_ref().map(ToString::to_string).unwrap_or_default();
            return write!(f, "{}: {now}", self.path);
        }
        let shown = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "(not set)".to_owned(), ToString::to_string)
        };
        write!(f, "{}: {} -> {}", self.path, shown(&self.from), shown(&self.to))
    }
}

/// All differences of `new` from `old`, sorted by key. Tables are compared key by key, lists as a
/// whole.
#[must_use]
pub fn diff(old: &Table, new: &Table) -> Vec<Difference> {
    let (old, new) = (flattened(old), flattened(new));
    let mut paths: Vec<&KeyPath> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    // Compared as they are written, since NaN does not equal NaN.
    let written = |value: Option<&Value>| value.map(ToString::to_string);
    paths
        .into_iter()
        .map(|path| (path, old.get(path), new.get(path)))
        .filter(|(_, from, to)| written(*from) != written(*to))
        .map(|(path, from, to)| Difference { path: path.clone(), from: from.cloned(), to: to.cloned() })
        .collect()
}

/// The same as [`diff`], but a table whose kind differs counts as one difference, not one for each
/// of its keys. Such tables come first.
#[must_use]
pub fn diff_by_kind(old: &Table, new: &Table) -> Vec<Difference> {
    let single = diff(old, new);
    let replaced: Vec<KeyPath> =
        single.iter().filter_map(|difference| difference.path.table_of_kind()).collect();
    let is_outside = |path: &KeyPath| !replaced.iter().any(|table| path.is_below(table));
    let whole = replaced.iter().filter(|table| is_outside(table)).map(|table| {
        let side = |root| value_at(root, table.names()).cloned();
        Difference { path: table.clone(), from: side(old), to: side(new) }
    });
    let rest = single.iter().filter(|difference| is_outside(&difference.path)).cloned();
    whole.chain(rest).collect()
}

/// All keys with their values, except for keys of tables.
pub(super) fn flattened(table: &Table) -> BTreeMap<KeyPath, Value> {
    let mut flat = BTreeMap::new();
    flatten_into(&mut flat, &KeyPath::root(), table);
    flat
}

fn flatten_into(flat: &mut BTreeMap<KeyPath, Value>, at: &KeyPath, table: &Table) {
    for (name, value) in table {
        let path = at.child(name);
        match value {
            Value::Table(inner) => flatten_into(flat, &path, inner),
            leaf => {
                flat.insert(path, leaf.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::known;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn lines(old: &str, new: &str) -> Vec<String> {
        diff(&table(old), &table(new)).iter().map(ToString::to_string).collect()
    }

    fn lines_by_kind(old: &str, new: &str) -> Vec<String> {
        diff_by_kind(&table(old), &table(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_are_flat_and_sorted() {
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
    fn paths_sides_and_values_are_kept() {
        let found =
            diff(&table("data.image_size = [32, 48]\ndata.val = \"x\""), &table("model.strides = [2]"));
        assert!(found[0].path.is(known::DATA_IMAGE_SIZE) && found[1].path.is(known::DATA_VAL));
        assert!(found[2].path.is_in(known::MODEL) && !found[2].path.is(known::MODEL));
        assert_eq!(found[0].from, Some(Value::Array(vec![32.into(), 48.into()])));
        assert_eq!((&found[0].to, &found[2].from), (&None, &None));
        assert_eq!(found[2].to, Some(Value::Array(vec![2.into()])));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_table_that_becomes_a_value_shows_on_both_sides() {
        assert_eq!(lines("a.b = 1", "a = 1"), ["a: (not set) -> 1", "a.b: 1 -> (not set)"]);
    }

    #[test]
    fn lists_of_tables_are_compared_as_wholes() {
        let old = "[[augment]]\nkind = \"noise\"\nby = 1";
        let new = "[[augment]]\nkind = \"noise\"\nby = 2";
        assert_eq!(
            lines_by_kind(old, new),
            ["augment: [{ by = 1, kind = \"noise\" }] -> [{ by = 2, kind = \"noise\" }]"]
        );
    }

    #[test]
    fn values_are_the_same_if_they_are_written_the_same() {
        assert!(lines("a = nan\nb = inf", "a = nan\nb = inf").is_empty());
        assert_eq!(lines("a = 1\nb = 0.0", "a = 1.0\nb = -0.0"), ["a: 1 -> 1.0", "b: 0.0 -> -0.0"]);
    }

    #[test]
    fn another_kind_is_one_difference() {
        let old =
            "seed = 1\n[adversarial.loss]\nkind = \"hinge\"\n[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]";
        let new = "seed = 2\n[quantizer]\nkind = \"vq\"\nsize = 64\n[quantizer.update]\nkind = \"ema\"\ndecay = 0.5";
        assert_eq!(
            lines_by_kind(old, new),
            [
                "adversarial.loss: ",
                "quantizer: { kind = \"vq\", size = 64, update = { decay = 0.5, kind = \"ema\" } }",
                "seed: 1 -> 2",
            ]
        );
        let found = diff_by_kind(&table(old), &table(new));
        assert!(found[1].path.is(known::QUANTIZER) && found[1].path.is_in(known::QUANTIZER));
        // The change is within an inner table, not in the tables around it.
        let update =
            |kind: &str| format!("[quantizer]\nkind = \"vq\"\nsize = 64\nupdate = {{ kind = \"{kind}\" }}");
        assert_eq!(
            lines_by_kind(&update("ema"), &update("gradient").replace("64", "32")),
            ["quantizer.update: { kind = \"gradient\" }", "quantizer.size: 64 -> 32"]
        );
    }
}
