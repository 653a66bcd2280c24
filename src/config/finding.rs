//! Where exactly a config is wrong.
//!
//! serde reads an internally tagged enum (`kind = "…"`) from a buffer, in which it knows no keys: an error inside
//! one is placed at its table. [`Finding`] finds the key by trial: what makes the same error go away when it is
//! taken out, or put in, is what the error is about. toml's spans would not spare the trial: that
//! buffer drops them too, and a value of `--set` has no place in the file.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

use super::error::{ConfigError, Origin};
use super::keys::{Key, child, table_at, table_at_mut, value_at};
use super::overrides::KIND;
use super::problem::{Problem, read_table};
use super::suggest::nearest;

/// One problem of a config, with its place.
#[derive(Debug)]
pub(super) struct Finding {
    problem: Problem,
    /// From the root, as far as names go.
    key: Key,
    /// With the position in a list, if there is one: what the user is told.
    shown: String,
    /// The value at `key`.
    value: Option<Value>,
    /// The kinds or variants that a missing key could be.
    choices: Vec<String>,
}

impl Finding {
    /// Places the `problem` that reading `root` as a `T` met at `path`.
    pub(super) fn new<T: DeserializeOwned>(root: &Table, path: &Path, problem: Problem) -> Finding {
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
            Problem::UnknownField { field, .. } if !ends_in(path, field) => format!("{path}.{field}"),
            _ => path.to_string(),
        };
        // Of an item in a list, serde's own words are closer than the whole list.
        let value = value_at(root, &key).filter(|_| !beyond_names).cloned();
        Finding { problem, key, shown, value, choices }
    }

    /// The key, if what is wrong is that nobody knows it.
    pub(super) fn unknown_key(&self) -> Option<&Key> {
        matches!(self.problem, Problem::UnknownField { .. }).then_some(&self.key)
    }

    /// Where the problem is.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// The sentence for the user; `origin` is the file or flag that `key` comes from.
    pub(super) fn into_error(self, origin: Origin) -> ConfigError {
        let key = self.shown;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let near =
            |word: &str, names: &[&'static str]| nearest(word, names.iter().copied()).map(str::to_owned);
        match self.problem {
            Problem::UnknownField { field, allowed } => {
                let mut sorted = owned(allowed);
                sorted.sort_unstable();
                ConfigError::UnknownKey { origin, key, nearest: near(&field, allowed), allowed: sorted }
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

/// The names on `path`, and whether it goes on into a list.
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
    matches!(path.iter().last(), Some(Segment::Map { key }) if key == name)
}

fn problem_of<T: DeserializeOwned>(root: &Table) -> Option<Problem> {
    read_table::<T>(root).err().map(|(_, problem)| problem)
}

/// The deepest key from `key` downwards without which `problem` would not be there.
fn culprit<T: DeserializeOwned>(root: &Table, mut key: Key, problem: &Problem) -> Key {
    while let Some(name) = culprit_in::<T>(root, &key, problem) {
        key.push(name);
    }
    key
}

/// Takes the keys of the table at `key` out one after the other, and returns the one that took the problem along.
/// They stay out: of two keys with the very same problem, the later one then shows it.
fn culprit_in<T: DeserializeOwned>(root: &Table, key: &Key, problem: &Problem) -> Option<String> {
    let mut names: Vec<String> = table_at(root, key)?.keys().cloned().collect();
    // Without its kind a table is not read at all, which hides every other problem.
    names.sort_by_key(|name| name == KIND);
    let mut trial = root.clone();
    names.into_iter().find(|name| {
        if let Some(table) = table_at_mut(&mut trial, key) {
            table.remove(name);
        }
        problem_of::<T>(&trial).as_ref() != Some(problem)
    })
}

/// The table at `key`, or the one below it, that lacks `field`: where putting it in changes the problem.
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

/// What is wrong once `field` is put into the table at `key`, with a value that is no choice of anything.
fn problem_with<T: DeserializeOwned>(root: &Table, key: &Key, field: &str) -> Option<Problem> {
    let mut trial = root.clone();
    table_at_mut(&mut trial, key)?.insert(field.to_owned(), Value::String(String::new()));
    problem_of::<T>(&trial)
}

/// The choices that `field` would have there, if it is a choice.
fn choices_of<T: DeserializeOwned>(root: &Table, key: &Key, field: &str) -> Vec<String> {
    match problem_with::<T>(root, key, field) {
        Some(Problem::UnknownVariant { variant, allowed }) if variant.is_empty() => {
            allowed.iter().map(|choice| (*choice).to_owned()).collect()
        }
        _ => Vec::new(),
    }
}
