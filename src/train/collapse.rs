//! A codebook that collapses is warned about while there is time to mend it.

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::evaluate::Figures;

/// When to warn: usage or perplexity under a share for some evaluations in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collapse {
    /// Of the usage that as many evenly drawn tokens would show.
    pub usage_below: f64,
    /// Of the codebook size (or of the number of tokens, where that is less).
    pub perplexity_below: f64,
    /// In a row; 0 never warns.
    pub evaluations: u64,
}

impl Default for Collapse {
    fn default() -> Self {
        Self { usage_below: 0.25, perplexity_below: 0.05, evaluations: 3 }
    }
}

/// How many evaluations in a row were under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct CollapseCount(u64);

impl Collapse {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        for (key, share) in [("usage_below", self.usage_below), ("perplexity_below", self.perplexity_below)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(TrainError::Config(format!(
                    "train.collapse.{key} is {share}; it must be from 0 to 1"
                )));
            }
        }
        Ok(())
    }

    /// Counts one evaluation; a warning at the evaluation that fills the row, with `remedy`.
    pub(super) fn watch(&self, count: &mut CollapseCount, figures: &Figures, remedy: &str) -> Option<String> {
        let codebook = &figures.codebook;
        let reachable = (figures.codebook_size as f64).min(codebook.tokens as f64);
        let collapsed = codebook.usage < self.usage_below * codebook.usage_expected_uniform
            || codebook.perplexity < self.perplexity_below * reachable;
        count.0 = if collapsed { count.0 + 1 } else { 0 };
        (self.evaluations > 0 && count.0 == self.evaluations).then(|| {
            format!(
                "the codebook is collapsing: for {} evaluations usage has been under {} of what even use would show \
                 or perplexity under {} of the codebook (now {:.3} and {:.0} of {}); {remedy}",
                self.evaluations,
                self.usage_below,
                self.perplexity_below,
                codebook.usage,
                codebook.perplexity,
                figures.codebook_size,
            )
        })
    }
}
