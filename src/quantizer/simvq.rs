//! SimVQ (Zhu et al. 2024, arXiv 2411.02038): the codes are a frozen random table C times one
//! learned matrix W, so that every step moves every code and no code dies. Otherwise it is the same
//! as VQ with a codebook that learns by gradient.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::codebook::{check_sizes, distance_losses, nearest_codes, rows};
use super::estimator::GradientEstimator;
use super::memory::MemoryBudget;
use super::projection::Projection;
use super::search::Nearness;
use super::vectors::latent_from_vectors;
use super::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, Words, require,
    require_weight,
};
use crate::layers::as_kind;
use crate::variables::{Init, Scope};
use pixtok_torch::in_full_precision;

/// Settings of SimVQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// K, the number of codes.
    pub codebook_size: i64,
    /// D, the dimension of a code.
    pub codebook_dim: i64,
    /// Weight of ‖z − sg[e]‖², which moves the encoder towards its code.
    pub commitment_weight: f64,
    /// Weight of ‖sg[z] − e‖², which moves W.
    pub codebook_weight: f64,
    /// Whether the linear map has a bias (the official code has one, vector-quantize-pytorch has
    /// none).
    pub bias: bool,
    /// The gradient that the encoder gets.
    pub gradient_estimator: GradientEstimator,
    /// The memory limit for the distances of the search.
    pub memory_budget: MemoryBudget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codebook_size: 1024,
            codebook_dim: 8,
            commitment_weight: 0.25,
            codebook_weight: 1.0,
            bias: true,
            gradient_estimator: GradientEstimator::default(),
            memory_budget: MemoryBudget::default(),
        }
    }
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        check_sizes(self.codebook_size, self.codebook_dim)?;
        require_weight("commitment_weight", self.commitment_weight)?;
        require_weight("codebook_weight", self.codebook_weight)?;
        require(
            self.gradient_estimator != GradientEstimator::Diveq,
            "gradient_estimator",
            "\"diveq\"",
            "simvq has \"straight-through\" and \"rotation\"; diveq goes with kind = \"vq\"",
        )
    }

    fn codes(&self) -> (i64, i64) {
        (1, self.codebook_size)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        Ok(QuantizerConfig::Simvq(Self { codebook_size: codes, ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.codebook_dim
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(SimVq::new(path, self, channels)?))
    }
}

/// The SimVQ quantizer.
#[derive(Debug)]
pub struct SimVq {
    config: Config,
    projection: Projection,
    /// C, `[K, D]`, a buffer.
    frozen: Tensor,
    /// W, `[D, D]`: the codebook is C·Wᵀ.
    map: Tensor,
    /// `[D]`.
    bias: Option<Tensor>,
}

impl SimVq {
    /// Registers the frozen table, the map and a projection under `path`.
    ///
    /// # Errors
    /// See [`Settings::check`].
    pub fn new(path: &Scope, config: &Config, channels: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let (k, d) = (config.codebook_size, config.codebook_dim);
        let deviation = (d as f64).powf(-0.5);
        let frozen = path.codebook_buffer("frozen", [k, d], Init::Gaussian { mean: 0.0, deviation });
        // torch.nn.Linear's initialisation: weight and bias are uniform within 1/√D.
        let init = Init::Uniform { bound: deviation };
        Ok(Self {
            projection: Projection::new(path, channels, d),
            frozen,
            // The codes are computed from it. Like a codebook, it has no weight decay by default.
            map: path.codebook("map", [d, d], init),
            bias: config.bias.then(|| path.bias("map_bias", d, init)),
            config: config.clone(),
        })
    }

    /// W·c + b for rows c of the frozen table.
    fn mapped(&self, rows: &Tensor) -> Tensor {
        rows.linear(&self.map, self.bias.as_ref())
    }
}

impl Quantizer for SimVq {
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        in_full_precision(|| {
            let z = self.projection.project_in(&as_kind(z, Kind::Float));
            let block = |first, n| self.mapped(&self.frozen.narrow(0, first, n));
            let (k, budget) = (self.config.codebook_size, self.config.memory_budget);
            let indices = nearest_codes(&z, k, block, Nearness::Euclidean, budget);
            let codes = self.codes(0, &indices);
            let (latent, losses) = match mode {
                Mode::Eval => (codes, vec![]),
                Mode::Train { .. } => (
                    self.config.gradient_estimator.estimate(&codes, &z),
                    distance_losses(
                        &z,
                        &codes,
                        self.config.commitment_weight,
                        Some(self.config.codebook_weight),
                    ),
                ),
            };
            Quantized {
                latent: self.projection.project_out(&latent),
                indices,
                losses,
                statistics: vec![],
                monitors: vec![],
                stages: vec![],
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| self.projection.project_out(&self.codes(0, indices).detach()))
    }

    /// e = W·c, only for the codes at `indices`; never −0.0.
    fn codes(&self, _codebook: i64, indices: &Tensor) -> Tensor {
        in_full_precision(|| latent_from_vectors(&(self.mapped(&rows(&self.frozen, indices)) + 0.0), indices))
    }

    fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.config.codebook_size, dim: self.config.codebook_dim }
    }

    fn collapse_remedy(&self, _vectors: i64) -> Words {
        let words = Words::from("lower optimizer.lr, or choose a smaller ").setting("codebook_size");
        words.text(" or ").setting("codebook_dim")
    }
}
