//! Finds the key of a config that an error is about.
//!
//! serde reads an internally tagged enum (`kind = "…"`) from a buffer that does not keep keys, so
//! an error inside one is placed at its table. [`locate_error`] finds the key by trial: if the same
//! error goes away when a key is removed, or added, the error is about that key. The spans of the
//! `toml` crate would not replace the trials: that buffer drops them too, and a value of `--set`
//! has no place in the file.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

use super::error::{ConfigError, Origin};
use super::key_path::{KeyPath, known};
use super::keys::{Key, child, table_at, table_at_mut, value_at};
use super::overrides::KIND;
use super::problem::{Problem, read_table};
use pixtok_base::suggest::nearest;

/// Of a network that lacks `tail_drop`, in place of a list of its keys.
const NO_SEQUENCE: &str = "it leaves out the last tokens of a sequence, and the tokens of this network are a grid; leave it \
    out, or choose kind = \"one-d\" (a pair of two such has it in model.decoder, and a residual quantizer has \
    quantizer.tail_drop for its stages)";

/// An error in a config, with the key that it is about.
#[derive(Debug)]
pub(super) struct LocatedError {
    problem: Problem,
    /// The names from the root to the key; positions in lists are left out.
    key: Key,
    /// The key as the user is told it, with the position in a list if there is one.
    shown: String,
    /// The value at `key`; none inside a list.
    value: Option<Value>,
    /// The kinds or variants that a missing key could have.
    choices: Vec<String>,
    /// Whether the table of an unknown key has a `kind` beside the keys that serde lists.
    tagged: bool,
}

/// Finds the key of the `problem` that reading `root` as a `T` met at `path`.
pub(super) fn locate_error<T: DeserializeOwned>(root: &Table, path: &Path, problem: Problem) -> LocatedError {
    let (entered, beyond_names) = names(path);
    let mut choices = Vec::new();
    let key = match &problem {
        Problem::Other(_) => entered,
        _ if beyond_names => entered,
        Problem::MissingField(field) => {
            let table = table_that_lacks::<T>(root, entered, &problem, field);
            choices = choices_of::<T>(root, &table, field);
            child(&table, field)
        }
        _ => culprit::<T>(root, entered, &problem),
    };
    let shown = match &problem {
        _ if !beyond_names => key.join("."),
        Problem::MissingField(field) => format!("{path}.{field}"),
        Problem::UnknownField { field, .. } if !ends_in(path, field) => {
            format!("{path}.{field}")
        }
        _ => path.to_string(),
    };
    // Inside a list, serde's own description is closer to the error than the whole list.
    let value = value_at(root, &key).filter(|_| !beyond_names).cloned();
    let tagged = matches!(problem, Problem::UnknownField { .. }) && is_tagged::<T>(root, &key);
    LocatedError { problem, key, shown, value, choices, tagged }
}

impl LocatedError {
    /// The key, if the error is that it is unknown.
    pub(super) fn unknown_key(&self) -> Option<&Key> {
        matches!(self.problem, Problem::UnknownField { .. }).then_some(&self.key)
    }

    /// The key that the error is about.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// The error for the user; `origin` is the file or flag that `key` comes from.
    pub(super) fn into_error(self, origin: Origin) -> ConfigError {
        let key = self.shown;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let near =
            |word: &str, names: &[&'static str]| nearest(word, names.iter().copied()).map(str::to_owned);
        let of_network = KeyPath::from(self.key.join("."));
        match self.problem {
            Problem::UnknownField { field, .. }
                if field == known::TAIL_DROP && of_network.is_in(known::MODEL) =>
            {
                ConfigError::Invalid { origin, key, reason: NO_SEQUENCE.to_owned() }
            }
            Problem::UnknownField { field, allowed } => {
                let kind = self.tagged.then_some(KIND).filter(|kind| !allowed.contains(kind));
                let mut names: Vec<&'static str> = allowed.iter().copied().chain(kind).collect();
                let nearest = near(&field, &names);
                names.sort_unstable();
                ConfigError::UnknownKey { origin, key, nearest, allowed: owned(&names) }
            }
            Problem::UnknownVariant { variant, allowed } => ConfigError::UnknownChoice {
                origin,
                key,
                nearest: near(&variant, allowed),
                value: variant,
                allowed: owned(allowed),
            },
            Problem::MissingField(_) => ConfigError::Missing { origin, key, choices: self.choices },
            Problem::WrongType { found, expected } => {
                let in_a_list = matches!(self.value, Some(Value::Array(_)));
                let expected = if in_a_list && !found.is_list && !expected.is_list {
                    format!("a list, each item {}", expected.words)
                } else {
                    expected.words
                };
                let value = self.value.map_or(found.words, |value| value.to_string());
                ConfigError::WrongType { origin, key, value, expected }
            }
            Problem::WrongLength { length, expected } => {
                let value = self.value.map_or_else(|| format!("{length} items"), |value| value.to_string());
                ConfigError::WrongType { origin, key, value, expected }
            }
            Problem::Other(reason) => ConfigError::Invalid { origin, key, reason },
        }
    }
}

/// The names on `path`, and whether the path continues into a list.
fn names(path: &Path) -> (Key, bool) {
    let names: Key = path
        .iter()
        .map_while(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        })
        .collect();
    let beyond = path.iter().nth(names.len()).is_some_and(|next| matches!(next, Segment::Seq { .. }));
    (names, beyond)
}

/// Whether the last on `path` is this name.
fn ends_in(path: &Path, name: &str) -> bool {
    matches!(path.iter().next_back(), Some(Segment::Map { key }) if key == name)
}

fn problem_of<T: DeserializeOwned>(root: &Table) -> Option<Problem> {
    read_table::<T>(root).err().map(|(_, problem)| problem)
}

/// The deepest key at or below `key` whose removal makes `problem` go away.
fn culprit<T: DeserializeOwned>(root: &Table, mut key: Key, problem: &Problem) -> Key {
    while let Some(name) = culprit_in::<T>(root, &key, problem) {
        key.push(name);
    }
    key
}

/// Removes the keys of the table at `key` one after the other, and returns the one whose removal
/// makes the problem go away. Removed keys stay out: if two keys have the same problem, it goes
/// away only with the second.
fn culprit_in<T: DeserializeOwned>(root: &Table, key: &Key, problem: &Problem) -> Option<String> {
    let mut names: Vec<String> = table_at(root, key)?.keys().cloned().collect();
    // Without its kind a table is not read at all, which hides every other problem. So kind comes
    // last.
    names.sort_by_key(|name| name == KIND);
    let mut trial = root.clone();
    names.into_iter().find(|name| {
        if let Some(table) = table_at_mut(&mut trial, key) {
            table.remove(name);
        }
        problem_of::<T>(&trial).as_ref() != Some(problem)
    })
}

/// Whether the table of the unknown `key` is an internally tagged enum: without its `kind` it is
/// not read at all. serde does not list `kind` among the keys that such a table allows.
fn is_tagged<T: DeserializeOwned>(root: &Table, key: &Key) -> bool {
    let Some((_, parents)) = key.split_last() else { return false };
    let mut trial = root.clone();
    let removed = table_at_mut(&mut trial, parents).and_then(|table| table.remove(KIND));
    removed.is_some() && problem_of::<T>(&trial) == Some(Problem::MissingField(KIND))
}

/// The table at `key`, or the one below it, that lacks `field`: the table where adding the field
/// changes the problem.
fn table_that_lacks<T: DeserializeOwned>(root: &Table, key: Key, problem: &Problem, field: &str) -> Key {
    let mut candidates = vec![key.clone()];
    while let Some(candidate) = candidates.pop() {
        let Some(table) = table_at(root, &candidate) else { continue };
        let tried = problem_with::<T>(root, &candidate, field);
        let is_foreign =
            matches!(&tried, Some(Problem::UnknownField { field: unknown, .. }) if unknown == field);
        if !table.contains_key(field) && tried.as_ref() != Some(problem) && !is_foreign {
            return candidate;
        }
        candidates.extend(
            table.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| child(&candidate, name)),
        );
    }
    key
}

/// The problem that is left when `field` is added to the table at `key`, with an empty string as
/// its value.
fn problem_with<T: DeserializeOwned>(root: &Table, key: &Key, field: &str) -> Option<Problem> {
    let mut trial = root.clone();
    table_at_mut(&mut trial, key)?.insert(field.to_owned(), Value::String(String::new()));
    problem_of::<T>(&trial)
}

/// The choices for `field` in the table at `key`, if its value is one of a few.
fn choices_of<T: DeserializeOwned>(root: &Table, key: &Key, field: &str) -> Vec<String> {
    match problem_with::<T>(root, key, field) {
        Some(Problem::UnknownVariant { variant, allowed }) if variant.is_empty() => {
            allowed.iter().map(|choice| (*choice).to_owned()).collect()
        }
        _ => Vec::new(),
    }
}
