//! Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): each latent dimension is bounded and rounded
//! to one of a few levels; their product is the implicit codebook. No codebook to learn, no auxiliary loss.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, nn};

use super::digits::{MixedRadix, Order};
use super::projection::Projection;
use super::{
    CodebookShape, MAX_CODES, Mode, Quantized, Quantizer, QuantizerError, Settings, require,
    straight_through::straight_through,
};
use crate::seed::Seed;
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
    /// The bound; absent: `tanh`. The stages of a residual quantizer have one of their own, and none to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// Factor on z, for the sigmoid bound alone (1 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<f64>,
    /// In training, with this probability for each number, noise of up to half a step either way takes the place of
    /// rounding (arXiv 2411.19842); 0 is never.
    #[serde(default)]
    pub noise_probability: f64,
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
        let bound = self.bound.unwrap_or_default();
        if bound != Bound::Sigmoid && most > MAX_TANH_LEVELS {
            return fail(format!(
                "quantizer.levels has {most}; the paper and tanh bounds lose end levels above {MAX_TANH_LEVELS}, so \
                 use bound = \"sigmoid\" or fewer levels"
            ));
        }
        let noise = self.noise_probability;
        require((0.0..=1.0).contains(&noise), "noise_probability", noise, "it must be from 0 to 1")?;
        match self.slope {
            Some(_) if bound != Bound::Sigmoid => {
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
        self.check()?;
        let grid = Grid::bounded(self, path.device());
        Ok(Box::new(Fsq::new(path, self, channels, grid)))
    }

    fn check_stage(&self) -> Result<(), QuantizerError> {
        if let Some(key) = [("bound", self.bound.is_some()), ("slope", self.slope.is_some())]
            .iter()
            .find_map(|(key, given)| given.then_some(key))
        {
            return Err(QuantizerError(format!(
                "quantizer.{key} is given for the stages of a residual quantizer, whose input is squashed before the \
                 first stage and clamped to the symmetric grid in each; remove it"
            )));
        }
        // The symmetric grid takes any number of levels.
        Config { bound: Some(Bound::Sigmoid), ..self.clone() }.check()
    }

    fn build_stage(
        &self,
        path: &nn::Path,
        channels: i64,
        stage: i64,
    ) -> Result<Box<dyn Quantizer>, QuantizerError> {
        self.check_stage()?;
        Ok(Box::new(Fsq::new(path, self, channels, Grid::stage(self, stage, path.device()))))
    }

    fn stage_limits(&self) -> Option<Vec<f64>> {
        // s = L/(L − 1): half a step beyond the outermost codes.
        Some(self.levels.iter().map(|&level| level as f64 / (level - 1) as f64).collect())
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

/// How a latent number is bounded and where the codes lie: digit = round(bounded) + `digit_of_zero`, code =
/// (digit − `centre`) / `half_width`. Constants have shape `[D, 1, 1]`, to broadcast over `[B, D, h, w]`.
#[derive(Debug)]
struct Grid {
    squash: Squash,
    digit_of_zero: Tensor,
    centre: Tensor,
    half_width: Tensor,
}

/// What bounds a number before it is rounded, in steps of one level.
#[derive(Debug)]
enum Squash {
    /// tanh(z + shift) · scale − offset.
    Tanh { shift: Tensor, scale: Tensor, offset: Tensor },
    /// (L − 1) · σ(slope · z).
    Sigmoid { slope: f64, top: Tensor },
    /// (L − 1) · (clamp(z · zoom, −1, 1) + 1) / 2.
    Clamp { zoom: Tensor, half: Tensor },
}

impl Grid {
    fn bounded(config: &Config, device: Device) -> Self {
        let each = |f: &dyn Fn(f64) -> f64| constant(&config.levels, device, f);
        let bound = config.bound.unwrap_or_default();
        if bound == Bound::Sigmoid {
            let half = |level: f64| (level - 1.0) / 2.0;
            let slope = config.slope.unwrap_or(1.0);
            let squash = Squash::Sigmoid { slope, top: each(&|level| level - 1.0) };
            return Self {
                squash,
                digit_of_zero: each(&|_| 0.0),
                centre: each(&half),
                half_width: each(&half),
            };
        }
        let eps = if bound == Bound::Paper { -1e-3 } else { 1e-3 };
        let inverse = if bound == Bound::Paper { f64::tan } else { f64::atanh };
        let scale = |level: f64| (level - 1.0) * (1.0 + eps) / 2.0;
        let offset = |level: f64| if level % 2.0 == 0.0 { 0.5 } else { 0.0 };
        let half = |level: f64| (level / 2.0).floor();
        let squash = Squash::Tanh {
            shift: each(&|level| inverse(offset(level) / scale(level))),
            scale: each(&scale),
            offset: each(&offset),
        };
        Self { squash, digit_of_zero: each(&half), centre: each(&half), half_width: each(&half) }
    }

    /// Of residual stage `stage`: the symmetric grid, L^stage times as fine.
    fn stage(config: &Config, stage: i64, device: Device) -> Self {
        let each = |f: &dyn Fn(f64) -> f64| constant(&config.levels, device, f);
        let zoom = |level: f64| level.powf(stage as f64);
        let half = |level: f64| (level - 1.0) / 2.0;
        Self {
            squash: Squash::Clamp { zoom: each(&zoom), half: each(&half) },
            digit_of_zero: each(&|_| 0.0),
            centre: each(&half),
            half_width: each(&|level| half(level) * zoom(level)),
        }
    }
}

fn constant(levels: &[i64], device: Device, of_level: &dyn Fn(f64) -> f64) -> Tensor {
    let values: Vec<f64> = levels.iter().map(|&level| of_level(level as f64)).collect();
    Tensor::from_slice(&values).to_kind(Kind::Float).view([-1, 1, 1]).to_device(device)
}

/// The FSQ quantizer; the first dimension varies fastest.
#[derive(Debug)]
pub struct Fsq {
    projection: Projection,
    radix: MixedRadix,
    grid: Grid,
    noise_probability: f64,
}

impl Fsq {
    /// Registers a projection under `path` when `channels` differs from the number of levels.
    fn new(path: &nn::Path, config: &Config, channels: i64, grid: Grid) -> Self {
        Self {
            projection: Projection::new(path, channels, config.levels.len() as i64),
            radix: MixedRadix::new(&config.levels, Order::FirstFastest, path.device()),
            grid,
            noise_probability: config.noise_probability,
        }
    }

    /// The unrounded code, whose gradient the encoder gets, and the digits. Rounding is half to even (torch's).
    ///
    /// # Shapes
    /// `[B, D, h, w]` -> carrier `[B, D, h, w]` float, digits `[B, D, h, w]` int64.
    fn rounded(&self, z: &Tensor) -> (Tensor, Tensor) {
        let Grid { squash, digit_of_zero, centre, half_width } = &self.grid;
        let (bounded, carrier) = match squash {
            Squash::Tanh { shift, scale, offset } => {
                let bounded = (z + shift).tanh() * scale - offset;
                let carrier = &bounded / half_width;
                (bounded, carrier)
            }
            Squash::Sigmoid { slope, top } => {
                let bounded = (z * *slope).sigmoid() * top;
                let carrier = &bounded / half_width - 1.0;
                (bounded, carrier)
            }
            Squash::Clamp { zoom, half } => {
                let bounded = ((z * zoom).clamp(-1.0, 1.0) + 1.0) * half;
                let carrier = (&bounded - centre) / half_width;
                (bounded, carrier)
            }
        };
        // Clamped as integers, where a NaN has become one too.
        let digits = (bounded.detach().round() + digit_of_zero).to_kind(Kind::Int64);
        (carrier, self.radix.clamped(&digits))
    }

    /// `[B, D, h, w]` int64 -> codes `[B, D, h, w]` in [−1, 1]; never −0.0.
    fn codes_from_digits(&self, digits: &Tensor) -> Tensor {
        (digits - &self.grid.centre) / &self.grid.half_width
    }

    /// With the probability of the settings, the unrounded number plus uniform noise of half a step either way, in place
    /// of the code. On the symmetric grid half a step is 1/(L − 1).
    fn noisy(&self, codes: &Tensor, carrier: &Tensor, seed: Seed) -> Tensor {
        seed.derive("fsq noise", &[]).reseed_torch();
        let chosen = carrier.rand_like().detach().lt(self.noise_probability);
        let half_steps = carrier.rand_like().detach() - 0.5;
        let noisy = carrier.detach() + half_steps / &self.grid.half_width;
        noisy.where_self(&chosen, codes)
    }
}

impl Quantizer for Fsq {
    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        in_full_precision(|| {
            let (carrier, digits) = self.rounded(&self.projection.project_in(&z.to_kind(Kind::Float)));
            let codes = self.codes_from_digits(&digits);
            let value = match mode {
                Mode::Train { seed } if self.noise_probability > 0.0 => self.noisy(&codes, &carrier, seed),
                _ => codes,
            };
            Quantized {
                latent: self.projection.project_out(&straight_through(&value, &carrier)),
                indices: self.radix.indices_from_digits(&digits),
                losses: vec![],
                statistics: vec![],
                monitors: vec![],
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| {
            self.projection.project_out(&self.codes_from_digits(&self.radix.digits_from_indices(indices)))
        })
    }

    fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.radix.size(), dim: self.radix.levels().len() as i64 }
    }

    fn digits(&self) -> Option<&MixedRadix> {
        Some(&self.radix)
    }

    fn collapse_remedy(&self) -> String {
        "lower optimizer.lr or lengthen the warm-up, or choose fewer levels (quantizer.levels)".into()
    }
}

#[cfg(test)]
mod tests;
