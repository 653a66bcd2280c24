//! The convolutional autoencoder of the field (VQGAN's, arXiv 2012.09841) around a quantizer.

mod blocks;
mod decoder;
mod description;
mod encoder;
mod footprint;
mod plan;

use tch::{Device, Kind, Tensor};

pub use description::{Description, StageDescription, Width};
pub use footprint::Footprint;
pub use plan::{Config, ModelError, Variant};

use crate::layers::plain_layout;
use crate::quantizer::{CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig};
use crate::variables::{Component, Variables};
use decoder::Decoder;
use encoder::Encoder;

/// `[B, 3, H, W]` bytes -> float32 in [−1, 1].
pub fn images_from_bytes(bytes: &Tensor) -> Tensor {
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

/// Encoder, quantizer and decoder: images to a grid of indices and back.
///
/// A trace (`codec::trace`) keeps every number that is read from a tensor's size, so nothing on the way from
/// images to indices and back takes B, H, W, h or w from `size()`.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    /// Public to the loop, which starts and updates it.
    pub quantizer: Box<dyn Quantizer>,
    decoder: Decoder,
    downsample: i64,
}

/// What [`Tokenizer::forward`] makes.
#[derive(Debug)]
pub struct Reconstruction {
    /// `[B, 3, H, W]`, about [−1, 1], in the precision of the decoder.
    pub recon: Tensor,
    /// z, `[B, C, h, w]`, as the quantizer got it.
    pub latents: Tensor,
    /// Indices, auxiliary losses and statistics.
    pub quantized: Quantized,
}

impl Tokenizer {
    /// Builds the network with its variables in `variables`, for images of `image_size` (height,
    /// width).
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    pub fn new(
        variables: &Variables,
        model: &Config,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Self, ModelError> {
        let plan = model.plan(quantizer, image_size)?;
        Ok(Self {
            encoder: Encoder::new(&variables.scope(Component::Encoder), &plan),
            quantizer: quantizer
                .settings()
                .build(&variables.scope(Component::Quantizer), plan.latent_channels)?,
            decoder: Decoder::new(&variables.scope(Component::Decoder), &plan),
            downsample: plan.downsample(),
        })
    }

    /// Pixels per latent position along each axis.
    #[must_use]
    pub fn downsample(&self) -> i64 {
        self.downsample
    }

    /// The weight of the convolution that makes pixels: `[3, C, 3, 3]`.
    pub fn last_layer(&self) -> &Tensor {
        self.decoder.last_layer()
    }

    /// Where its weights are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.encoder.device()
    }

    /// Sizes of the codebook.
    #[must_use]
    pub fn codebook(&self) -> CodebookShape {
        self.quantizer.codebook()
    }

    /// `[B, 3, H, W]` in [−1, 1] -> z `[B, C, h, w]`.
    pub fn latents(&self, images: &Tensor) -> Tensor {
        self.encoder.forward(&preferred_layout(images, Mode::Eval))
    }

    /// `[B, 3, H, W]` in [−1, 1] -> indices `[B, h, w]` (one axis more for several codebooks).
    pub fn encode(&self, images: &Tensor) -> Tensor {
        self.quantizer.quantize(&self.latents(images), Mode::Eval).indices
    }

    /// Indices `[B, h, w]` -> images `[B, 3, H, W]`.
    pub fn decode(&self, indices: &Tensor) -> Tensor {
        self.decoder.forward(&preferred_layout(&self.quantizer.lookup(indices), Mode::Eval))
    }

    /// `[B, 3, H, W]` in [−1, 1] -> reconstruction and everything the quantizer made.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Reconstruction {
        let latents = self.encoder.forward(&preferred_layout(images, mode));
        let quantized = self.quantizer.quantize(&latents, mode);
        let recon = self.reconstruct(&quantized.latent, mode);
        Reconstruction { recon, latents, quantized }
    }

    /// What the decoder makes of a quantized latent: `[B, C, h, w]` -> `[B, 3, H, W]`.
    pub fn reconstruct(&self, latent: &Tensor, mode: Mode) -> Tensor {
        self.decoder.forward(&preferred_layout(latent, mode))
    }
}

/// channels_last for a step of training, in which convolutions are fastest: on a CPU once normalisation is ours
/// ([`norm_silu`](crate::layers::norm_silu); libtorch's takes longer in this layout than they gain), on CUDA by PyTorch's
/// advice for bf16, and there always. Without training the plain layout on a CPU. Either way the same for a latent and for
/// what is looked up from its indices.
fn preferred_layout(x: &Tensor, mode: Mode) -> Tensor {
    match (x.device(), mode) {
        (Device::Cuda(_), _) | (_, Mode::Train { .. }) => {
            x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
        }
        _ => plain_layout(x),
    }
}

#[cfg(test)]
mod tests;
