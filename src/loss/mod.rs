//! What training minimises: named terms and their weighted sum.

mod reconstruction;

use tch::Tensor;

pub use crate::quantizer::LossTerm;
pub use reconstruction::{Config, LossError};

/// Σ weight · value.
///
/// # Shapes
/// Scalars -> a scalar; `None` without terms.
#[must_use]
pub fn total(terms: &[LossTerm]) -> Option<Tensor> {
    terms.iter().map(|term| &term.value * term.weight).reduce(|sum, next| sum + next)
}
