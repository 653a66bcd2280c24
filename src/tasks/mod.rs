//! The tasks that [`crate::train::Trainer`] can train.

pub mod tokenizer;

use serde::{Deserialize, Serialize};

/// The task that a config is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Reconstructs images through a quantizer.
    #[default]
    Tokenizer,
}

impl TaskKind {
    /// Whether it is the default task, which a config leaves out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
