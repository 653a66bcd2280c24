//! Index backpropagation quantization (Shi et al. 2024, arXiv 2412.02692): the code is the one with
//! the largest product with the latent, and the gradient goes to the whole codebook through the
//! softmax of all products.
//!
//! The softmax of N×K numbers is kept for the backward pass; [`Settings::check_step`] refuses it if
//! it exceeds the budget.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::codebook::{check_entropy, check_sizes, distance_losses, latent_of_rows, nearest_codes};
use super::entropy::assignment_entropy;
use super::memory::{MemoryBudget, mebibytes};
use super::projection::Projection;
use super::search::Nearness;
use super::settings::entropy_term;
use super::vectors::{latent_from_vectors, mean_square, vectors_from_latent};
use super::{
    CodebookShape, LossTerm, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, Words,
    require_temperature, require_weight, straight_through::straight_through,
};
use crate::layers::as_kind;
use crate::statistics::Monitor;
use crate::variables::{Init, Scope};
use crate::world::World;
use pixtok_torch::in_full_precision;

/// The tables of a part that exist at one time beside the kept one: logits, and two gradients in
/// the backward pass.
const TABLES: i64 = 3;

/// The codes before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum InitialCodes {
    /// Uniform within ±1/K, as in the official code. The softmax of such small products is flat,
    /// and it takes many steps until its gradient is noticeable.
    #[default]
    Uniform,
    /// Normal with standard deviation D^-½: about as long as latents are.
    Normal,
}

/// Settings of IBQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// K, the number of codes.
    pub codebook_size: i64,
    /// D, the dimension of a code.
    pub codebook_dim: i64,
    /// The codes before the first step.
    pub initial_codes: InitialCodes,
    /// Weight of ‖y − z‖², through the estimator y, which moves latents and all codes.
    pub quantization_weight: f64,
    /// Weight of ‖z − sg[e]‖², which moves the encoder towards its code.
    pub commitment_weight: f64,
    /// Weight of ‖sg[z] − e‖², which moves the chosen codes.
    pub codebook_weight: f64,
    /// Weight of the entropy loss; 0 turns it off.
    pub entropy_weight: f64,
    /// τ in p ∝ exp(z·c/τ), whose entropies are taken.
    pub entropy_temperature: f64,
    /// The memory limit for the softmax over all codes that training keeps, and for the tables of
    /// the entropy loss.
    pub memory_budget: MemoryBudget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codebook_size: 1024,
            codebook_dim: 8,
            initial_codes: InitialCodes::default(),
            quantization_weight: 1.0,
            commitment_weight: 1.0,
            codebook_weight: 0.25,
            entropy_weight: 0.05,
            entropy_temperature: 0.01,
            memory_budget: MemoryBudget::default(),
        }
    }
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        check_sizes(self.codebook_size, self.codebook_dim)?;
        require_weight("quantization_weight", self.quantization_weight)?;
        require_weight("commitment_weight", self.commitment_weight)?;
        require_weight("codebook_weight", self.codebook_weight)?;
        require_temperature("entropy_temperature", self.entropy_temperature)?;
        check_entropy(self.entropy_weight, self.codebook_size, self.codebook_dim, self.memory_budget)
    }

    fn batch_terms(&self) -> Vec<String> {
        entropy_term(self.entropy_weight)
    }

    fn codes(&self) -> (i64, i64) {
        (1, self.codebook_size)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        Ok(QuantizerConfig::Ibq(Self { codebook_size: codes, ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.codebook_dim
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Ibq::new(path, self, channels)?))
    }

    fn saved_bytes(&self, vectors: i64) -> i64 {
        vectors.saturating_mul(self.codebook_size).saturating_mul(4)
    }

    fn check_step(&self, vectors: i64) -> Result<(), QuantizerError> {
        let needed = self.saved_bytes(vectors);
        if needed <= self.memory_budget.bytes() {
            return Ok(());
        }
        let kept = Words::from(format!(
            "ibq keeps {vectors} vectors × {} codes × 4 bytes = {} MiB for the backward pass of a micro-batch, and ",
            self.codebook_size,
            mebibytes(needed)
        ));
        let remedy =
            format!(" is {}; raise it, raise train.micro_batches, or choose a smaller ", self.memory_budget);
        Err(QuantizerError(kept.setting("memory_budget").text(remedy).setting("codebook_size")))
    }
}

/// The IBQ quantizer.
#[derive(Debug)]
pub struct Ibq {
    config: Config,
    projection: Projection,
    /// C, the codebook, `[K, D]`.
    codebook: Tensor,
}

impl Ibq {
    /// Registers the codebook and a projection under `path`.
    ///
    /// # Errors
    /// See [`Settings::check`].
    pub fn new(path: &Scope, config: &Config, channels: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let (k, d) = (config.codebook_size, config.codebook_dim);
        let projection = Projection::new(path, channels, d);
        let init = match config.initial_codes {
            InitialCodes::Uniform => Init::Uniform { bound: 1.0 / k as f64 },
            InitialCodes::Normal => Init::Gaussian { mean: 0.0, deviation: (d as f64).powf(-0.5) },
        };
        let codebook = path.codebook("codebook", [k, d], init);
        Ok(Self { projection, codebook, config: config.clone() })
    }

    /// pᵀ·sg[C] with p = softmax(z·Cᵀ), which carries the gradient of the index to latent and
    /// codebook. It is computed in parts, so that only p of each part is kept.
    ///
    /// # Shapes
    /// `vectors [N, D]` -> `[N, D]`.
    fn soft_codes(&self, vectors: &Tensor) -> Tensor {
        let rows = self.config.memory_budget.block_bytes(vectors.device())
            / (TABLES * 4 * self.config.codebook_size);
        let parts: Vec<Tensor> = vectors
            .split(rows.max(1), 0)
            .iter()
            .map(|part| {
                let p = part.matmul(&self.codebook.tr()).softmax(-1, Kind::Float);
                p.matmul(&self.codebook.detach())
            })
            .collect();
        Tensor::cat(&parts, 0)
    }

    /// y = Cᵀ(onehot + p − sg[p]): the code in the forward pass; in the backward pass the gradients
    /// of the soft codes and of the code itself.
    fn estimate(&self, codes: &Tensor, z: &Tensor) -> Tensor {
        let soft = latent_from_vectors(&self.soft_codes(&vectors_from_latent(z)), &z.select(2, 0));
        // The code's own gradient is the gradient of the one-hot row times C.
        straight_through(codes, &(codes + soft))
    }

    fn losses(&self, z: &Tensor, y: &Tensor, codes: &Tensor, world: &World) -> (Vec<LossTerm>, Vec<Monitor>) {
        let config = &self.config;
        let mut losses = vec![LossTerm {
            name: "quantization",
            value: mean_square(y, z),
            weight: config.quantization_weight,
        }];
        losses.extend(distance_losses(z, codes, config.commitment_weight, Some(config.codebook_weight)));
        if config.entropy_weight == 0.0 {
            return (losses, vec![]);
        }
        let sharpened = &self.codebook / config.entropy_temperature;
        let (vectors, budget) = (vectors_from_latent(z), config.memory_budget);
        let entropies = assignment_entropy(&vectors, &sharpened, None, budget, world);
        let monitors = entropies.monitors();
        losses.push(LossTerm { name: "entropy", value: entropies.loss, weight: config.entropy_weight });
        (losses, monitors)
    }
}

impl Quantizer for Ibq {
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        in_full_precision(|| {
            let z = self.projection.project_in(&as_kind(z, Kind::Float));
            let block = |first, n| self.codebook.narrow(0, first, n);
            let (k, budget) = (self.config.codebook_size, self.config.memory_budget);
            let indices = nearest_codes(&z, k, block, Nearness::Product, budget);
            let codes = self.codes(0, &indices);
            let (latent, losses, monitors) = match mode {
                Mode::Eval => (codes, vec![], vec![]),
                Mode::Train { world, .. } => {
                    let y = self.estimate(&codes, &z);
                    let (losses, monitors) = self.losses(&z, &y, &codes, world);
                    (y, losses, monitors)
                }
            };
            Quantized {
                latent: self.projection.project_out(&latent),
                indices,
                losses,
                statistics: vec![],
                monitors,
                stages: vec![],
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| self.projection.project_out(&self.codes(0, indices).detach()))
    }

    fn codes(&self, _codebook: i64, indices: &Tensor) -> Tensor {
        latent_of_rows(&self.codebook, indices)
    }

    fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.config.codebook_size, dim: self.config.codebook_dim }
    }

    fn collapse_remedy(&self, _vectors: i64) -> Words {
        let words = Words::from("raise ").setting("entropy_weight").text(", or choose a smaller ");
        words.setting("codebook_size")
    }
}
