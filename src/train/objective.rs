//! What is minimised. The loop is written over [`Objective`]; a model over tokens is a further objective, never a further loop.

use tch::{Kind, Tensor};

use crate::model::Tokenizer;
use crate::optim;
use crate::quantizer::{Monitor, Statistic, UpdateReport};
use crate::variables::Variable;
use pixtok_base::seed::Seed;

/// Which of the objective's groups: its place in [`Objective::groups`].
pub type GroupId = usize;

/// Parameters with an optimizer of their own.
#[derive(Debug)]
pub struct ParameterGroup {
    /// As in the logs.
    pub name: &'static str,
    /// Those that learn.
    pub parameters: Vec<Variable>,
    /// How they learn.
    pub optimizer: optim::Config,
    /// The step from which they learn, where their schedule begins.
    pub start: u64,
}

/// Where in the training a micro-batch is.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The optimizer step, counted from 0.
    pub step: u64,
    /// Its place in the step.
    pub micro_batch: usize,
    /// Of its random decisions.
    pub seed: Seed,
}

/// What one micro-batch gives the loop.
#[derive(Debug)]
pub struct StepOutput {
    /// A loss for each group that learns at this step, with gradient for its parameters alone.
    pub groups: Vec<(GroupId, Tensor)>,
    /// For the logs: named scalars, detached; single terms are unweighted, `loss/recon` is their weighted sum.
    pub terms: Vec<(String, Tensor)>,
    /// For [`Objective::after_step`].
    pub statistics: Vec<Statistic>,
    /// For the logs.
    pub monitors: Vec<Monitor>,
    /// For codebook use, `[B, N]`.
    pub indices: Tensor,
}

/// One way to train a tokenizer.
pub trait Objective {
    /// What has an optimizer each; the first is the tokenizer's, which alone is averaged.
    fn groups(&self) -> Vec<ParameterGroup>;

    /// Losses of one micro-batch; the loop goes backward.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` float32 in [−1, 1].
    fn step(&mut self, images: &Tensor, at: At) -> StepOutput;

    /// Once after the optimizers' steps, with the statistics of all micro-batches merged.
    fn after_step(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport;

    /// Whether the quantizer may look at latents before step 0.
    fn starts_quantizer(&self) -> bool;

    /// The tokenizer in training.
    fn tokenizer(&self) -> &Tokenizer;

    /// The same, for the quantizer's start.
    fn tokenizer_mut(&mut self) -> &mut Tokenizer;

    /// Every tensor of the tokenizer, parameters and buffers, in the order of their names.
    fn variables(&self) -> Vec<Variable>;

    /// Every tensor that trains beside the tokenizer, in the order of their names. The checkpoint has them in a file of their own, so that a model is
    /// the tokenizer alone.
    fn companions(&self) -> Vec<Variable> {
        vec![]
    }
}

/// Each term's part in a loss of several, from their weighted values; by their size, since some may be negative.
pub(super) fn shares(weighted: &[(String, Tensor)]) -> Vec<Monitor> {
    if weighted.len() < 2 {
        return vec![];
    }
    let values: Vec<Tensor> = weighted.iter().map(|(_, value)| value.detach().to_kind(Kind::Float)).collect();
    let sizes = Tensor::stack(&values, 0).abs();
    let shares = (&sizes / sizes.sum(Kind::Float)).unbind(0);
    let named = weighted.iter().zip(shares);
    named.map(|((name, _), value)| Monitor { name: format!("share/{name}"), value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_sizes_and_sum_to_one() {
        let term = |name: &str, value: f32| (name.to_owned(), Tensor::from(value));
        assert!(shares(&[term("mse", 2.0)]).is_empty());
        let found: Vec<(String, f64)> = shares(&[term("mse", 3.0), term("entropy", -1.0)])
            .into_iter()
            .map(|share| (share.name, share.value.double_value(&[])))
            .collect();
        assert_eq!(found, [("share/mse".to_owned(), 0.75), ("share/entropy".to_owned(), 0.25)]);
    }
}
