//! From a TOML text and overrides to a typed config, strictly.

use serde::de::DeserializeOwned;
use toml::Table;

use super::error::{ConfigError, Origin};
use super::locate_error::locate_error;
use super::overrides;
use super::problem::read_table;

/// Reads `text`, applies `overrides` (each `key=value`) in order, and deserializes the result to a
/// `T`. `origin` names the text in errors: its path. Also returns notes for the user.
///
/// Keys are dotted. A value is TOML; if it is not valid TOML, it is a string. Setting only the
/// `kind` of a table drops the keys of the table that the new kind does not have, and a note names
/// them. A key that is set after that must exist in the new kind.
///
/// # Errors
/// [`ConfigError`], for the first error that is found.
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
        let located = locate_error::<T>(&table, &path, problem);
        let dropped = located.unknown_key().is_some_and(|key| applied.drop_stale(&mut table, key));
        if !dropped {
            let origin = applied.origin_of(located.key()).unwrap_or_else(|| Origin::File(origin.into()));
            return Err(located.into_error(origin));
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
