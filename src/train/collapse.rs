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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CodebookUse;
    use tch::Tensor;

    /// 1,000 tokens, spread evenly over `codes` of 100 codes.
    fn figures(codes: i64) -> Figures {
        let mut used = CodebookUse::new(1, 100);
        used.add(&Tensor::from_slice(&(0..1000).map(|i| i % codes).collect::<Vec<i64>>()).view([1, 10, 100]));
        Figures {
            images: 1,
            psnr_db: 20.0,
            ssim: None,
            l1: 1.0,
            perfect_images: 0,
            codebook_size: 100,
            codebook: used.figures(),
            bits_per_pixel: 1.0,
        }
    }

    #[test]
    fn warns_once_after_enough_evaluations_in_a_row() {
        let collapse = Collapse { usage_below: 0.25, perplexity_below: 0.05, evaluations: 2 };
        let mut count = CollapseCount::default();
        let mut warned = |codes| collapse.watch(&mut count, &figures(codes), "try this").is_some();
        assert_eq!([20, 50, 20, 20, 20].map(&mut warned), [false, false, false, true, false]);
        let mut count = CollapseCount::default();
        let by_perplexity = Collapse { usage_below: 0.0, perplexity_below: 0.05, evaluations: 1 };
        assert!(by_perplexity.watch(&mut count, &figures(10), "").is_none());
        let warning = by_perplexity.watch(&mut count, &figures(4), "try this").unwrap();
        assert!(warning.contains("4 of 100") && warning.contains("try this"), "{warning}");
        let never = Collapse { evaluations: 0, ..collapse };
        assert!(never.watch(&mut CollapseCount::default(), &figures(2), "").is_none());
    }
}
