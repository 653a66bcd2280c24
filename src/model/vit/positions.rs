//! Learned positions: a vector for each patch of the trained grid, which has the most rows and the
//! most columns of all images in training.

use tch::{Kind, Tensor};

use super::plan::Plan;
use crate::layers::Extension;
use crate::model::transformer::Sizes;
use crate::variables::{Init, Scope};
use pixtok_tokens::Grid;
use pixtok_torch::in_full_precision;

/// The standard deviation of new vectors, as in ViT.
const DEVIATION: f64 = 0.02;
/// PyTorch's parameter of cubic interpolation.
const A: f64 = -0.75;
/// How often the vectors at an edge are repeated beyond it, for the four taps of the cubic.
const BEYOND: i64 = 2;

/// `count` learned vectors, `[count, width]`.
pub(super) fn vectors(path: &Scope, name: &str, count: i64, width: i64) -> Tensor {
    path.embedding(name, [count, width], Init::Gaussian { mean: 0.0, deviation: DEVIATION })
}

/// The vectors of the trained grid, which can be interpolated to other grids.
#[derive(Debug)]
pub(super) struct Learned {
    /// `[h·w, width]`.
    table: Tensor,
    trained: Grid,
    extension: Extension,
}

impl Learned {
    pub fn new(path: &Scope, plan: &Plan, sizes: Sizes) -> Self {
        let trained = plan.common.trained_grid();
        Self {
            table: vectors(path, "positions", trained.positions() as i64, sizes.width),
            trained,
            extension: plan.settings.extension,
        }
    }

    /// The vectors of the positions of a grid, row by row. Only the size of `places` counts.
    ///
    /// # Shapes
    /// `places`: `[B, h, w]` or `[h, w]` -> `[N, width]`.
    pub fn of_grid(&self, places: &Tensor) -> Tensor {
        match self.extension {
            // The grid is always the trained one.
            Extension::None | Extension::Ntk => self.table.shallow_clone(),
            Extension::Interpolate => in_full_precision(|| self.interpolated(places)),
        }
    }

    /// Bicubic interpolation, as PyTorch's `interpolate` without aligned corners, but by matrix
    /// products, since a trace would keep the size for all images. At the trained size the vectors
    /// stay as they are.
    fn interpolated(&self, places: &Tensor) -> Tensor {
        let of_one = if places.dim() == 3 { places.select(0, 0) } else { places.shallow_clone() };
        let ones = of_one.ones_like();
        let (h, w) = (i64::from(self.trained.h), i64::from(self.trained.w));
        let (rows, columns) = (weights(&ones.select(1, 0), h), weights(&ones.select(0, 0), w));
        let table = with_edges(&with_edges(&self.table.unflatten(0, [h, w]).permute([2, 0, 1]), 1), 2);
        // [h', h + 4] · [width, h + 4, w + 4] · [w + 4, w'].
        rows.matmul(&table).matmul(&columns.tr()).flatten(1, 2).tr()
    }
}

/// The table with its first and last vectors along `axis` repeated [`BEYOND`] times.
fn with_edges(table: &Tensor, axis: i64) -> Tensor {
    let (first, last) = (&table.narrow(axis, 0, 1), &table.narrow(axis, -1, 1));
    Tensor::cat(&[first, first, table, last, last], axis)
}

/// The weights of `trained` vectors, and of those repeated beyond the edges, at each position of an
/// axis of another length.
///
/// # Shapes
/// `ones`: `[side]` -> `[side, trained + 4]`.
fn weights(ones: &Tensor, trained: i64) -> Tensor {
    let counted = ones.cumsum(0, Kind::Float);
    let times = counted.max() / trained as f64;
    let source = (counted - 0.5) / times - 0.5;
    let taps = ones.narrow(0, 0, 1).expand([trained + 2 * BEYOND], false).cumsum(0, Kind::Float)
        - (BEYOND + 1) as f64;
    cubic(&(source.unsqueeze(1) - taps).abs())
}

/// The cubic of Keys (1981) at distances of at least 0. Each of its two pieces is 0 where the other
/// one holds.
fn cubic(distance: &Tensor) -> Tensor {
    let (near, far) = (distance.clamp(0.0, 1.0), distance.clamp(1.0, 2.0));
    let near = (&near * (A + 2.0) - (A + 3.0)) * near.square() + 1.0;
    let far = ((&far * A - 5.0 * A) * &far + 8.0 * A) * &far - 4.0 * A;
    near + far
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;
    use pixtok_torch::fill_gaussian;
    use tch::Device;

    fn learned(extension: Extension) -> Learned {
        let table = Tensor::zeros([35, 6], (Kind::Float, Device::Cpu));
        fill_gaussian(&table, Seed(1), 0.0, 1.0);
        Learned { table, trained: Grid { h: 5, w: 7 }, extension }
    }

    #[test]
    fn interpolation_is_pytorchs() {
        let learned = learned(Extension::Interpolate);
        let image = learned.table.view([1, 5, 7, 6]).permute([0, 3, 1, 2]);
        for [h, w] in [[5, 7], [10, 7], [9, 13], [3, 4], [1, 8]] {
            let ours = learned.of_grid(&Tensor::zeros([2, h, w], (Kind::Int64, Device::Cpu)));
            let theirs = image.upsample_bicubic2d([h, w], false, None, None);
            let theirs = theirs.permute([0, 2, 3, 1]).reshape([h * w, 6]);
            let off = (&ours - &theirs).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{h}×{w}: {off}");
        }
        let same = Tensor::zeros([5, 7], (Kind::Float, Device::Cpu));
        assert_eq!(learned.of_grid(&same), learned.table);
    }

    #[test]
    fn without_an_extension_there_is_the_table() {
        let learned = learned(Extension::None);
        let places = Tensor::zeros([2, 5, 7], (Kind::Int64, Device::Cpu));
        assert_eq!(learned.of_grid(&places), learned.table);
    }
}
