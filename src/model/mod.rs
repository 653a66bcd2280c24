//! Encoder and decoder around a quantizer. Each kind of network has a folder. Adding one touches
//! that folder, the `mod` line here, and two places of `kind.rs`.
//!
//! Nothing outside asks which network it is: an encoder states the [`TokenShape`] of an image, a
//! network's [`Plan`] states what can be said before it is built.

pub mod cnn;
mod footprint;
mod grid;
mod kind;
mod layout;
pub mod magvit2;
pub mod one_d;
pub mod pair;
pub mod vit;

use std::fmt::Debug;

use tch::{Device, Kind, Tensor};

pub use footprint::Footprint;
pub use kind::{Config, written};
pub use pair::comparable;
pub use pixtok_images::data::ImageSize;
pub use pixtok_tokens::TokenShape;

use crate::layers::Extension;
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

/// Images to latents.
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

    /// The only size of images that it takes; `None` if it takes all whose sides are multiples of
    /// [`Encoder::side_multiple`].
    fn only_size(&self) -> Option<ImageSize> {
        None
    }

    /// The device of its weights.
    fn device(&self) -> Device;

    /// z of images. `mode` may change only how it is computed, and every [`Mode::Eval`] computes it
    /// in the same way, so that an image always gets the same indices.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` in [−1, 1] -> `[B, N, D]`; the positions of a grid row by row.
    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor;
}

/// Decodes latents to images.
pub trait Decoder: Debug + Send {
    /// The weight of the last layer, at which an adversary's gradients are measured.
    fn last_layer(&self) -> &Tensor;

    /// Decodes tokens of this shape to images of size `image`.
    ///
    /// # Shapes
    /// `z_q`: `[B, N, D]` -> `[B, 3, H, W]`, about [−1, 1].
    fn forward(&self, z_q: &Tensor, shape: TokenShape, image: ImageSize, how: &Decode) -> Tensor;
}

/// How a latent is decoded.
#[derive(Debug, Clone, Copy)]
pub struct Decode<'a> {
    /// As for [`Encoder::forward`].
    pub mode: Mode<'a>,
    /// Indices `[B, h, w]` of tokens in a grid. Where they are given, h and w are taken from this
    /// tensor rather than from numbers, which a trace would keep for images of any size.
    pub places: Option<&'a Tensor>,
}

/// The latents of a grid as a feature map, for decoders that work on one: h and w are those of
/// [`Decode::places`], where they are given.
///
/// # Shapes
/// `z_q`: `[B, N, D]` -> `[B, D, h, w]`, a view.
fn feature_map(z_q: &Tensor, shape: TokenShape, how: &Decode) -> Tensor {
    let in_rows = match how.places {
        Some(places) => z_q.view_as(&places.unsqueeze(3).expand([-1, -1, -1, z_q.size()[2]], false)),
        None => {
            let grid = shape.stored();
            z_q.unflatten(1, [i64::from(grid.h), i64::from(grid.w)])
        }
    };
    in_rows.permute([0, 3, 1, 2])
}

/// The settings of a network.
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

    /// The components whose weights depend on the setting with this key. Dots separate the names
    /// of tables within the network's.
    fn components_of(&self, _key: &str) -> &'static [Component] {
        &[Component::Encoder, Component::Decoder]
    }

    /// What is done with positions at sizes beyond the trained one; `None` of a network without
    /// positions that extend.
    fn extension(&self) -> Option<Extension> {
        None
    }

    /// The same network with this extension; `None` if it has no such one.
    fn with_extension(&self, _extension: Extension) -> Option<Config> {
        None
    }

    /// The network that these settings make around a quantizer, for images of this size. Builds
    /// nothing.
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    fn plan(&self, quantizer: &QuantizerConfig, image: ImageSize) -> Result<Box<dyn Plan>, ModelError>;
}

/// A network whose settings were checked: all that is known of it before it is built.
pub trait Plan: Debug {
    /// The tokens of an image of the planned size.
    fn shape(&self) -> TokenShape;

    /// As [`Encoder::side_multiple`].
    fn side_multiple(&self) -> i64;

    /// As [`Encoder::only_size`].
    fn only_size(&self) -> Option<ImageSize> {
        None
    }

    /// C, numbers in a position's latent.
    fn latent_channels(&self) -> i64;

    /// Registers the encoder's variables in `scope`.
    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder>;

    /// The same for the decoder.
    fn decoder(&self, scope: &Scope) -> Box<dyn Decoder>;

    /// What a training step keeps in memory on `device`.
    fn footprint(&self, device: Device) -> Footprint;

    /// The network with every number worked out, for readers that do not know our rules for absent
    /// settings.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn description(&self) -> Result<serde_json::Value, ModelError>;
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
    /// Builds the network with its variables in `variables`, for images of this size.
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    pub fn new(
        variables: &Variables,
        model: &dyn Settings,
        quantizer: &QuantizerConfig,
        image: ImageSize,
    ) -> Result<Self, ModelError> {
        let plan = model.plan(quantizer, image)?;
        let channels = plan.latent_channels();
        Ok(Self {
            encoder: plan.encoder(&variables.scope(Component::Encoder)),
            quantizer: quantizer.settings().build(&variables.scope(Component::Quantizer), channels)?,
            decoder: plan.decoder(&variables.scope(Component::Decoder)),
        })
    }

    /// Of parts whose latents have the same width, and whose tokens have the same shape.
    #[cfg(test)]
    pub(crate) fn from_parts(
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

    /// The only size of images that it takes; `None` if it takes all multiples of
    /// [`Tokenizer::side_multiple`].
    #[must_use]
    pub fn only_size(&self) -> Option<ImageSize> {
        self.encoder.only_size()
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
        self.encoder.forward(images, Mode::Eval)
    }

    /// Encodes images to indices in the tokens' own shape: `[B, h, w]` of a grid, `[B, N]` of a
    /// sequence (with an additional axis for several codebooks).
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` in [−1, 1].
    ///
    /// # Errors
    /// As [`Tokenizer::shape`].
    pub fn encode(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        let shape = self.shape(size_of(images))?;
        Ok(self.shaped(&self.quantizer.quantize(&self.latents(images), Mode::Eval).indices, images, shape))
    }

    /// Brings the quantizer's indices into the shape of [`Tokenizer::encode`].
    ///
    /// # Shapes
    /// `indices`: `[B, N]` or `[B, N, codebooks]`, of `images [B, 3, H, W]`, whose tokens have `shape`
    /// ([`Tokenizer::shape`]).
    pub fn shaped(&self, indices: &Tensor, images: &Tensor, shape: TokenShape) -> Tensor {
        let ImageSize { height, width } = size_of(images);
        let TokenShape::Grid { h, w } = shape else {
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
        let how = Decode { mode: Mode::Eval, places: None };
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
    /// # Errors
    /// As [`Tokenizer::shape`].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Reconstruction, ModelError> {
        let image = size_of(images);
        let shape = self.shape(image)?;
        let latents = self.encoder.forward(images, mode);
        let quantized = self.quantizer.quantize(&latents, mode);
        let recon = self.reconstruct(&quantized.latent, shape, image, mode);
        Ok(Reconstruction { recon, latents, quantized })
    }

    /// What the decoder makes of a quantized latent: `[B, N, C]` -> `[B, 3, H, W]`. The tokens of an
    /// image of this size have `shape` ([`Tokenizer::shape`]).
    pub fn reconstruct(&self, latent: &Tensor, shape: TokenShape, image: ImageSize, mode: Mode) -> Tensor {
        self.decoder.forward(latent, shape, image, &Decode { mode, places: None })
    }
}
