//! From a config to the networks of a training.

use anyhow::Result;
use tch::Device;

use crate::adversarial::Adversary;
use crate::config::Config;
use crate::loss::Loss;
use crate::model::Tokenizer;
use crate::optim::muon::is_hidden;
use crate::tasks::tokenizer::{Objective, Opponent, Reconstruction};
use crate::variables::{Component, Variables};
use pixtok_base::Misuse;
use pixtok_base::seed::Seed;
use pixtok_torch::tensors::Tensors;

/// What trains, with fresh weights.
pub(super) struct Networks {
    store: Variables,
    pub tokenizer: Tokenizer,
    /// The discriminator, in a store of its own.
    pub adversary: Option<(Variables, Adversary)>,
}

impl Networks {
    /// By a checked config.
    pub fn build(config: &Config, device: Device) -> Result<Self> {
        let (store, seed) = (Variables::new(device), Seed(config.seed));
        pixtok_torch::reseed(seed.derive("initialisation", &[]));
        let tokenizer =
            Tokenizer::new(&store, config.model.settings(), &config.quantizer, config.data.image_size)?;
        let adversary = config.adversarial.as_ref().map(|adversarial| {
            let store = Variables::new(device);
            pixtok_torch::reseed(seed.derive("initialisation of the discriminator", &[]));
            Adversary::new(&store, adversarial, config.image_size()).map(|adversary| (store, adversary))
        });
        let networks = Self { store, tokenizer, adversary: adversary.transpose()? };
        if networks.numbers(config).trained == 0 {
            return Err(Misuse(
                "train.freeze names every part that has weights, so nothing is left to train; take one out"
                    .into(),
            )
            .into());
        }
        Ok(networks)
    }

    /// Ready to be trained.
    pub fn objective(self, config: &Config, loss: Loss) -> Objective {
        let reconstruction = Reconstruction::new(
            self.store,
            self.tokenizer,
            loss,
            config.optimizer.clone(),
            config.train.freeze.clone(),
        );
        let opponent = self.adversary.map(|(store, adversary)| Opponent::new(store, adversary));
        Objective { reconstruction, opponent }
    }

    /// All of the tokenizer, by name.
    pub fn variables(&self) -> Tensors {
        self.store.tensors()
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// Trained numbers of these components of the tokenizer.
    pub fn parameters(&self, components: &[Component]) -> i64 {
        self.store.parameters(components)
    }

    /// How many there are, by what becomes of them.
    pub fn numbers(&self, config: &Config) -> Numbers {
        let mut numbers = Numbers { trained: 0, fixed: 0, discriminator: 0, moments: 0 };
        for variable in self.store.entries() {
            let count = variable.count();
            if config.train.freeze.contains(&variable.component) || !variable.trained {
                numbers.fixed += count;
                continue;
            }
            numbers.trained += count;
            let muon = config.optimizer.muon.is_some() && is_hidden(&variable);
            numbers.moments += count * if muon { 1 } else { 2 };
        }
        if let Some((store, _)) = &self.adversary {
            numbers.discriminator = store.parameters(&[Component::Discriminator]);
            numbers.moments += 2 * numbers.discriminator;
        }
        numbers
    }
}

/// How many numbers there are, by what becomes of them.
pub(super) struct Numbers {
    /// Of the tokenizer, by gradient.
    pub trained: i64,
    /// Of the tokenizer, buffers and frozen parts.
    pub fixed: i64,
    /// Of the discriminator, by gradient.
    pub discriminator: i64,
    /// Of both optimizers.
    pub moments: i64,
}

#[cfg(test)]
mod tests;
