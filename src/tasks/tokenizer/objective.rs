//! What is minimised: the reconstruction loss, and from some step on an adversary's.

use tch::{Device, Kind, Tensor};

use super::adversarial::Opponent;
use super::reconstruction::Reconstruction;
use crate::model::{ModelError, Tokenizer};
use crate::statistics::{Monitor, Statistic, UpdateReport};
use crate::train::{At, ParameterGroup, StepOutput};
use crate::variables::Variable;
use crate::world::World;
use pixtok_base::seed::Seed;

/// The networks that are trained, with their losses.
#[derive(Debug)]
pub struct Objective {
    /// The tokenizer, the first group of parameters.
    pub reconstruction: Reconstruction,
    /// The discriminator, the second group, if there is an adversary.
    pub opponent: Option<Opponent>,
}

/// The result of one micro-batch of images.
#[derive(Debug)]
pub struct ImageStep {
    /// The part for the training loop.
    pub output: StepOutput,
    /// The indices `[B, N]`, to count codebook use.
    pub indices: Tensor,
}

impl Objective {
    /// The groups of parameters: the tokenizer's, then the discriminator's.
    #[must_use]
    pub fn groups(&self) -> Vec<ParameterGroup> {
        let opponent = self.opponent.as_ref().map(Opponent::group);
        [self.reconstruction.group()].into_iter().chain(opponent).collect()
    }

    /// Computes the losses of one micro-batch.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` float32 in [−1, 1].
    ///
    /// # Errors
    /// When the encoder takes no images of this size.
    pub fn step(&mut self, images: &Tensor, at: At) -> Result<ImageStep, ModelError> {
        let taking_part =
            self.opponent.as_mut().and_then(|opponent| Some((opponent.weight_at(at)?, opponent)));
        match taking_part {
            Some((weight, opponent)) => opponent.step(&self.reconstruction, weight, images, at),
            None => self.reconstruction.step(images, at),
        }
    }

    /// Called once after the optimizers' steps, with the merged statistics of all micro-batches and
    /// processes.
    pub fn after_step(&mut self, statistics: &[Statistic], world: &World, seed: Seed) -> UpdateReport {
        if let Some(opponent) = &mut self.opponent {
            opponent.after_step(world);
        }
        self.reconstruction.after_step(statistics, seed)
    }

    /// Where the networks are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.reconstruction.device()
    }

    /// The tokenizer in training.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.reconstruction.tokenizer
    }

    /// Every tensor of the tokenizer, parameters and buffers, in the order of their names.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        self.reconstruction.variables()
    }

    /// Every tensor of the discriminator, in the order of their names.
    #[must_use]
    pub fn companions(&self) -> Vec<Variable> {
        self.opponent.as_ref().map(Opponent::variables).unwrap_or_default()
    }
}

/// Each term's share of a loss of several terms. It is computed from their absolute weighted
/// values, since some may be negative.
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
