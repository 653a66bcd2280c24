//! Reconstruction through the tokenizer: one group with all its parameters.

use tch::{Tensor, nn};

use super::objective::{ImageStep, shares, sorted};
use crate::loss::{Loss, LossTerm, total};
use crate::model::{self, Tokenizer};
use crate::optim::{self, Named};
use crate::quantizer::{Mode, Quantized, Statistic, UpdateReport};
use crate::train::{At, ParameterGroup, Part, StepOutput};
use pixtok_base::seed::Seed;
use pixtok_torch::{in_full_precision, no_grad};

/// Reconstruction through the tokenizer.
#[derive(Debug)]
pub struct Reconstruction {
    store: nn::VarStore,
    pub(super) tokenizer: Tokenizer,
    pub(super) loss: Loss,
    optimizer: optim::Config,
    freeze: Vec<Part>,
}

impl Reconstruction {
    /// Over a tokenizer whose variables are in `store`; those of the parts in `freeze` stay as they are.
    #[must_use]
    pub fn new(
        store: nn::VarStore,
        tokenizer: Tokenizer,
        loss: Loss,
        optimizer: optim::Config,
        freeze: Vec<Part>,
    ) -> Self {
        for (name, tensor) in store.variables() {
            if freeze.iter().any(|part| part.has(&name)) {
                let _ = tensor.set_requires_grad(false);
            }
        }
        Self { store, tokenizer, loss, optimizer, freeze }
    }

    /// Images through the tokenizer. Where encoder and quantizer are both frozen, the latents are those of an evaluation, and the
    /// quantizer has nothing to say.
    pub(super) fn forward(&self, images: &Tensor, seed: Seed) -> model::Reconstruction {
        let train = Mode::Train { seed };
        if !(self.frozen(Part::Encoder) && self.frozen(Part::Quantizer)) {
            return self.tokenizer.forward(images, train);
        }
        // As when tokens are made.
        let (latents, quantized) = in_full_precision(|| {
            no_grad(|| {
                let latents = self.tokenizer.latents(images);
                let quantized = self.tokenizer.quantizer.quantize(&latents, Mode::Eval);
                (latents, quantized)
            })
        });
        let recon = self.tokenizer.reconstruct(&quantized.latent, train);
        let quantized = Quantized { losses: vec![], statistics: vec![], ..quantized };
        model::Reconstruction { recon, latents, quantized }
    }

    fn frozen(&self, part: Part) -> bool {
        self.freeze.contains(&part)
    }

    /// The tokenizer's parameters that learn.
    pub(super) fn group(&self) -> ParameterGroup {
        let parameters = self.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
        let optimizer = self.optimizer.clone();
        ParameterGroup { name: "tokenizer", parameters, optimizer, table: "optimizer", start: 0 }
    }

    /// Losses of one micro-batch, `[B, 3, H, W]` float32 in [−1, 1].
    pub(super) fn step(&self, images: &Tensor, at: At) -> ImageStep {
        let out = self.forward(images, at.seed);
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
        ImageStep { output, indices: out.quantized.indices }
    }

    /// What the quantizer learns without gradients.
    pub(super) fn after_step(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        if self.frozen(Part::Quantizer) {
            return UpdateReport::default();
        }
        self.tokenizer.quantizer.update(statistics, seed)
    }

    /// Whether the quantizer may look at latents before step 0.
    pub(super) fn starts_quantizer(&self) -> bool {
        !self.frozen(Part::Quantizer)
    }

    /// Every tensor of the tokenizer, by name.
    pub(super) fn variables(&self) -> Vec<Named> {
        sorted(&self.store)
    }
}

/// The unweighted terms and what they come to, for the logs.
pub(super) fn logged(reconstruction: &[LossTerm], quantizer: &[LossTerm]) -> Vec<(String, Tensor)> {
    let recon = total(reconstruction).map(|loss| ("loss/recon".to_owned(), loss.detach()));
    let terms = reconstruction.iter().chain(quantizer);
    recon.into_iter().chain(terms.map(|term| (format!("loss/{}", term.name), term.value.detach()))).collect()
}

/// Terms with their weight.
pub(super) fn weighted<'a>(terms: impl Iterator<Item = &'a LossTerm>) -> Vec<(String, Tensor)> {
    terms.map(|term| (term.name.to_owned(), &term.value.detach() * term.weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss;
    use crate::optim::muon::is_hidden;

    #[test]
    fn muon_is_for_the_convolutions_between_feature_maps() {
        let store = nn::VarStore::new(tch::Device::Cpu);
        let network =
            model::Config { latent_channels: Some(9), mid_attention: true, ..model::Config::default() };
        let quantizer = toml::from_str("kind = \"fsq\"\nlevels = [8, 5, 5, 5]").unwrap();
        let tokenizer = Tokenizer::new(&store.root(), &network, &quantizer, (20, 28)).unwrap();
        let loss = Loss::new(loss::Config::default(), None).unwrap();
        let objective = Reconstruction::new(store, tokenizer, loss, optim::Config::default(), vec![]);
        let convolutions = objective.variables().into_iter().filter(|(_, tensor)| tensor.dim() == 4);
        let (hidden, others): (Vec<Named>, Vec<Named>) =
            convolutions.partition(|(name, tensor)| is_hidden(name, tensor));
        assert!(hidden.len() > 20);
        let mut others: Vec<String> = others.into_iter().map(|(name, _)| name).collect();
        others.sort();
        let quantizers = ["quantizer.project_in.weight", "quantizer.project_out.weight"];
        assert_eq!(others, [&["decoder.head.weight", "encoder.stem.weight"], &quantizers[..]].concat());
    }
}
