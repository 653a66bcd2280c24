//! The ways to train: what [`crate::train::Trainer`] is given.

pub mod tokenizer;

use serde::{Deserialize, Serialize};

/// Which task a config is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Images through a quantizer and back.
    #[default]
    Tokenizer,
}

impl TaskKind {
    /// Whether it is the one that an absent key stands for, which a config leaves out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
