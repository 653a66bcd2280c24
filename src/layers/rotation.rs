//! Rotary positions in two dimensions (RoPE, arXiv 2104.09864).
//!
//! The first half of a head's numbers is rotated by the row of a position, the second half by its
//! column. Of the `d` numbers of a half, the pair (2i, 2i + 1) is rotated by the coordinate times
//! θ_i = base^(−2i/d). So the product of a query and a key depends only on the offset between their
//! positions.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};
use tch::{Kind, Tensor};

use super::as_kind;
use pixtok_tokens::Grid;

/// What is done with grids larger than the trained one, along each axis separately:
/// k = max(1, side / largest side in training).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Display, EnumString)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_extension)]
pub enum Extension {
    /// Positions count on.
    #[default]
    None,
    /// Positions are divided by k.
    Interpolate,
    /// base becomes base·k^(d/(d−2)), which leaves the highest frequency and divides the lowest by
    /// k (kexue.fm 9675).
    Ntk,
}

fn no_extension(text: &str) -> String {
    format!("\"{text}\" is not an extension of positions; use none, interpolate or ntk")
}

/// The settings of a rotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotationSettings {
    /// The base of the frequencies.
    pub base: f64,
    /// The numbers of a head, a multiple of 4.
    pub head_dim: i64,
    /// The most rows and the most columns in training.
    pub trained: Grid,
    /// What is done with larger grids.
    pub extension: Extension,
}

/// The angles of all positions of a grid.
#[derive(Debug)]
pub struct Rotation {
    /// cos + i·sin of each pair's angle: `[N, head_dim / 2]` complex, of float32. To rotate a pair
    /// is to multiply it by this as a complex number: one pass, and one more backward.
    turns: Tensor,
}

impl Rotation {
    /// The angles of a grid as large as `places`, row by row. The size is never read as a number,
    /// so that a trace works for any.
    ///
    /// # Shapes
    /// `places`: `[B, h, w]` or `[h, w]`.
    #[must_use]
    pub fn of_grid(settings: &RotationSettings, places: &Tensor) -> Self {
        let of_one = if places.dim() == 3 { places.select(0, 0) } else { places.shallow_clone() };
        let ones = of_one.ones_like();
        let along = |axis: i64, trained: u32| {
            // [h, w], and k.
            let coordinates = ones.cumsum(axis, Kind::Float) - 1.0;
            let beyond = ((coordinates.max() + 1.0) / f64::from(trained)).clamp_min(1.0);
            settings.angles(&ones, &coordinates, &beyond)
        };
        let angles = Tensor::cat(&[along(0, settings.trained.h), along(1, settings.trained.w)], 2);
        Self { turns: Tensor::complex(&angles.cos(), &angles.sin()).flatten(0, 1) }
    }

    /// The same with `before` positions before and `after` behind that are not rotated, such as
    /// registers.
    #[must_use]
    pub fn padded(&self, before: i64, after: i64) -> Self {
        Self { turns: self.turns.pad([0, 0, before, after], "constant", 1.0) }
    }

    /// Rotates queries or keys, in float32 whatever the precision.
    ///
    /// # Shapes
    /// `[B, heads, N, head_dim]` -> the same. The numbers of a head must be adjacent in memory.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let pairs = as_kind(x, Kind::Float).unflatten(-1, [-1, 2]).view_as_complex();
        as_kind(&(pairs * &self.turns).view_as_real().flatten(-2, -1), x.kind())
    }

    /// The same angles, with shared storage.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self { turns: self.turns.shallow_clone() }
    }
}

impl RotationSettings {
    /// The angles along one axis of a grid that is k times as large as in training. `ones` is a
    /// grid of ones of any size.
    ///
    /// # Shapes
    /// `coordinates`: `[h, w]`, `beyond` (k): `[]` -> `[h, w, head_dim / 4]`.
    fn angles(&self, ones: &Tensor, coordinates: &Tensor, beyond: &Tensor) -> Tensor {
        let d = self.head_dim / 2;
        // i, computed from `ones`, since a trace would keep the device of a new tensor.
        let i = ones.select(0, 0).narrow(0, 0, 1).expand([d / 2], false).cumsum(0, Kind::Float) - 1.0;
        let frequencies = (&i * (-2.0 * self.base.ln() / d as f64)).exp();
        let (coordinates, frequencies) = match self.extension {
            Extension::None => (coordinates.shallow_clone(), frequencies),
            Extension::Interpolate => (coordinates / beyond, frequencies),
            // (base·k^(d/(d−2)))^(−2i/d) = θ_i·k^(−2i/(d−2)). A single frequency is the highest.
            Extension::Ntk => {
                let slower = beyond.pow(&(i * (-2.0 / (d - 2).max(1) as f64)));
                (coordinates.shallow_clone(), frequencies * slower)
            }
        };
        coordinates.unsqueeze(2) * frequencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;
    use pixtok_torch::fill_gaussian;
    use tch::Device;

    const BASE: f64 = 100.0;

    fn settings(head_dim: i64, extension: Extension) -> RotationSettings {
        RotationSettings { base: BASE, head_dim, trained: Grid { h: 4, w: 6 }, extension }
    }

    fn places(h: i64, w: i64) -> Tensor {
        Tensor::zeros([2, h, w], (Kind::Int64, Device::Cpu))
    }

    fn gaussian(shape: &[i64], seed: u64) -> Tensor {
        let x = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        fill_gaussian(&x, Seed(seed), 0.0, 1.0);
        x
    }

    /// θ of the rows in a grid of 4·`times` rows: the angles of the second row.
    fn frequencies(head_dim: i64, extension: Extension, times: i64) -> Vec<f64> {
        let grid = places(4 * times, 6);
        let rotation = Rotation::of_grid(&settings(head_dim, extension), &grid);
        let second_row = rotation.turns.get(6).narrow(0, 0, head_dim / 4);
        Vec::try_from(second_row.angle().to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn ntk_leaves_the_highest_frequency_and_divides_the_lowest_by_k() {
        // d = 32, in a base-β code: λ = k^(2/30).
        for (k, lambda) in [(2i64, 1.0473), (4, 1.0968)] {
            let (plain, ntk) = (frequencies(64, Extension::None, k), frequencies(64, Extension::Ntk, k));
            assert_eq!((plain.len(), plain[0]), (16, ntk[0]));
            for (i, found) in plain.iter().enumerate() {
                let exact = BASE.powf(-2.0 * i as f64 / 32.0);
                assert!((found / exact - 1.0).abs() < 1e-5, "{i}");
            }
            for (short, long) in plain.windows(2).zip(ntk.windows(2)) {
                let (beta, longer) = (short[0] / short[1], long[0] / long[1]);
                assert!((longer / beta - lambda).abs() < 1e-4, "k = {k}: {}", longer / beta);
            }
            assert!((plain[15] / ntk[15] - k as f64).abs() < 1e-4);
            // Nothing changes at the trained size or below it.
            assert_eq!(frequencies(64, Extension::Ntk, 1), frequencies(64, Extension::None, 1));
        }
        // The only frequency of an axis is the highest.
        assert_eq!(frequencies(4, Extension::Ntk, 2), frequencies(4, Extension::None, 2));
    }

    #[test]
    fn interpolation_divides_positions_only_along_the_longer_axis() {
        let (plain, halved) =
            (frequencies(16, Extension::None, 2), frequencies(16, Extension::Interpolate, 2));
        assert!(plain.iter().zip(&halved).all(|(plain, halved)| (plain / halved - 2.0).abs() < 1e-5));
        let of = |extension| Rotation::of_grid(&settings(16, extension), &places(8, 6));
        let columns = |rotation: Rotation| rotation.turns.imag().narrow(1, 4, 4);
        assert_eq!(columns(of(Extension::Interpolate)), columns(of(Extension::None)));
        assert_eq!(columns(of(Extension::Ntk)), columns(of(Extension::None)));
    }

    #[test]
    fn a_rotation_keeps_norms_and_separates_rows_and_columns() {
        let rotation = Rotation::of_grid(&settings(16, Extension::None), &places(5, 7));
        let x = gaussian(&[2, 3, 35, 16], 1);
        let turned = rotation.apply(&x);
        let norm = |x: &Tensor| x.square().sum_dim_intlist([-1].as_slice(), false, Kind::Float).sqrt();
        assert!((norm(&turned) / norm(&x) - 1.0).abs().max().double_value(&[]) < 1e-5);
        let at = |x: &Tensor, row: i64, column: i64| x.select(2, row * 7 + column);
        assert_eq!(at(&turned, 0, 0), at(&x, 0, 0));
        let halves = |x: Tensor| (x.narrow(2, 0, 8), x.narrow(2, 8, 8));
        let ((rows, columns), (rows_before, columns_before)) =
            (halves(at(&turned, 2, 0)), halves(at(&x, 2, 0)));
        assert_eq!(columns, columns_before);
        assert_ne!(rows, rows_before);
        let ((rows, columns), (rows_before, columns_before)) =
            (halves(at(&turned, 0, 3)), halves(at(&x, 0, 3)));
        assert_eq!(rows, rows_before);
        assert_ne!(columns, columns_before);
        // Half precision stays half precision.
        assert_eq!(rotation.apply(&x.to_kind(Kind::BFloat16)).kind(), Kind::BFloat16);
    }

    #[test]
    fn a_score_depends_only_on_the_offset() {
        for extension in [Extension::None, Extension::Interpolate, Extension::Ntk] {
            let rotation = Rotation::of_grid(&settings(16, extension), &places(8, 7));
            let everywhere = |seed| gaussian(&[1, 1, 1, 16], seed).expand([1, 1, 56, 16], false);
            let (q, k) = (rotation.apply(&everywhere(1)), rotation.apply(&everywhere(2)));
            let scores = q.matmul(&k.transpose(2, 3)).squeeze();
            let score = |from: [i64; 2], to: [i64; 2]| {
                scores.double_value(&[from[0] * 7 + from[1], to[0] * 7 + to[1]])
            };
            let (a, b) = (score([0, 1], [3, 4]), score([4, 3], [7, 6]));
            assert!((a - b).abs() < 1e-4, "{extension:?}: {a} and {b}");
            assert!((a - score([0, 1], [3, 5])).abs() > 1e-3, "{extension:?}");
        }
    }

    #[test]
    fn added_positions_are_not_rotated() {
        let rotation = Rotation::of_grid(&settings(8, Extension::None), &places(5, 7)).padded(2, 3);
        let x = gaussian(&[1, 2, 40, 8], 3);
        let turned = rotation.apply(&x);
        for (start, length) in [(0, 3), (37, 3)] {
            assert_eq!(turned.narrow(2, start, length), x.narrow(2, start, length));
        }
        assert_ne!(turned.select(2, 3), x.select(2, 3));
    }
}
