//! Warns of a collapsing codebook while there is time to fix it.

use serde::{Deserialize, Serialize};

use crate::metrics::CodebookFigures;
use crate::train::TrainError;

/// When to warn of a collapsing codebook: when usage or perplexity stays below a limit for several
/// evaluations, or log rows of training, in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collapse {
    /// Limit on usage, as a share of the usage that as many evenly drawn tokens would show.
    pub usage_below: f64,
    /// Limit on perplexity, as a share of the codebook size (or of the number of tokens, if that is
    /// less).
    pub perplexity_below: f64,
    /// Number of evaluations in a row; 0 turns this warning off.
    pub evaluations: u64,
    /// Number of log rows in a row, each over the training tokens since the previous row; 0 turns
    /// this warning off.
    pub log_rows: u64,
}

impl Default for Collapse {
    fn default() -> Self {
        Self { usage_below: 0.25, perplexity_below: 0.05, evaluations: 3, log_rows: 30 }
    }
}

/// The number of evaluations or log rows in a row below a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct CollapseCount(u64);

impl Collapse {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
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

    /// Counts one evaluation or log row of codebooks with `size` codes. Returns a warning, with
    /// `remedy`, when the count reaches the configured number.
    pub(super) fn watch(
        &self,
        count: &mut CollapseCount,
        over: Over,
        codebook: &CodebookFigures,
        size: i64,
        remedy: &str,
    ) -> Option<String> {
        let (limit, what) = match over {
            Over::Evaluations => (self.evaluations, "evaluation(s)"),
            Over::LogRows => (self.log_rows, "log row(s)"),
        };
        let reachable = (size as f64).min(codebook.tokens as f64);
        // Each codebook separately: a mean over several would hide a dead one.
        let each: Vec<(f64, f64)> = match codebook.usage_by_codebook.len() {
            0 => vec![(codebook.usage, codebook.perplexity)],
            _ => codebook
                .usage_by_codebook
                .iter()
                .copied()
                .zip(codebook.perplexity_by_codebook.iter().copied())
                .collect(),
        };
        let worst = each.iter().position(|(usage, perplexity)| {
            *usage < self.usage_below * codebook.usage_expected_uniform
                || *perplexity < self.perplexity_below * reachable
        });
        count.0 = if worst.is_some() { count.0 + 1 } else { 0 };
        let (i, (usage, perplexity)) = worst.map(|i| (i, each[i]))?;
        let which = if each.len() > 1 { format!("codebook {i}") } else { "the codebook".to_owned() };
        (limit > 0 && count.0 == limit).then(|| {
            format!(
                "{which} is collapsing: for {limit} {what} in a row usage has been under {} of what even use would show or \
                 perplexity under {} of the codebook (now usage {usage:.3}, perplexity {perplexity:.0} of {size}, {} dead \
                 codes, {:.1} % of the tokens on one code); {remedy}",
                self.usage_below,
                self.perplexity_below,
                codebook.dead_codes,
                100.0 * codebook.largest_share,
            )
        })
    }
}

/// What is counted in a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// Evaluations on the validation set.
    Evaluations,
    /// Log rows, over the tokens of the training.
    LogRows,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CodebookUse;
    use tch::Tensor;

    /// 1,000 tokens, spread evenly over `codes` of 100 codes.
    fn figures(codes: i64) -> CodebookFigures {
        let mut used = CodebookUse::new(1, 100);
        used.add(&Tensor::from_slice(&(0..1000).map(|i| i % codes).collect::<Vec<i64>>()).view([1, 10, 100]));
        used.figures()
    }

    #[test]
    fn warns_once_after_enough_in_a_row() {
        let collapse = Collapse { usage_below: 0.25, perplexity_below: 0.05, evaluations: 2, log_rows: 0 };
        let watch = |collapse: &Collapse, count: &mut CollapseCount, codes| {
            collapse.watch(count, Over::Evaluations, &figures(codes), 100, "try this")
        };
        let mut count = CollapseCount::default();
        let mut warned = |codes| watch(&collapse, &mut count, codes).is_some();
        assert_eq!([20, 50, 20, 20, 20].map(&mut warned), [false, false, false, true, false]);
        let mut count = CollapseCount::default();
        let by_perplexity = Collapse { usage_below: 0.0, evaluations: 1, ..collapse.clone() };
        assert!(watch(&by_perplexity, &mut count, 10).is_none());
        let warning = watch(&by_perplexity, &mut count, 4).unwrap();
        for part in ["1 evaluation(s)", "4 of 100", "96 dead codes", "25.0 %", "try this"] {
            assert!(warning.contains(part), "{part:?} is missing in: {warning}");
        }
        let never = Collapse { evaluations: 0, ..collapse.clone() };
        assert!(watch(&never, &mut CollapseCount::default(), 2).is_none());
        // One of two codebooks uses a single code, but their mean usage is over a half.
        let mut used = CodebookUse::new(2, 4);
        let tuples: Vec<i64> = (0..400).flat_map(|i| [i % 4, 0]).collect();
        used.add(&Tensor::from_slice(&tuples).view([1, 20, 20, 2]));
        let once = Collapse { usage_below: 0.5, evaluations: 1, ..collapse.clone() };
        let warning =
            once.watch(&mut CollapseCount::default(), Over::Evaluations, &used.figures(), 4, "").unwrap();
        assert!(warning.contains("codebook 1 is collapsing") && warning.contains("usage 0.250"), "{warning}");
        // With 0 log rows there is no warning from them, whatever the setting for evaluations.
        let mut count = CollapseCount::default();
        assert!(collapse.watch(&mut count, Over::LogRows, &figures(2), 100, "").is_none());
    }
}
