//! From a config to the networks of a training.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::{Device, nn};

use super::absolute;
use crate::adversarial::Adversary;
use crate::commands::{Misuse, weights};
use crate::config::Config;
use crate::loss::{self, Loss};
use crate::model::Tokenizer;
use crate::nets::Lpips;
use crate::optim::muon::is_hidden;
use pixtok_base::seed::Seed;
use pixtok_torch::tensors::Tensors;
use crate::train::{AdversarialReconstruction, LossWeights, Objective, Reconstruction};

/// What trains, with fresh weights.
pub(super) struct Networks {
    store: nn::VarStore,
    pub tokenizer: Tokenizer,
    /// The discriminator, in a store of its own.
    pub adversary: Option<(nn::VarStore, Adversary)>,
}

impl Networks {
    /// By a checked config.
    pub fn build(config: &Config, device: Device) -> Result<Self> {
        let (store, seed) = (nn::VarStore::new(device), Seed(config.seed));
        pixtok_torch::reseed(seed.derive("initialisation", &[]));
        let tokenizer = Tokenizer::new(&store.root(), &config.model, &config.quantizer, config.image_size())?;
        let adversary = config.adversarial.as_ref().map(|adversarial| {
            let store = nn::VarStore::new(device);
            pixtok_torch::reseed(seed.derive("initialisation of the discriminator", &[]));
            Adversary::new(&store.root(), adversarial, config.image_size())
                .map(|adversary| (store, adversary))
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
    pub fn objective(self, config: &Config, loss: Loss) -> Box<dyn Objective> {
        let reconstruction = Reconstruction::new(
            self.store,
            self.tokenizer,
            loss,
            config.optimizer.clone(),
            config.train.freeze.clone(),
        );
        match self.adversary {
            Some((store, adversary)) => {
                Box::new(AdversarialReconstruction::new(reconstruction, store, adversary))
            }
            None => Box::new(reconstruction),
        }
    }

    /// All of the tokenizer, by name.
    pub fn variables(&self) -> Tensors {
        self.store.variables().into_iter().collect()
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// Trained numbers of the tokenizer, in variables with names that begin so.
    pub fn parameters(&self, prefix: &str) -> i64 {
        let variables = self.store.variables().into_iter();
        let counted = variables.filter(|(name, tensor)| name.starts_with(prefix) && tensor.requires_grad());
        counted.map(|(_, tensor)| tensor.numel() as i64).sum()
    }

    /// How many there are, by what becomes of them.
    pub fn numbers(&self, config: &Config) -> Numbers {
        let mut numbers = Numbers { trained: 0, fixed: 0, discriminator: 0, moments: 0 };
        for (name, tensor) in self.store.variables() {
            let count = tensor.numel() as i64;
            let frozen = config.train.freeze.iter().any(|part| part.has(&name));
            if frozen || !tensor.requires_grad() {
                numbers.fixed += count;
                continue;
            }
            numbers.trained += count;
            let muon = config.optimizer.muon.is_some() && is_hidden(&name, &tensor);
            numbers.moments += count * if muon { 1 } else { 2 };
        }
        if let Some((store, _)) = &self.adversary {
            let trained = store.trainable_variables();
            numbers.discriminator = trained.iter().map(|tensor| tensor.numel() as i64).sum();
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

/// Where the weights of the network are that the loss needs, if it needs any.
pub(super) fn loss_weights(config: &loss::Config, given: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(network) = config.needed_network() else {
        if let Some(given) = given {
            return Err(Misuse(format!(
                "--lpips-weights is {}, and no term of [loss] needs weights; leave it out, or set loss.lpips",
                given.display()
            ))
            .into());
        }
        return Ok(None);
    };
    let file = weights::lpips_file(network);
    let found = match given {
        Some(given) => Some(given.to_owned()),
        None => weights::in_folder(file)?,
    };
    let keys = config.network_keys();
    let path = found.ok_or_else(|| {
        Misuse(format!(
            "{keys} needs the weights of LPIPS with {network}: make {file} of the published files with \
             scripts/convert_weights.py (docs/evaluation.md says how), and name it with --lpips-weights or its folder in {}; \
             or train without, with {keys} = 0",
            weights::FOLDER
        ))
    })?;
    Ok(Some(path))
}

/// As [`loss_weights`], with those of `given` that are of the network that the loss needs.
pub(in crate::commands) fn loss_weights_among(
    given: &[PathBuf],
    config: &loss::Config,
) -> Result<Option<PathBuf>> {
    let Some(network) = config.needed_network() else { return Ok(None) };
    for path in given {
        if Lpips::load(path, Device::Cpu)?.backbone() == network {
            return loss_weights(config, Some(path));
        }
    }
    loss_weights(config, None)
}

/// Builds the loss with the network that it needs, from the weights at `path`. Also returns what a
/// run records about them.
pub(super) fn loss(
    config: &loss::Config,
    path: Option<PathBuf>,
    device: Device,
) -> Result<(Loss, Option<LossWeights>)> {
    let (Some(network), Some(path)) = (config.needed_network(), path) else {
        return Ok((Loss::new(config.clone(), None)?, None));
    };
    let lpips = Lpips::load(&path, device)?;
    if lpips.backbone() != network {
        return Err(Misuse(format!(
            "{} has the weights of LPIPS with {}, and loss.network is that with {network}; give {}, or set loss.network",
            path.display(),
            lpips.backbone(),
            weights::lpips_file(network)
        ))
        .into());
    }
    let blake3 = weights::hash(&path)?;
    let noted = LossWeights { file: absolute(&path), blake3 };
    Ok((Loss::new(config.clone(), Some(lpips))?, Some(noted)))
}
