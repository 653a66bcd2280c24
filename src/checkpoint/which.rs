//! The names that users give to checkpoints.

use std::fmt;
use std::str::FromStr;

use pixtok_base::{Class, Classified};

/// One checkpoint of a run: `last`, `best` or `step-N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    /// The newest checkpoint.
    #[default]
    Last,
    /// The best checkpoint by the metric of the run.
    Best,
    /// The checkpoint of this optimizer step.
    Step(u64),
}

/// A text that is not the name of a checkpoint.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the name of a checkpoint; give last, best or step-N, for instance step-600")]
pub struct WhichError(String);

impl Classified for WhichError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl FromStr for Which {
    type Err = WhichError;

    fn from_str(text: &str) -> Result<Which, WhichError> {
        match text {
            "last" => Ok(Which::Last),
            "best" => Ok(Which::Best),
            _ => text
                .strip_prefix("step-")
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .map(Which::Step)
                .ok_or_else(|| WhichError(text.to_owned())),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Last => f.write_str("last"),
            Which::Best => f.write_str("best"),
            Which::Step(step) => f.write_str(&step_name(*step)),
        }
    }
}

/// The name of a checkpoint's folder: `step-000600`. It has at least six digits, so that names sort
/// in the order of steps.
pub(super) fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The inverse of [`step_name`]; `None` for any other spelling.
pub(super) fn step_of_name(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for (text, which) in [
            ("last", Which::Last),
            ("best", Which::Best),
            ("step-000600", Which::Step(600)),
            ("step-1234567", Which::Step(1_234_567)),
        ] {
            assert_eq!(text.parse::<Which>().unwrap(), which);
            assert_eq!(which.to_string(), text);
        }
        assert_eq!("step-600".parse::<Which>().unwrap(), Which::Step(600));
        for text in ["", "Last", "600", "step-", "step-+6", "step--1", "step-99999999999999999999"] {
            let message = text.parse::<Which>().unwrap_err().to_string();
            assert!(message.contains("step-N"), "{message}");
        }
    }

    #[test]
    fn only_our_spelling_is_a_checkpoint() {
        assert_eq!(step_of_name("step-000600"), Some(600));
        assert_eq!(step_of_name("step-1000000"), Some(1_000_000));
        for name in ["step-600", "step-0000600", "step-+00600", ".step-000600.tmp-1", "steps"] {
            assert_eq!(step_of_name(name), None, "{name}");
        }
    }
}
