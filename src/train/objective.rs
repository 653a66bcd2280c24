//! What is minimised. The loop is written over [`Objective`]; adversarial training, or a model over tokens, is a
//! further objective, never a further loop.

use tch::{Kind, Tensor, nn};

use crate::loss::{self, LossTerm, total};
use crate::model::Tokenizer;
use crate::optim::Named;
use crate::quantizer::{Mode, Monitor, Statistic, UpdateReport};
use crate::seed::Seed;

/// Which of the objective's optimizers: its place in [`Objective::parameters`].
pub type OptimizerId = usize;

/// What one micro-batch gives the loop.
#[derive(Debug)]
pub struct StepOutput {
    /// A loss for each optimizer that steps, with gradient.
    pub groups: Vec<(OptimizerId, Tensor)>,
    /// For the logs: named scalars, detached; single terms are unweighted, `loss/recon` is their weighted sum.
    pub terms: Vec<(String, Tensor)>,
    /// For [`Objective::after_step`].
    pub statistics: Vec<Statistic>,
    /// For the logs.
    pub monitors: Vec<Monitor>,
    /// For codebook use, `[B, h, w]`.
    pub indices: Tensor,
}

/// One way to train a tokenizer.
pub trait Objective {
    /// The parameters of each optimizer.
    fn parameters(&self) -> Vec<Vec<Named>>;

    /// Losses of one micro-batch; the loop goes backward.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` float32 in [−1, 1].
    fn step(&mut self, images: &Tensor, seed: Seed) -> StepOutput;

    /// Once after the optimizers' steps, with the statistics of all micro-batches merged.
    fn after_step(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport;

    /// The tokenizer in training.
    fn tokenizer(&self) -> &Tokenizer;

    /// The same, for the quantizer's start.
    fn tokenizer_mut(&mut self) -> &mut Tokenizer;

    /// Every tensor of the checkpoint, by name: parameters and buffers.
    fn variables(&self) -> Vec<Named>;
}

/// Pixel reconstruction through the tokenizer: one optimizer over all its parameters.
#[derive(Debug)]
pub struct PixelReconstruction {
    store: nn::VarStore,
    tokenizer: Tokenizer,
    loss: loss::Config,
}

impl PixelReconstruction {
    /// Over a tokenizer whose variables are in `store`.
    #[must_use]
    pub fn new(store: nn::VarStore, tokenizer: Tokenizer, loss: loss::Config) -> Self {
        Self { store, tokenizer, loss }
    }
}

impl Objective for PixelReconstruction {
    fn parameters(&self) -> Vec<Vec<Named>> {
        vec![self.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()]
    }

    fn step(&mut self, images: &Tensor, seed: Seed) -> StepOutput {
        let out = self.tokenizer.forward(images, Mode::Train { seed });
        let reconstruction = self.loss.terms(&out.recon, images);
        let detached = |loss: Option<Tensor>| {
            loss.map_or_else(|| Tensor::zeros([], (Kind::Float, images.device())), |loss| loss.detach())
        };
        let mut named = vec![("loss/recon".to_owned(), detached(total(&reconstruction)))];
        let terms: Vec<LossTerm> = reconstruction.into_iter().chain(out.quantized.losses).collect();
        named.extend(terms.iter().map(|term| (format!("loss/{}", term.name), term.value.detach())));
        StepOutput {
            groups: total(&terms).map(|loss| (0, loss)).into_iter().collect(),
            terms: named,
            statistics: out.quantized.statistics,
            monitors: out.quantized.monitors,
            indices: out.quantized.indices,
        }
    }

    fn after_step(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        self.tokenizer.quantizer.update(statistics, seed)
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn tokenizer_mut(&mut self) -> &mut Tokenizer {
        &mut self.tokenizer
    }

    fn variables(&self) -> Vec<Named> {
        let mut variables: Vec<Named> = self.store.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use crate::optim::muon::is_hidden;

    #[test]
    fn muon_is_for_the_convolutions_between_feature_maps() {
        let store = nn::VarStore::new(tch::Device::Cpu);
        let network =
            model::Config { latent_channels: Some(9), mid_attention: true, ..model::Config::default() };
        let quantizer = toml::from_str("kind = \"fsq\"\nlevels = [8, 5, 5, 5]").unwrap();
        let tokenizer = Tokenizer::new(&store.root(), &network, &quantizer, (20, 28)).unwrap();
        let objective = PixelReconstruction::new(store, tokenizer, loss::Config::default());
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
