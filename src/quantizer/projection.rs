use tch::{Tensor, nn::Module};

use crate::layers::{Conv2d, conv, plain_layout};
use crate::variables::Scope;

/// A learned 1×1 convolution into the quantizer's own width and one out of it; nothing where the widths agree.
#[derive(Debug)]
pub struct Projection {
    layers: Option<(Conv2d, Conv2d)>,
}

impl Projection {
    /// Between latents of `channels` and codes of `dim`.
    #[must_use]
    pub fn new(path: &Scope, channels: i64, dim: i64) -> Self {
        let layers = (channels != dim).then(|| {
            (
                conv(&(path / "project_in"), channels, dim, 1, 1),
                conv(&(path / "project_out"), dim, channels, 1, 1),
            )
        });
        Self { layers }
    }

    /// `[B, C, h, w]` -> `[B, D, h, w]`.
    pub fn project_in(&self, latent: &Tensor) -> Tensor {
        self.layers.as_ref().map_or_else(|| latent.shallow_clone(), |(into, _)| into.forward(latent))
    }

    /// `[B, D, h, w]` -> `[B, C, h, w]`.
    pub fn project_out(&self, codes: &Tensor) -> Tensor {
        self.layers
            .as_ref()
            .map_or_else(|| codes.shallow_clone(), |(_, out)| out.forward(&plain_layout(codes)))
    }
}
