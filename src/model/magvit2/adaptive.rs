//! Normalisation that takes its scale and shift from the latent.

use tch::{Kind, Tensor, nn::Module};

use super::blocks::NORM_GROUPS;
use crate::layers::{Linear, VQGAN_EPS};
use crate::variables::Scope;

/// What the decoder's normalisations take from a latent: two vectors for each image.
#[derive(Debug)]
pub(super) struct Style {
    /// √(variance + 1e-6) of each channel over the positions of the image, `[B, D]`; the variance
    /// is the unbiased one.
    deviation: Tensor,
    /// The mean of each channel, `[B, D]`.
    mean: Tensor,
}

impl Style {
    /// The statistics of `z_q`, `[B, N, D]` with at least two positions.
    pub fn of(z_q: &Tensor) -> Self {
        Self {
            deviation: (z_q.var_dim([1].as_slice(), true, false) + VQGAN_EPS).sqrt(),
            mean: z_q.mean_dim([1].as_slice(), false, Kind::Float),
        }
    }
}

/// Group normalisation without weights of its own, then γ(deviation) · x + β(mean).
#[derive(Debug)]
pub(super) struct AdaptiveNorm {
    gamma: Linear,
    beta: Linear,
}

impl AdaptiveNorm {
    /// A normalisation of feature maps of `channels` by latents of width `latent_channels`.
    pub fn new(path: &Scope, latent_channels: i64, channels: i64) -> Self {
        Self {
            gamma: Linear::by_fan_in(&(path / "gamma"), latent_channels, channels),
            beta: Linear::by_fan_in(&(path / "beta"), latent_channels, channels),
        }
    }

    /// # Shapes
    /// `[B, C, h, w]` -> the same.
    pub fn forward(&self, x: &Tensor, style: &Style) -> Tensor {
        let of_channels = |vectors: Tensor| vectors.unsqueeze(2).unsqueeze(3);
        let scale = of_channels(self.gamma.forward(&style.deviation));
        let shift = of_channels(self.beta.forward(&style.mean));
        x.group_norm(NORM_GROUPS, None::<&Tensor>, None::<&Tensor>, VQGAN_EPS, true) * scale + shift
    }
}
