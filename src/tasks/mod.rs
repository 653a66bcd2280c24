//! The tasks that [`crate::train::Trainer`] can train. Each has a folder, with its root config,
//! what it minimises, and what it keeps in a checkpoint. `run::task` dispatches on [`TaskKind`].

mod error;
pub mod tokenizer;

use serde::{Deserialize, Serialize};
use strum::Display;

pub use error::ResolveError;

/// The task that a config is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
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
