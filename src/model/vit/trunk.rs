//! The transformer of either half: positions, registers, blocks and the last normalisation.

use tch::{Kind, Tensor, nn::Module};

use super::plan::{EPS, Plan};
use super::positions::{Learned, vectors};
use crate::layers::{DepthNoise, Norm, Rotation, RotationSettings, Stack, as_kind};
use crate::model::transformer::Sizes;
use crate::quantizer::Mode;
use crate::variables::{Component, Scope};

/// All of a half but the layers to and from its width.
#[derive(Debug)]
pub(super) struct Trunk {
    positions: Positions,
    /// `[registers, width]`.
    registers: Option<Tensor>,
    stack: Stack,
    norm: Norm,
    /// Tells the noise of the two halves apart.
    half: Component,
}

#[derive(Debug)]
enum Positions {
    Turned(RotationSettings),
    Learned(Learned),
}

impl Trunk {
    /// The transformer of this half, with these sizes.
    pub fn new(path: &Scope, plan: &Plan, sizes: Sizes, half: Component) -> Self {
        let (width, registers) = (sizes.width, plan.settings.registers);
        Self {
            positions: match plan.common.rotation(sizes) {
                Some(settings) => Positions::Turned(settings),
                None => Positions::Learned(Learned::new(path, plan, sizes)),
            },
            registers: (registers > 0).then(|| vectors(path, "registers", registers, width)),
            stack: Stack::new(path, &plan.stack(sizes)),
            norm: Norm::new(&(path / "norm"), plan.settings.norm, width, EPS),
            half,
        }
    }

    /// The result of the blocks, normalised. The residual sums are float32, whatever the precision.
    /// Of `places` only the size counts.
    ///
    /// # Shapes
    /// `x`: `[B, N, width]`, `places`: `[B, h, w]` or `[h, w]` -> `[B, N, width]` float32.
    pub fn forward(&self, x: &Tensor, places: &Tensor, mode: Mode) -> Tensor {
        let x = as_kind(x, Kind::Float);
        let depth = match mode {
            Mode::Eval => None,
            Mode::Train { noise, .. } => {
                Some(DepthNoise { noise, stack: u64::from(self.half == Component::Decoder) })
            }
        };
        let (x, rotation) = match &self.positions {
            Positions::Turned(settings) => (x, Some(Rotation::of_grid(settings, places))),
            Positions::Learned(learned) => (x + learned.of_grid(places), None),
        };
        let Some(registers) = &self.registers else {
            return self.norm.forward(&self.stack.forward(x, rotation.as_ref(), depth));
        };
        let count = registers.size()[0];
        // B comes from a tensor, since a trace would keep a number.
        let of_each = registers.expand_as(&x.slice(1, 0, 1, 1).expand([-1, count, -1], false));
        let rotation = rotation.map(|rotation| rotation.padded(count, 0));
        let x = self.stack.forward(Tensor::cat(&[of_each, x], 1), rotation.as_ref(), depth);
        self.norm.forward(&x.slice(1, count, None, 1))
    }
}
