//! Reconstruction through the tokenizer: one group with all its parameters.

use tch::{Device, Tensor};

use super::objective::{ImageStep, shares};
use crate::loss::{Loss, LossTerm, total};
use crate::model::{self, ModelError, Tokenizer, size_of};
use crate::optim;
use crate::quantizer::{Mode, Quantized};
use crate::statistics::{Statistic, UpdateReport};
use crate::train::{At, ParameterGroup, StepOutput};
use crate::variables::{Component, Variable, Variables};
use pixtok_base::seed::Seed;
use pixtok_torch::{in_full_precision, no_grad};

/// The tokenizer with its reconstruction loss.
#[derive(Debug)]
pub struct Reconstruction {
    store: Variables,
    pub(super) tokenizer: Tokenizer,
    pub(super) loss: Loss,
    optimizer: optim::Config,
    freeze: Vec<Component>,
}

impl Reconstruction {
    /// Makes the objective for a tokenizer whose variables are in `store`. The components in
    /// `freeze` are not trained.
    #[must_use]
    pub fn new(
        store: Variables,
        tokenizer: Tokenizer,
        loss: Loss,
        optimizer: optim::Config,
        freeze: Vec<Component>,
    ) -> Self {
        store.freeze(&freeze);
        Self { store, tokenizer, loss, optimizer, freeze }
    }

    /// Images through the tokenizer. Where encoder and quantizer are both frozen, the latents are
    /// those of an evaluation, and the quantizer has nothing to say.
    pub(super) fn forward(&self, images: &Tensor, at: At) -> Result<model::Reconstruction, ModelError> {
        let train = Mode::Train { noise: at.noise, world: at.world };
        if !(self.frozen(Component::Encoder) && self.frozen(Component::Quantizer)) {
            return self.tokenizer.forward(images, train);
        }
        // The same computation as when tokens are written.
        let (latents, quantized) = in_full_precision(|| {
            no_grad(|| {
                let latents = self.tokenizer.latents(images);
                let quantized = self.tokenizer.quantizer.quantize(&latents, Mode::Eval);
                (latents, quantized)
            })
        });
        let image = size_of(images);
        let shape = self.tokenizer.shape(image)?;
        let kept = self.tokenizer.kept(&quantized, train);
        let recon = self.tokenizer.reconstruct(&kept, shape, image, train);
        let quantized = Quantized { losses: vec![], statistics: vec![], ..quantized };
        Ok(model::Reconstruction { recon, latents, quantized })
    }

    fn frozen(&self, component: Component) -> bool {
        self.freeze.contains(&component)
    }

    /// The tokenizer's parameters that learn.
    pub(super) fn group(&self) -> ParameterGroup {
        let parameters = self.variables().into_iter().filter(|found| found.tensor.requires_grad()).collect();
        let optimizer = self.optimizer.clone();
        ParameterGroup { name: "tokenizer", parameters, optimizer, table: "optimizer", start: 0 }
    }

    /// Losses of one micro-batch, `[B, 3, H, W]` float32 in [−1, 1].
    pub(super) fn step(&self, images: &Tensor, at: At) -> Result<ImageStep, ModelError> {
        let out = self.forward(images, at)?;
        let reconstruction = self.loss.terms(&out.recon, images);
        let terms = logged(&reconstruction, &out.quantized.losses);
        let all: Vec<LossTerm> = reconstruction.into_iter().chain(out.quantized.losses).collect();
        let mut monitors = out.quantized.monitors;
        monitors.extend(shares(&weighted(all.iter())));
        let output = StepOutput {
            groups: total(&all).map(|loss| (0, loss)).into_iter().collect(),
            terms,
            statistics: out.quantized.statistics,
            monitors,
        };
        Ok(ImageStep { output, indices: out.quantized.indices })
    }

    /// Updates what the quantizer learns without gradients.
    pub(super) fn after_step(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        if self.frozen(Component::Quantizer) {
            return UpdateReport::default();
        }
        self.tokenizer.quantizer.update(statistics, seed)
    }

    /// Whether the quantizer may be started from latents before step 0.
    pub(super) fn starts_quantizer(&self) -> bool {
        !self.frozen(Component::Quantizer)
    }

    /// Where it trains.
    pub(super) fn device(&self) -> Device {
        self.store.device()
    }

    /// Every tensor of the tokenizer, in the order of their names.
    pub(super) fn variables(&self) -> Vec<Variable> {
        self.store.entries()
    }
}

/// The unweighted terms and their weighted sum, for the logs.
pub(super) fn logged(reconstruction: &[LossTerm], quantizer: &[LossTerm]) -> Vec<(String, Tensor)> {
    let recon = total(reconstruction).map(|loss| ("loss/recon".to_owned(), loss.detach()));
    let terms = reconstruction.iter().chain(quantizer);
    recon.into_iter().chain(terms.map(|term| (format!("loss/{}", term.name), term.value.detach()))).collect()
}

/// The values of the terms, times their weights.
pub(super) fn weighted<'a>(terms: impl Iterator<Item = &'a LossTerm>) -> Vec<(String, Tensor)> {
    terms.map(|term| (term.name.to_owned(), &term.value.detach() * term.weight)).collect()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::loss;
    use crate::model::images_from_bytes;
    use crate::tests::sequence::{RESIDUAL, SEQUENCE, parts};
    use crate::world::World;
    use pixtok_torch::Noise;

    #[test]
    fn a_decoder_beside_frozen_parts_trains_on_first_stages_too() {
        let quantizer = format!("{RESIDUAL}\ntail_drop = {{ keep_full = 0.0 }}");
        let made = |freeze: Vec<Component>| {
            let (_config, tokenizer, store) = parts(&quantizer, SEQUENCE);
            let loss = Loss::new(loss::Config::default(), None).unwrap();
            Reconstruction::new(store, tokenizer, loss, optim::Config::default(), freeze)
        };
        pixtok_torch::reseed(Seed(3));
        let images = images_from_bytes(&Tensor::randint(256, [8, 3, 16, 24], (Kind::Uint8, Device::Cpu)));
        let at = At { step: 0, micro_batch: 0, noise: Noise::new(Seed(4)), world: World::alone() };
        let frozen = made(vec![Component::Encoder, Component::Quantizer]);
        let out = frozen.forward(&images, at).unwrap();
        assert_eq!(out.recon, made(vec![]).forward(&images, at).unwrap().recon);
        // Only what the decoder gets lacks stages.
        let evaluated = frozen.tokenizer.forward(&images, Mode::Eval).unwrap();
        assert_eq!(out.quantized.latent, evaluated.quantized.latent);
        assert_ne!(out.recon, evaluated.recon);
    }
}
