use tch::{Tensor, nn, nn::Module};

use crate::layers::{conv, plain_layout};

/// A learned 1×1 convolution into the quantizer's own width and one out of it; nothing where the widths agree.
#[derive(Debug)]
pub struct Projection {
    layers: Option<(nn::Conv2D, nn::Conv2D)>,
}

impl Projection {
    /// Between latents of `channels` and codes of `dim`.
    #[must_use]
    pub fn new(path: &nn::Path, channels: i64, dim: i64) -> Self {
        let layers = (channels != dim).then(|| {
            (
                conv(&(path / "project_in"), channels, dim, 1, 1),
                conv(&(path / "project_out"), dim, channels, 1, 1),
            )
        });
        Self { layers }
    }

    /// `[B, N, C]` -> `[B, N, D]`.
    pub fn project_in(&self, latent: &Tensor) -> Tensor {
        self.layers.as_ref().map_or_else(
            || latent.shallow_clone(),
            |(into, _)| from_picture(&into.forward(&as_picture(latent))),
        )
    }

    /// `[B, N, D]` -> `[B, N, C]`.
    pub fn project_out(&self, codes: &Tensor) -> Tensor {
        self.layers.as_ref().map_or_else(
            || codes.shallow_clone(),
            |(_, out)| from_picture(&out.forward(&plain_layout(&as_picture(codes)))),
        )
    }
}

/// `[B, N, D]` -> `[B, D, 1, N]`, of the same memory: a 1×1 convolution takes positions in any shape.
fn as_picture(z: &Tensor) -> Tensor {
    // The new axis is the third, so that memory of [B, N, D] is channels_last.
    z.transpose(1, 2).unsqueeze(2)
}

/// Inverse of [`as_picture`].
fn from_picture(picture: &Tensor) -> Tensor {
    picture.squeeze_dim(2).transpose(1, 2)
}
