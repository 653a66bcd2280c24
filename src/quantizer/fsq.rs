//! Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): each latent dimension is
//! bounded and rounded to one of a few levels; their product is the implicit codebook. There is no
//! codebook to learn and no auxiliary loss.

mod config;
mod grid;

use tch::{Kind, Tensor};

pub use config::{Bound, Config};
use grid::Grid;

use super::digits::{MixedRadix, Order};
use super::projection::Projection;
use super::{CodebookShape, Mode, Quantized, Quantizer, Words, straight_through::straight_through};
use crate::layers::as_kind;
use crate::variables::Scope;
use pixtok_torch::{Noise, in_full_precision};

/// The FSQ quantizer; the first dimension varies fastest.
#[derive(Debug)]
pub struct Fsq {
    projection: Projection,
    radix: MixedRadix,
    grid: Grid,
    noise_probability: f64,
}

impl Fsq {
    /// Registers a projection under `path` if `channels` differs from the number of levels.
    fn new(path: &Scope, config: &Config, channels: i64, grid: Grid) -> Self {
        Self {
            projection: Projection::new(path, channels, config.levels.len() as i64),
            radix: MixedRadix::new(&config.levels, Order::FirstFastest, path.device()),
            grid,
            noise_probability: config.noise_probability,
        }
    }

    /// Replaces the code, with the probability of the settings, by the unrounded number plus
    /// uniform noise of half a step in either direction. Half a step is 1/(L − 1) on the
    /// symmetric grid. Each image has its own numbers.
    fn noisy(&self, codes: &Tensor, carrier: &Tensor, noise: Noise) -> Tensor {
        let draw = |stream| noise.derive(stream, &[]).uniform(&carrier.size(), carrier.device());
        let chosen = draw("fsq choice").lt(self.noise_probability);
        let half_steps = draw("fsq noise") - 0.5;
        let noisy = carrier.detach() + half_steps / &self.grid.half_width;
        noisy.where_self(&chosen, codes)
    }
}

impl Quantizer for Fsq {
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        in_full_precision(|| {
            let (carrier, digits) = self.grid.rounded(&self.projection.project_in(&as_kind(z, Kind::Float)));
            let codes = self.grid.codes_from_digits(&digits);
            let value = match mode {
                Mode::Train { noise, .. } if self.noise_probability > 0.0 => {
                    self.noisy(&codes, &carrier, noise)
                }
                _ => codes,
            };
            Quantized {
                latent: self.projection.project_out(&straight_through(&value, &carrier)),
                // Clamped as an integer, which a NaN has become too; everything else is in range.
                indices: self
                    .radix
                    .indices_from_digits(&as_kind(&digits, Kind::Int64))
                    .clamp(0, self.radix.size() - 1),
                losses: vec![],
                statistics: vec![],
                monitors: vec![],
                stages: vec![],
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| self.projection.project_out(&self.codes(0, indices)))
    }

    fn codes(&self, _codebook: i64, indices: &Tensor) -> Tensor {
        self.grid.codes_from_digits(&self.radix.digits_from_indices(indices))
    }

    fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.radix.size(), dim: self.radix.levels().len() as i64 }
    }

    fn digits(&self) -> Option<&MixedRadix> {
        Some(&self.radix)
    }

    fn collapse_remedy(&self, _vectors: i64) -> Words {
        "lower optimizer.lr or lengthen the warm-up".into()
    }
}

#[cfg(test)]
mod tests;
