//! Errors of a task's root config.

use crate::train::TrainError;
use crate::{adversarial, model};
use pixtok_base::{Class, Classified};
use pixtok_images::data;

/// A value that is out of range, or parts of a config that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// An error in `[data]`.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// An error in `[model]` or `[quantizer]`.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// An error in `[train]`, `[loss]` or `[optimizer]`.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An error in `[adversarial]`.
    #[error(transparent)]
    Adversarial(#[from] adversarial::AdversarialError),
    /// An error in `[eval]` or at the root.
    #[error("{0}")]
    Other(String),
}

impl Classified for ResolveError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}
