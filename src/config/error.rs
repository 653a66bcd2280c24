//! What is wrong with a config, with the key and the remedy.

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
    #[error("--set {argument}: {reason}")]
    Override {
        /// As given.
        argument: String,
        /// With the remedy.
        reason: String,
    },
    /// A key that means nothing.
    #[error("{origin}: unknown key {key:?}; {}", remedy(.nearest.as_ref(), .allowed))]
    UnknownKey {
        /// The file or the `--set`.
        origin: String,
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
        origin: String,
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
        origin: String,
        /// Dotted, from the root.
        key: String,
        /// Where the value is one of a few.
        choices: Vec<String>,
    },
    /// A value of the wrong type or out of its type's range.
    #[error("{origin}: {key} is {value}; it must be {expected}")]
    WrongType {
        /// The file or the `--set`.
        origin: String,
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
        origin: String,
        /// Dotted, from the root.
        key: String,
        /// The rule's own words.
        reason: String,
    },
}

fn remedy(nearest: Option<&String>, allowed: &[String]) -> String {
    let near = nearest.map_or_else(String::new, |near| format!("did you mean {near:?}? "));
    let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    format!("{near}allowed: {allowed}")
}

fn one_of(choices: &[String]) -> String {
    if choices.is_empty() { String::new() } else { format!("; it is one of: {}", choices.join(", ")) }
}
