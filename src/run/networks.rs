//! Builds the networks of a training from its config.

use anyhow::Result;
use tch::Device;

use crate::adversarial::Adversary;
use crate::config::Config;
use crate::loss::Loss;
use crate::model::Tokenizer;
use crate::optim::muon::is_hidden;
use crate::tasks::tokenizer::{Objective, Opponent, Reconstruction};
use crate::variables::{Component, Variable, Variables};
use pixtok_base::Misuse;
use pixtok_base::seed::Seed;
use pixtok_torch::tensors::Tensors;

/// The networks that are trained, with fresh weights.
pub(super) struct Networks {
    store: Variables,
    pub tokenizer: Tokenizer,
    /// The discriminator, with its own store of variables.
    pub adversary: Option<(Variables, Adversary)>,
}

impl Networks {
    /// Builds the networks from a checked config.
    pub fn build(config: &Config, device: Device) -> Result<Self> {
        let (store, seed) = (Variables::new(device), Seed(config.seed));
        pixtok_torch::reseed(seed.derive("initialisation", &[]));
        let tokenizer = Tokenizer::new(&store, config.model.settings(), &config.quantizer, &config.data)?;
        for size in config.data.sizes() {
            // A network may need more of a size than multiples, such as two tokens.
            tokenizer.shape(*size)?;
        }
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

    /// Makes the objective of a training from the networks.
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

    /// The tokenizer's variables, in the order of their names.
    pub fn entries(&self) -> Vec<Variable> {
        self.store.entries()
    }

    /// All of the tokenizer, by name.
    pub fn variables(&self) -> Tensors {
        self.store.tensors()
    }

    /// The device of the networks.
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// The number of trained parameters in these components of the tokenizer.
    pub fn parameters(&self, components: &[Component]) -> i64 {
        self.store.parameters(components)
    }

    /// Counts the parameters, by what happens to them.
    pub fn numbers(&self, config: &Config) -> Numbers {
        let mut numbers = Numbers { trained: 0, fixed: 0, discriminator: 0, moments: 0 };
        for variable in self.entries() {
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

/// Numbers of parameters, by what happens to them.
pub(super) struct Numbers {
    /// Parameters of the tokenizer that gradients train.
    pub trained: i64,
    /// Buffers and frozen parameters of the tokenizer.
    pub fixed: i64,
    /// Parameters of the discriminator that gradients train.
    pub discriminator: i64,
    /// Moments of both optimizers.
    pub moments: i64,
}

#[cfg(test)]
mod tests;
