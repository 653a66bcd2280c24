//! Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): each latent dimension is bounded and rounded
//! to one of a few levels; their product is the implicit codebook. No codebook to learn, no auxiliary loss.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::projection::Projection;
use super::{
    CodebookShape, MAX_CODES, Mode, Quantized, Quantizer, QuantizerError, Settings,
    straight_through::straight_through,
};
use crate::torch::in_full_precision;

/// The level sets that the paper recommends (its appendix A.4.1), from 2^4 to 2^16 codes.
const RECOMMENDED: [&[i64]; 9] = [
    &[5, 3],
    &[8, 8],
    &[8, 6, 5],
    &[8, 8, 8],
    &[8, 5, 5, 5],
    &[8, 8, 6, 5],
    &[7, 5, 5, 5, 5],
    &[8, 8, 8, 6, 5],
    &[8, 8, 8, 5, 5, 5],
];
/// Most levels at which the tanh bounds still reach their end levels.
const MAX_TANH_LEVELS: i64 = 1000;

/// How a latent number is bounded before rounding. Tokens are **not** interchangeable between bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// tanh scaled by 1 − 1e-3, as in the paper's official notebook.
    Paper,
    /// tanh scaled by 1 + 1e-3, as in vector-quantize-pytorch, Cosmos and most public weights.
    #[default]
    Tanh,
    /// (L − 1)·σ(slope·z): a symmetric grid without an offset (kexue.fm 9826; slope 1.6: arXiv 2601.17124).
    Sigmoid,
}

/// The paper's set for 2^10 codes.
fn default_levels() -> Vec<i64> {
    vec![8, 5, 5, 5]
}

/// Settings of FSQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Levels L_i per dimension; K is their product. At least 5 each is the advice.
    #[serde(default = "default_levels")]
    pub levels: Vec<i64>,
    /// The bound.
    #[serde(default)]
    pub bound: Bound,
    /// Factor on z, for the sigmoid bound alone (1 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<f64>,
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        let fail = |message: String| Err(QuantizerError(message));
        if self.levels.is_empty() {
            return fail(
                "quantizer.levels is empty; give one level count per dimension, like [8, 5, 5, 5]".into(),
            );
        }
        if let Some(level) = self.levels.iter().find(|&&level| level < 2) {
            return fail(format!(
                "quantizer.levels has {level}; each dimension needs 2 levels or more (5 advised)"
            ));
        }
        let codes = self.levels.iter().try_fold(1i64, |k, &level| k.checked_mul(level));
        if codes.is_none_or(|k| k > MAX_CODES) {
            let levels = &self.levels;
            return fail(format!(
                "quantizer.levels {levels:?} make more than 2^31 codes; use fewer or smaller levels"
            ));
        }
        let most = self.levels.iter().copied().max().unwrap_or(0);
        if self.bound != Bound::Sigmoid && most > MAX_TANH_LEVELS {
            return fail(format!(
                "quantizer.levels has {most}; the paper and tanh bounds lose end levels above {MAX_TANH_LEVELS}, so \
                 use bound = \"sigmoid\" or fewer levels"
            ));
        }
        match self.slope {
            Some(_) if self.bound != Bound::Sigmoid => {
                fail("quantizer.slope belongs to bound = \"sigmoid\"; remove it or change the bound".into())
            }
            Some(slope) if !(slope.is_finite() && slope > 0.0) => {
                fail(format!("quantizer.slope is {slope}; it must be over 0"))
            }
            _ => Ok(()),
        }
    }

    fn natural_width(&self) -> i64 {
        self.levels.len() as i64
    }

    fn build(&self, path: &nn::Path, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Fsq::new(path, self, channels)?))
    }

    fn advice(&self) -> Option<String> {
        let few =
            self.levels.iter().any(|&level| level < 5) && !RECOMMENDED.contains(&self.levels.as_slice());
        few.then(|| {
            format!(
                "quantizer.levels {:?} has fewer than 5 in a dimension, which is not advised",
                self.levels
            )
        })
    }
}

/// The FSQ quantizer. Constants have shape `[D, 1, 1]`, to broadcast over `[B, D, h, w]`.
#[derive(Debug)]
pub struct Fsq {
    config: Config,
    projection: Projection,
    levels: Tensor,
    /// Largest digit per dimension, L − 1.
    top: Tensor,
    /// basis_i = L_1 … L_{i−1}: the first dimension varies fastest.
    basis: Tensor,
    /// Half the grid in digits: a code is digit / half_width − 1.
    half_width: Tensor,
    /// Scale, offset and shift of the tanh bounds.
    scale: Tensor,
    offset: Tensor,
    shift: Tensor,
}

impl Fsq {
    /// Registers a projection under `path` when `channels` differs from the number of levels.
    ///
    /// # Errors
    /// See [`Settings::check`].
    pub fn new(path: &nn::Path, config: &Config, channels: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let levels = &config.levels;
        let bound = config.bound;
        let constant = |f: &dyn Fn(f64) -> f64| {
            let values: Vec<f64> = levels.iter().map(|&level| f(level as f64)).collect();
            Tensor::from_slice(&values).to_kind(Kind::Float).view([-1, 1, 1]).to_device(path.device())
        };
        let integers = |values: &[i64]| Tensor::from_slice(values).view([-1, 1, 1]).to_device(path.device());
        let basis: Vec<i64> = levels
            .iter()
            .scan(1, |product, &level| Some(std::mem::replace(product, *product * level)))
            .collect();
        let eps = if bound == Bound::Paper { -1e-3 } else { 1e-3 };
        let scale = |level: f64| (level - 1.0) * (1.0 + eps) / 2.0;
        let offset = |level: f64| if level % 2.0 == 0.0 { 0.5 } else { 0.0 };
        let inverse = if bound == Bound::Paper { f64::tan } else { f64::atanh };
        let half_width = |level: f64| {
            if bound == Bound::Sigmoid { (level - 1.0) / 2.0 } else { (level / 2.0).floor() }
        };
        Ok(Self {
            projection: Projection::new(path, channels, levels.len() as i64),
            levels: integers(levels),
            top: integers(&levels.iter().map(|level| level - 1).collect::<Vec<_>>()),
            basis: integers(&basis),
            half_width: constant(&half_width),
            scale: constant(&scale),
            offset: constant(&offset),
            shift: constant(&|level| inverse(offset(level) / scale(level))),
            config: config.clone(),
        })
    }

    /// The unrounded code, whose gradient the encoder gets, and the digits. Rounding is half to even (torch's).
    ///
    /// # Shapes
    /// `[B, D, h, w]` -> carrier `[B, D, h, w]` float, digits `[B, D, h, w]` int64.
    fn rounded(&self, z: &Tensor) -> (Tensor, Tensor) {
        let (carrier, digits) = match self.config.bound {
            Bound::Paper | Bound::Tanh => {
                let bounded = (z + &self.shift).tanh() * &self.scale - &self.offset;
                (&bounded / &self.half_width, bounded.detach().round() + &self.half_width)
            }
            Bound::Sigmoid => {
                let slope = self.config.slope.unwrap_or(1.0);
                let bounded = (z * slope).sigmoid() * &self.top;
                (&bounded / &self.half_width - 1.0, bounded.detach().round())
            }
        };
        // Clamped as integers, where a NaN has become one too.
        let zero = self.top.zeros_like();
        (carrier, digits.to_kind(Kind::Int64).clamp_tensor(Some(&zero), Some(&self.top)))
    }

    /// `[B, D, h, w]` int64 -> codes `[B, D, h, w]` in [−1, 1]; never −0.0.
    fn codes_from_digits(&self, digits: &Tensor) -> Tensor {
        (digits - &self.half_width) / &self.half_width
    }

    /// index = Σ digit_i · basis_i, in integers.
    fn indices_from_digits(&self, digits: &Tensor) -> Tensor {
        (digits * &self.basis).sum_dim_intlist(1, false, Kind::Int64)
    }

    /// digit_i = ⌊index / basis_i⌋ mod L_i.
    fn digits_from_indices(&self, indices: &Tensor) -> Tensor {
        let clamped = indices.clamp(0, self.codebook().size - 1).unsqueeze(1);
        clamped.divide_tensor_mode(&self.basis, "floor").remainder_tensor(&self.levels)
    }
}

impl Quantizer for Fsq {
    fn quantize(&self, z: &Tensor, _mode: Mode) -> Quantized {
        in_full_precision(|| {
            let (carrier, digits) = self.rounded(&self.projection.project_in(&z.to_kind(Kind::Float)));
            let codes = straight_through(&self.codes_from_digits(&digits), &carrier);
            Quantized {
                latent: self.projection.project_out(&codes),
                indices: self.indices_from_digits(&digits),
                losses: vec![],
                statistics: vec![],
                monitors: vec![],
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| {
            let codes = self.codes_from_digits(&self.digits_from_indices(indices));
            self.projection.project_out(&codes)
        })
    }

    fn codebook(&self) -> CodebookShape {
        let levels = &self.config.levels;
        CodebookShape { codebooks: 1, size: levels.iter().product(), dim: levels.len() as i64 }
    }

    fn collapse_remedy(&self) -> &'static str {
        "lower optimizer.lr or lengthen the warm-up, or choose fewer levels (quantizer.levels)"
    }
}

#[cfg(test)]
mod tests;
