//! The positions of FSQ's codes, and the bound on a number before it is rounded to one.

use tch::{Device, Kind, Tensor};

use super::config::{Bound, Config};

/// How a latent number is bounded, and the positions of the codes: digit = round(bounded) +
/// `digit_of_zero`, code = (digit − `centre`) / `half_width`. Constants have shape `[D]` and
/// broadcast over `[B, N, D]`.
#[derive(Debug)]
pub struct Grid {
    pub squash: Squash,
    pub digit_of_zero: Tensor,
    pub centre: Tensor,
    pub half_width: Tensor,
}

/// The function that bounds a number before rounding, in steps of one level.
#[derive(Debug)]
pub enum Squash {
    /// tanh(z + shift) · scale − offset, computed as σ(2z + `twice_shift`) · `twice_scale` −
    /// `scale_and_offset`. Only the last bit differs, and libtorch's σ takes a third of the time of
    /// its tanh.
    Tanh { twice_shift: Tensor, twice_scale: Tensor, scale_and_offset: Tensor },
    /// (L − 1) · σ(slope · z).
    Sigmoid { slope: f64, top: Tensor },
    /// (L − 1) · (clamp(z · zoom, −1, 1) + 1) / 2.
    Clamp { zoom: Tensor, half: Tensor },
}

impl Grid {
    /// The grid of the settings.
    pub fn bounded(config: &Config, device: Device) -> Self {
        let each = |f: &dyn Fn(f64) -> f64| constant(&config.levels, device, f);
        let bound = config.bound.unwrap_or_default();
        let Some(eps) = bound.epsilon() else {
            let half = |level: f64| (level - 1.0) / 2.0;
            let slope = config.slope.unwrap_or(1.0);
            let squash = Squash::Sigmoid { slope, top: each(&|level| level - 1.0) };
            return Self {
                squash,
                digit_of_zero: each(&|_| 0.0),
                centre: each(&half),
                half_width: each(&half),
            };
        };
        let inverse = if bound == Bound::Paper { f64::tan } else { f64::atanh };
        let scale = |level: f64| (level - 1.0) * (1.0 + eps) / 2.0;
        let offset = |level: f64| if level % 2.0 == 0.0 { 0.5 } else { 0.0 };
        let half = |level: f64| (level / 2.0).floor();
        let squash = Squash::Tanh {
            twice_shift: each(&|level| 2.0 * inverse(offset(level) / scale(level))),
            twice_scale: each(&|level| 2.0 * scale(level)),
            scale_and_offset: each(&|level| scale(level) + offset(level)),
        };
        Self { squash, digit_of_zero: each(&half), centre: each(&half), half_width: each(&half) }
    }

    /// The grid of residual stage `stage`: symmetric, and L^stage times as fine.
    pub fn stage(config: &Config, stage: i64, device: Device) -> Self {
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

    /// The unrounded code, whose gradient the encoder gets, and the digits. Ties round to even
    /// (torch's rule).
    ///
    /// # Shapes
    /// `[B, N, D]` -> carrier and digits `[B, N, D]`, float32; a NaN stays a NaN.
    pub fn rounded(&self, z: &Tensor) -> (Tensor, Tensor) {
        let Grid { squash, digit_of_zero, centre, half_width } = self;
        let (bounded, carrier) = match squash {
            Squash::Tanh { twice_shift, twice_scale, scale_and_offset } => {
                let bounded = (z * 2.0 + twice_shift).sigmoid() * twice_scale - scale_and_offset;
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
        (carrier, bounded.detach().round() + digit_of_zero)
    }

    /// Converts digits of either type, `[B, N, D]`, to codes `[B, N, D]` in [−1, 1]; never −0.0.
    pub fn codes_from_digits(&self, digits: &Tensor) -> Tensor {
        (digits - &self.centre) / &self.half_width
    }
}

fn constant(levels: &[i64], device: Device, of_level: &dyn Fn(f64) -> f64) -> Tensor {
    let values: Vec<f64> = levels.iter().map(|&level| of_level(level as f64)).collect();
    Tensor::from_slice(&values).to_kind(Kind::Float).to_device(device)
}
