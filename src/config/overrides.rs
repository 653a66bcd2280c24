//! `key=value` overrides of a config, applied in order.

use toml::{Table, Value};

use super::error::{ConfigError, Origin};
use super::keys::{Key, child, table_at, table_at_mut, value_at};

/// The key that selects the kind of a table.
pub(super) const KIND: &str = "kind";

/// The record of the applied overrides.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Each key with the argument that set it, in order.
    arguments: Vec<(Key, String)>,
    /// The tables in which an override set only the kind, in order.
    switches: Vec<Switch>,
}

/// A table whose kind was changed. Its other keys may not exist in the new kind.
#[derive(Debug)]
struct Switch {
    /// The assignment as the note shows it: `quantizer.kind = "vq"`.
    assignment: String,
    /// Keys from before the switch that no later override has set.
    stale: Vec<Key>,
    /// The keys of `stale` that the new kind does not have, as far as they were dropped.
    dropped: Vec<String>,
}

impl Applied {
    /// The `--set` that gave `key` its value, if one did.
    pub(super) fn origin_of(&self, key: &[String]) -> Option<Origin> {
        let (_, argument) = self.arguments.iter().rev().find(|(set, _)| key.starts_with(set))?;
        Some(Origin::Set(argument.as_str().into()))
    }

    /// Removes the unknown `key` from `table` if it is left over from before a change of kind.
    /// Returns whether it did.
    pub(super) fn drop_stale(&mut self, table: &mut Table, key: &Key) -> bool {
        let Some(switch) = self.switches.iter_mut().rev().find(|switch| switch.stale.contains(key)) else {
            return false;
        };
        let Some((name, parents)) = key.split_last() else { return false };
        let removed = table_at_mut(table, parents).and_then(|parent| parent.remove(name));
        switch.dropped.push(key.join("."));
        removed.is_some()
    }

    /// Notes for the user: which keys were dropped with a change of kind.
    pub(super) fn notes(&self) -> Vec<String> {
        self.switches
            .iter()
            .filter(|switch| !switch.dropped.is_empty())
            .map(|switch| {
                format!(
                    "{}: dropped {}, which this kind does not have",
                    switch.assignment,
                    switch.dropped.join(", ")
                )
            })
            .collect()
    }
}

/// Applies each `key=value` to `table`. A value that is not valid TOML is a string. A table as
/// value replaces the whole table.
///
/// # Errors
/// [`ConfigError::Override`].
pub(super) fn apply(table: &mut Table, overrides: &[String]) -> Result<Applied, ConfigError> {
    let mut applied = Applied::default();
    for argument in overrides {
        let failed = |reason| ConfigError::Override { origin: Origin::Set(argument.as_str().into()), reason };
        let (key, value) = parse(argument).map_err(failed)?;
        for switch in &mut applied.switches {
            switch.stale.retain(|stale| !stale.starts_with(&key) && !key.starts_with(stale));
        }
        applied.switches.extend(switch_of(table, &key, &value));
        set(table, &key, value).map_err(failed)?;
        applied.arguments.push((key, argument.clone()));
    }
    Ok(applied)
}

/// The change of kind that setting `key` to `value` causes, if it causes one.
fn switch_of(table: &Table, key: &Key, value: &Value) -> Option<Switch> {
    let (name, parents) = key.split_last()?;
    if name != KIND || parents.is_empty() || value_at(table, key) == Some(value) {
        return None;
    }
    let others = table_at(table, parents)?.keys().filter(|other| *other != KIND);
    Some(Switch {
        assignment: format!("{} = {value}", key.join(".")),
        stale: others.map(|other| child(parents, other)).collect(),
        dropped: Vec::new(),
    })
}

fn parse(argument: &str) -> Result<(Key, Value), String> {
    let (key, text) = argument
        .split_once('=')
        .ok_or_else(|| "there is no '='; write key=value, for instance train.steps=600".to_owned())?;
    let key = names_of(key);
    let is_bare = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    if !key.iter().all(is_bare) {
        return Err("the key must be names joined by dots, for instance train.steps=600".to_owned());
    }
    let text = text.trim();
    Ok((key, text.parse().unwrap_or_else(|_| Value::String(text.to_owned()))))
}

fn names_of(key: &str) -> Key {
    key.trim().split('.').map(|name| name.trim().to_owned()).collect()
}

/// The key of a `key=value`.
pub(super) fn key_of(argument: &str) -> Option<Key> {
    Some(names_of(argument.split_once('=')?.0))
}

fn set(root: &mut Table, key: &Key, value: Value) -> Result<(), String> {
    let Some((last, parents)) = key.split_last() else { return Ok(()) };
    let mut table = root;
    for (depth, name) in parents.iter().enumerate() {
        let entry = table.entry(name.as_str()).or_insert_with(|| Value::Table(Table::new()));
        let found = entry.to_string();
        table = entry
            .as_table_mut()
            .ok_or_else(|| format!("{} is {found} and has no keys below it", key[..=depth].join(".")))?;
    }
    table.insert(last.clone(), value);
    Ok(())
}
