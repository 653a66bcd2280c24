//! What is wrong with a config, with the key and the remedy.

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
        /// What the system said.
        reason: String,
    },
    /// The file is not text in UTF-8.
    #[error("{origin}:{line}: this is {found}, and TOML is UTF-8; save it as UTF-8")]
    Encoding {
        /// The file.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What it seems to be.
        found: String,
    },
    /// The file is not TOML.
    #[error("{origin}:{line}:{column}: {message}: `{text}`")]
    Syntax {
        /// The file.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The parser's.
        message: String,
        /// The line itself.
        text: String,
    },
    /// A line of `changes.jsonl` that pixtok did not write.
    #[error("{origin}:{line}: {reason}; restore the file from a copy, or start a new run with --init-from")]
    Changes {
        /// The file.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A record of the run that does not fit its config.
    #[error(
        "{file} does not follow from the run's config.toml: {reason}; restore both from a copy, or start a new run with --init-from"
    )]
    Inconsistent {
        /// The record.
        file: &'static str,
        /// What is wrong.
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
    /// A key that means nothing.
    #[error("{origin}: unknown key {key:?}; {}", remedy(.nearest.as_ref(), .allowed))]
    UnknownKey {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// An allowed one that is near.
        nearest: Option<String>,
        /// In the table of `key`.
        allowed: Vec<String>,
    },
    /// A choice that there is not.
    #[error("{origin}: {key} is {value:?}; {}", remedy(.nearest.as_ref(), .allowed))]
    UnknownChoice {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// As given.
        value: String,
        /// An allowed one that is near.
        nearest: Option<String>,
        /// The choices.
        allowed: Vec<String>,
    },
    /// A key that has no default is not there.
    #[error("{origin}: {key} is missing{}", one_of(.choices))]
    Missing {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// Where the value is one of a few.
        choices: Vec<String>,
    },
    /// A value of the wrong type or out of its type's range.
    #[error("{origin}: {key} is {value}; it must be {expected}")]
    WrongType {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// As given.
        value: String,
        /// In words.
        expected: String,
    },
    /// Any other rule that a value breaks.
    #[error("{origin}: {key}: {reason}")]
    Invalid {
        /// The file or the `--set`.
        origin: Origin,
        /// Dotted, from the root.
        key: String,
        /// The rule's own words.
        reason: String,
    },
}

impl Classified for ConfigError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl ConfigError {
    /// The same for changes that were not given by `--set`, but in the `set` of a sweep's file.
    #[must_use]
    pub fn in_a_sweep(mut self) -> Self {
        if let Self::Override { origin, .. }
        | Self::UnknownKey { origin, .. }
        | Self::UnknownChoice { origin, .. }
        | Self::Missing { origin, .. }
        | Self::WrongType { origin, .. }
        | Self::Invalid { origin, .. } = &mut self
            && let Origin::Set(argument) = origin
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
        let error = missing(Origin::Set(text.into())).in_a_sweep();
        assert_eq!(error.to_string(), "set a.b=--set x: a.b is missing");
        let file = missing(Origin::File("--set c.toml".into())).in_a_sweep();
        assert_eq!(file.to_string(), "--set c.toml: a.b is missing");
        let wrong =
            ConfigError::Override { origin: Origin::Set("x".into()), reason: "there is no '='".into() };
        assert_eq!(wrong.to_string(), "--set x: there is no '='");
        assert_eq!(wrong.in_a_sweep().to_string(), "set x: there is no '='");
    }
}
