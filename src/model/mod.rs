//! Encoder and decoder around a quantizer. Each kind of network has a folder; adding one touches
//! that folder and the three adjacent places of `kind.rs`.
//!
//! The code outside does not depend on the kind: an encoder states the [`TokenShape`] of an image,
//! and a network's [`Settings`] state what is known before it is built.

pub mod cnn;
mod footprint;
mod kind;

use std::fmt::Debug;

use tch::{Device, Kind, Tensor};

pub use cnn::{Description, StageDescription, Variant, Width};
pub use footprint::Footprint;
pub use kind::{Config, written};
pub use pixtok_images::data::ImageSize;
pub use pixtok_tokens::TokenShape;

use crate::layers::plain_layout;
use crate::quantizer::{CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError};
use crate::variables::{Component, Scope, Variables};
use pixtok_base::{Class, Classified};

/// The model's settings do not work together.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An error of the encoder's or the decoder's settings.
    #[error("{0}")]
    Network(String),
    /// An error of the quantizer's settings.
    #[error(transparent)]
    Quantizer(#[from] QuantizerError),
}

impl Classified for ModelError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

/// The memory layout of a batch of images or of feature maps, `[B, C, h, w]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// One channel after the other.
    #[default]
    Plain,
    /// The channels of a position side by side (PyTorch's channels_last).
    ChannelsLast,
}

impl Layout {
    /// The same numbers in this layout.
    ///
    /// # Shapes
    /// `[B, C, h, w]` -> the same shape.
    #[must_use]
    pub fn of(self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain => plain_layout(x),
            Self::ChannelsLast => x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
        }
    }
}

/// Encodes images to latents.
///
/// A trace (`codec::trace`) keeps every number that is read from a tensor's size, so nothing on the
/// way from images to indices and back takes B, H, W or N from `size()`.
pub trait Encoder: Debug + Send {
    /// The shape of the tokens of an image of this size.
    ///
    /// # Errors
    /// When the encoder cannot take images of this size.
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError>;

    /// Height and width of the images must be multiples of this number of pixels.
    fn side_multiple(&self) -> i64;

    /// The device of its weights.
    fn device(&self) -> Device;

    /// The fastest layout for images. It is the same in every [`Mode::Eval`], so that an image
    /// always gets the same indices.
    fn layout(&self, device: Device, mode: Mode) -> Layout;

    /// The latents z of images in that layout.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` in [−1, 1] -> `[B, N, D]`; the positions of a grid are in row order.
    fn forward(&self, images: &Tensor) -> Tensor;
}

/// Decodes latents to images.
pub trait Decoder: Debug + Send {
    /// The fastest layout for its feature maps. It is the same in every [`Mode::Eval`].
    fn layout(&self, device: Device, mode: Mode) -> Layout;

    /// The weight of the last layer, at which an adversary's gradients are measured.
    fn last_layer(&self) -> &Tensor;

    /// Decodes tokens of this shape to images of size `image`.
    ///
    /// # Shapes
    /// `z_q`: `[B, N, D]` -> `[B, 3, H, W]`, about [−1, 1].
    fn forward(&self, z_q: &Tensor, shape: TokenShape, image: ImageSize, how: &Decode) -> Tensor;
}

/// How a latent is decoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decode<'a> {
    /// The layout of the feature maps.
    pub layout: Layout,
    /// Indices `[B, h, w]` of tokens in a grid. If they are given, h and w are taken from this
    /// tensor rather than from numbers, which a trace would keep for all image sizes.
    pub places: Option<&'a Tensor>,
}

/// What the settings of a network state before it is built, for a quantizer and for images of
/// `image_size` (height, width).
///
/// Methods fail when a setting is out of range or the settings do not fit together; the message
/// says which.
pub trait Settings {
    /// The settings with fixed defaults of absent keys written out, so that a saved config states
    /// everything that was used.
    fn resolved(&self) -> Config;

    /// The settings with all defaults of absent keys written out, so that absent and written-out
    /// settings can be compared.
    fn written_out(&self, quantizer: &QuantizerConfig) -> Config;

    /// The reason why these settings, as a run recorded them, meant a different network when they
    /// were written; `None` if they did not.
    fn had_another_meaning(&self) -> Option<String> {
        None
    }

    /// Checks the settings without building anything.
    fn check(&self, quantizer: &QuantizerConfig, image_size: (i64, i64)) -> Result<(), ModelError>;

    /// C, the number of channels of the latent.
    fn latent_channels(&self, quantizer: &QuantizerConfig, image_size: (i64, i64))
    -> Result<i64, ModelError>;

    /// The same as [`Encoder::side_multiple`].
    fn side_multiple(&self, quantizer: &QuantizerConfig, image_size: (i64, i64)) -> Result<i64, ModelError>;

    /// N, the number of positions of an image's latent.
    fn positions(&self, quantizer: &QuantizerConfig, image_size: (i64, i64)) -> Result<i64, ModelError>;

    /// Registers the encoder's variables in `scope`.
    fn encoder(
        &self,
        scope: &Scope,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Box<dyn Encoder>, ModelError>;

    /// Registers the decoder's variables in `scope`.
    fn decoder(
        &self,
        scope: &Scope,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Box<dyn Decoder>, ModelError>;

    /// The memory of a training step on `device`.
    fn footprint(
        &self,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
        device: Device,
    ) -> Result<Footprint, ModelError>;

    /// The network with every number worked out, for readers that do not know pixtok's defaults.
    fn description(
        &self,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<serde_json::Value, ModelError>;
}

/// Converts `[B, 3, H, W]` bytes to float32 in [−1, 1].
pub fn images_from_bytes(bytes: &Tensor) -> Tensor {
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

/// The image size of `[B, 3, H, W]`.
#[must_use]
pub fn size_of(images: &Tensor) -> ImageSize {
    let size = images.size();
    ImageSize { height: size[2] as u32, width: size[3] as u32 }
}

/// Encoder, quantizer and decoder: converts images to indices and back.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Box<dyn Encoder>,
    /// Public for the training loop, which starts and updates it.
    pub quantizer: Box<dyn Quantizer>,
    decoder: Box<dyn Decoder>,
}

/// The result of [`Tokenizer::forward`].
#[derive(Debug)]
pub struct Reconstruction {
    /// The reconstruction, `[B, 3, H, W]`, about [−1, 1], in the precision of the decoder.
    pub recon: Tensor,
    /// The latents z, `[B, N, C]`, before quantization.
    pub latents: Tensor,
    /// Indices, auxiliary losses and statistics.
    pub quantized: Quantized,
}

impl Tokenizer {
    /// Builds the network with its variables in `variables`, for images of `image_size` (height,
    /// width).
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says
    /// which.
    pub fn new<'a>(
        variables: &Variables,
        model: impl Into<&'a dyn Settings>,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Self, ModelError> {
        let model: &dyn Settings = model.into();
        let channels = model.latent_channels(quantizer, image_size)?;
        Ok(Self {
            encoder: model.encoder(&variables.scope(Component::Encoder), quantizer, image_size)?,
            quantizer: quantizer.settings().build(&variables.scope(Component::Quantizer), channels)?,
            decoder: model.decoder(&variables.scope(Component::Decoder), quantizer, image_size)?,
        })
    }

    /// A tokenizer of parts with the same latent width and the same token shape.
    #[must_use]
    pub fn from_parts(
        encoder: Box<dyn Encoder>,
        quantizer: Box<dyn Quantizer>,
        decoder: Box<dyn Decoder>,
    ) -> Self {
        Self { encoder, quantizer, decoder }
    }

    /// The shape of the tokens of an image of this size.
    ///
    /// # Errors
    /// When the encoder cannot take images of this size.
    pub fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        self.encoder.shape(image)
    }

    /// Height and width of the images must be multiples of this number of pixels.
    #[must_use]
    pub fn side_multiple(&self) -> i64 {
        self.encoder.side_multiple()
    }

    /// The weight of the decoder's last layer.
    pub fn last_layer(&self) -> &Tensor {
        self.decoder.last_layer()
    }

    /// The device of its weights.
    #[must_use]
    pub fn device(&self) -> Device {
        self.encoder.device()
    }

    /// The sizes of the codebooks.
    #[must_use]
    pub fn codebook(&self) -> CodebookShape {
        self.quantizer.codebook()
    }

    /// Encodes `[B, 3, H, W]` in [−1, 1] to latents z `[B, N, C]`.
    pub fn latents(&self, images: &Tensor) -> Tensor {
        self.latents_in(images, Mode::Eval)
    }

    fn latents_in(&self, images: &Tensor, mode: Mode) -> Tensor {
        self.encoder.forward(&self.encoder.layout(images.device(), mode).of(images))
    }

    /// Encodes images to indices in the tokens' own shape: `[B, h, w]` of a grid, `[B, N]` of a
    /// sequence (with an additional axis for several codebooks).
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` in [−1, 1].
    ///
    /// # Panics
    /// When libtorch's operations fail, because the encoder cannot take images of this size
    /// ([`Tokenizer::shape`]).
    pub fn encode(&self, images: &Tensor) -> Tensor {
        self.shaped(&self.quantizer.quantize(&self.latents(images), Mode::Eval).indices, images)
    }

    /// Brings the quantizer's indices into the shape of [`Tokenizer::encode`].
    ///
    /// # Shapes
    /// `indices`: `[B, N]` or `[B, N, codebooks]`, of `images [B, 3, H, W]`.
    ///
    /// # Panics
    /// The same as [`Tokenizer::encode`].
    pub fn shaped(&self, indices: &Tensor, images: &Tensor) -> Tensor {
        let ImageSize { height, width } = size_of(images);
        let TokenShape::Grid { h, w } = self.shape_of(size_of(images)) else {
            return indices.shallow_clone();
        };
        // One pixel of each position: a tensor that has the grid's size for images of any size, in
        // a trace too.
        let step = |pixels: u32, positions: u32| i64::from(pixels / positions);
        let places =
            images.select(1, 0).slice(1, None, None, step(height, h)).slice(2, None, None, step(width, w));
        match indices.size().get(2) {
            None => indices.reshape_as(&places),
            Some(&codebooks) => {
                indices.reshape_as(&places.unsqueeze(3).expand([-1, -1, -1, codebooks], false))
            }
        }
    }

    /// Decodes indices in the shape of [`Tokenizer::encode`] to images `[B, 3, H, W]` of this size.
    pub fn decode(&self, indices: &Tensor, image: ImageSize) -> Tensor {
        let size = indices.size();
        let several = self.codebook().codebooks > 1;
        let how = Decode { layout: self.decoder.layout(indices.device(), Mode::Eval), places: None };
        if size.len() == 2 + usize::from(several) {
            let z_q = self.quantizer.lookup(indices);
            return self.decoder.forward(&z_q, TokenShape::Sequence { n: size[1] as u32 }, image, &how);
        }
        let z_q = self.quantizer.lookup(&indices.flatten(1, 2));
        let places = if several { indices.select(3, 0) } else { indices.shallow_clone() };
        let shape = TokenShape::Grid { h: size[1] as u32, w: size[2] as u32 };
        self.decoder.forward(&z_q, shape, image, &Decode { places: Some(&places), ..how })
    }

    /// Encodes, quantizes and decodes images `[B, 3, H, W]` in [−1, 1].
    ///
    /// # Panics
    /// The same as [`Tokenizer::encode`].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Reconstruction {
        let latents = self.latents_in(images, mode);
        let quantized = self.quantizer.quantize(&latents, mode);
        let recon = self.reconstruct(&quantized.latent, size_of(images), mode);
        Reconstruction { recon, latents, quantized }
    }

    /// Decodes a quantized latent: `[B, N, C]` -> `[B, 3, H, W]`.
    ///
    /// # Panics
    /// The same as [`Tokenizer::encode`].
    pub fn reconstruct(&self, latent: &Tensor, image: ImageSize, mode: Mode) -> Tensor {
        let how = Decode { layout: self.decoder.layout(latent.device(), mode), places: None };
        self.decoder.forward(latent, self.shape_of(image), image, &how)
    }

    fn shape_of(&self, image: ImageSize) -> TokenShape {
        self.shape(image).unwrap_or_else(|error| panic!("{error}"))
    }
}

#[cfg(test)]
mod tests;
