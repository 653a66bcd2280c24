//! The transformer of either half: positions of the class token and the patches, blocks, and the
//! normalisations around them.

use tch::{Tensor, nn::Module};

use super::plan::{LAYER_NORM_EPS, Plan};
use crate::layers::{Norm, NormKind, Rotation, RotationSettings, Stack};
use crate::model::transformer::Sizes;
use crate::variables::{Init, Scope};

/// Works on a class token, the patches and the latent tokens, in this order.
#[derive(Debug)]
pub(super) struct Transformer {
    class_token: Tensor,
    positions: Positions,
    latent_positions: Tensor,
    norm_in: Norm,
    stack: Stack,
    norm_out: Norm,
    latents: i64,
}

#[derive(Debug)]
enum Positions {
    /// Vectors of the class token and the patches, `[1 + patches, width]`.
    Learned(Tensor),
    Turned(RotationSettings),
}

/// `count` learned vectors, `[count, width]`, with TiTok's initialisation.
pub(super) fn vectors(path: &Scope, name: &str, count: i64, width: i64) -> Tensor {
    path.embedding(name, [count, width], Init::Gaussian { mean: 0.0, deviation: (width as f64).powf(-0.5) })
}

impl Transformer {
    pub fn new(path: &Scope, plan: &Plan, sizes: Sizes) -> Self {
        let width = sizes.width;
        let norm = |name: &str| Norm::new(&(path / name), NormKind::Layer, width, LAYER_NORM_EPS);
        Self {
            class_token: vectors(path, "class_token", 1, width),
            positions: match plan.common.rotation(sizes) {
                None => Positions::Learned(vectors(path, "positions", 1 + plan.patches(), width)),
                Some(settings) => Positions::Turned(settings),
            },
            latent_positions: vectors(path, "latent_positions", plan.tokens(), width),
            norm_in: norm("norm_in"),
            stack: Stack::new(path, &plan.stack(sizes)),
            norm_out: norm("norm_out"),
            latents: plan.tokens(),
        }
    }

    /// The class token, the patches and the latent tokens after all blocks, before
    /// [`Transformer::norm_out`]. Of `places` only the size counts: the patches' rows and columns.
    ///
    /// # Shapes
    /// `patches`: `[B, P, width]`, `latents`: `[B, N, width]`, `places`: `[B, h, w]` or `[h, w]` ->
    /// `[B, 1 + P + N, width]`.
    pub fn forward(&self, patches: &Tensor, latents: &Tensor, places: &Tensor) -> Tensor {
        // B comes from a tensor, since a trace would keep a number.
        let class = self.class_token.expand_as(&patches.slice(1, 0, 1, 1));
        let seen = Tensor::cat(&[class, patches.shallow_clone()], 1);
        let (seen, rotation) = match &self.positions {
            Positions::Learned(positions) => (seen + positions, None),
            Positions::Turned(settings) => {
                (seen, Some(Rotation::of_grid(settings, places).padded(1, self.latents)))
            }
        };
        let latents = latents + &self.latent_positions;
        let x = self.norm_in.forward(&Tensor::cat(&[seen, latents], 1));
        self.stack.forward(x, rotation.as_ref(), None)
    }

    /// The normalisation after the blocks.
    pub fn norm_out(&self, x: &Tensor) -> Tensor {
        self.norm_out.forward(x)
    }
}
