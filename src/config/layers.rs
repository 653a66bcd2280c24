//! From a TOML text and overrides to a typed config, strictly.

use serde::de::DeserializeOwned;
use toml::Table;

use super::error::{ConfigError, Origin};
use super::finding::Finding;
use super::overrides;
use super::problem::read_table;

/// Reads `text`, applies `overrides` (each `key=value`) in order, and makes a `T` of it. `origin` is what errors
/// call the text: its path. Also returns notes for the user.
///
/// A key is dotted, a value is TOML, or a string where it is no TOML. Setting the `kind` of a table alone drops
/// those of its keys that the new kind does not have, and a note names them; a key that is set after must fit.
///
/// # Errors
/// [`ConfigError`], for the first thing that is wrong.
pub fn read<T: DeserializeOwned>(
    text: &str,
    origin: &str,
    overrides: &[String],
) -> Result<(T, Vec<String>), ConfigError> {
    let mut table: Table = text.parse().map_err(|error| syntax_error(text, origin, &error))?;
    let mut applied = overrides::apply(&mut table, overrides)?;
    loop {
        let (path, problem) = match read_table(&table) {
            Ok(config) => return Ok((config, applied.notes())),
            Err(found) => found,
        };
        let finding = Finding::new::<T>(&table, &path, problem);
        let dropped = finding.unknown_key().is_some_and(|key| applied.drop_stale(&mut table, key));
        if !dropped {
            let origin = applied.origin_of(finding.key()).unwrap_or_else(|| Origin::File(origin.into()));
            return Err(finding.into_error(origin));
        }
    }
}

fn syntax_error(text: &str, origin: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ConfigError::Syntax {
        origin: origin.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: error.message().replace('\n', ", "),
        text: text[line_start..].lines().next().unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests;
