//! Errors in configs, each with the key and the remedy.

use std::path::PathBuf;
use std::{fmt, mem};

use pixtok_base::{Class, Classified};

/// What gave a value of a config; an error names it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file at this path.
    File(Box<str>),
    /// A `--set` with this `key=value`.
    Set(Box<str>),
    /// The same in the `set` of a sweep's file.
    SweepSet(Box<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Set(argument) => write!(f, "--set {argument}"),
            Self::SweepSet(argument) => write!(f, "set {argument}"),
        }
    }
}

/// A config that cannot be used as it is written. A misuse, always: exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {origin}: {reason}")]
    Unreadable {
        /// The file.
        origin: String,
        /// The system's message.
        reason: String,
    },
    /// The clone with the configs that come with pixtok is gone.
    #[error("{}", super::shipped::gone(.folder))]
    NoClone {
        /// Where it was.
        folder: PathBuf,
    },
    /// The file is not UTF-8 text.
    #[error("{origin}:{line}: this is {found}, and TOML is UTF-8; save it as UTF-8")]
    Encoding {
        /// The file.
        origin: String,
        /// The line, counted from 1.
        line: usize,
        /// The likely encoding.
        found: String,
    },
    /// The file is not TOML.
    #[error("{origin}:{line}:{column}: {message}: `{text}`")]
    Syntax {
        /// The file.
        origin: String,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// The parser's message.
        message: String,
        /// The text of the line.
        text: String,
    },
    /// A line of `changes.jsonl` that pixtok did not write.
    #[error("{origin}:{line}: {reason}; restore the file from a copy, or start a new run with --init-from")]
    Changes {
        /// The file.
        origin: String,
        /// The line, counted from 1.
        line: usize,
        /// The error in it.
        reason: String,
    },
    /// A record of the run that does not match its config.
    #[error(
        "{file} does not follow from the run's config.toml: {reason}; restore both from a copy, or start a new run with --init-from"
    )]
    Inconsistent {
        /// The record.
        file: &'static str,
        /// The mismatch.
        reason: String,
    },
    /// A `--set` that cannot be applied.
    #[error("{origin}: {reason}")]
    Override {
        /// The `--set`.
        origin: Origin,
        /// With the remedy.
        reason: String,
    },
    /// An unknown key.
    #[error("{origin}: unknown key {key:?}; {}", remedy(.nearest.as_ref(), .allowed))]
    UnknownKey {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// The allowed key that is closest in spelling, if one is close.
        nearest: Option<String>,
        /// The keys that the table allows.
        allowed: Vec<String>,
    },
    /// A value that is not one of the choices.
    #[error("{origin}: {key} is {value:?}; {}", remedy(.nearest.as_ref(), .allowed))]
    UnknownChoice {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// The value as given.
        value: String,
        /// The choice that is closest in spelling, if one is close.
        nearest: Option<String>,
        /// The choices.
        allowed: Vec<String>,
    },
    /// A missing key that has no default.
    #[error("{origin}: {key} is missing{}", one_of(.choices))]
    Missing {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// The choices, if the value is one of a few.
        choices: Vec<String>,
    },
    /// A value that has the wrong type or is out of range for its type.
    #[error("{origin}: {key} is {value}; it must be {expected}")]
    WrongType {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// The value as given.
        value: String,
        /// The expected type, in words.
        expected: String,
    },
    /// A value that breaks any other rule.
    #[error("{origin}: {key}: {reason}")]
    Invalid {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// The rule and how the value breaks it.
        reason: String,
    },
}

impl Classified for ConfigError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl ConfigError {
    /// The same for changes that were not given by `--set`, but in the `set` of a sweep's file. Those
    /// in `flags` were given by `--set` all the same.
    #[must_use]
    pub fn in_a_sweep(mut self, flags: &[String]) -> Self {
        if let Self::Override { origin, .. }
        | Self::UnknownKey { origin, .. }
        | Self::UnknownChoice { origin, .. }
        | Self::Missing { origin, .. }
        | Self::WrongType { origin, .. }
        | Self::Invalid { origin, .. } = &mut self
            && let Origin::Set(argument) = origin
            && !flags.iter().any(|flag| **flag == **argument)
        {
            *origin = Origin::SweepSet(mem::take(argument));
        }
        self
    }
}

fn remedy(nearest: Option<&String>, allowed: &[String]) -> String {
    let near = nearest.map_or_else(String::new, |near| format!("did you mean {near:?}? "));
    let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    format!("{near}allowed: {allowed}")
}

fn one_of(choices: &[String]) -> String {
    if choices.is_empty() { String::new() } else { format!("; it is one of: {}", choices.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_names_its_own_set() {
        let missing = |origin: Origin| ConfigError::Missing { origin, key: "a.b".into(), choices: vec![] };
        let text = "a.b=--set x";
        assert_eq!(missing(Origin::Set(text.into())).to_string(), "--set a.b=--set x: a.b is missing");
        let error = missing(Origin::Set(text.into())).in_a_sweep(&[]);
        assert_eq!(error.to_string(), "set a.b=--set x: a.b is missing");
        let error = missing(Origin::Set(text.into())).in_a_sweep(&[text.to_owned()]);
        assert_eq!(error.to_string(), "--set a.b=--set x: a.b is missing");
        let file = missing(Origin::File("--set c.toml".into())).in_a_sweep(&[]);
        assert_eq!(file.to_string(), "--set c.toml: a.b is missing");
        let wrong =
            ConfigError::Override { origin: Origin::Set("x".into()), reason: "there is no '='".into() };
        assert_eq!(wrong.to_string(), "--set x: there is no '='");
        assert_eq!(wrong.in_a_sweep(&[]).to_string(), "set x: there is no '='");
    }
}
