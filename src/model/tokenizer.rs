//! The whole tokenizer.

use tch::{Device, Tensor};

use super::tail_drop::{self, Tail};
use super::{Decode, Decoder, Encoder, ImageSize, ModelError, Settings, TokenShape, TrainedSizes, size_of};
use crate::quantizer::{CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig};
use crate::variables::{Component, Variables};
use pixtok_tokens::{PrefixAxis, StatedPrefix};

/// Encoder, quantizer and decoder: converts images to indices and back.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Box<dyn Encoder>,
    /// Public for the training loop, which starts and updates it.
    pub quantizer: Box<dyn Quantizer>,
    decoder: Box<dyn Decoder>,
    /// What stands for absent tokens, if the decoder was trained on prefixes.
    tail: Option<Tail>,
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
    /// Builds the network with its variables in `variables`. It is trained on images of one size, or
    /// on those of a [`data::Config`](pixtok_images::data::Config).
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    pub fn new(
        variables: &Variables,
        model: &dyn Settings,
        quantizer: &QuantizerConfig,
        trained: impl Into<TrainedSizes>,
    ) -> Result<Self, ModelError> {
        let plan = model.plan(quantizer, trained.into())?;
        let channels = plan.latent_channels();
        let of_decoder = variables.scope(Component::Decoder);
        Ok(Self {
            encoder: plan.encoder(&variables.scope(Component::Encoder)),
            quantizer: quantizer.settings().build(&variables.scope(Component::Quantizer), channels)?,
            decoder: plan.decoder(&of_decoder),
            tail: Tail::of(model.tail_drop(), &*plan, &of_decoder)?,
        })
    }

    /// Of parts whose latents have the same width, and whose tokens have the same shape.
    #[cfg(test)]
    pub(crate) fn from_parts(
        encoder: Box<dyn Encoder>,
        quantizer: Box<dyn Quantizer>,
        decoder: Box<dyn Decoder>,
    ) -> Self {
        Self { encoder, quantizer, decoder, tail: None }
    }

    /// The same tokenizer, which applies tail drop.
    #[cfg(test)]
    pub(crate) fn with_tail(self, tail: Tail) -> Self {
        Self { tail: Some(tail), ..self }
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

    /// Along which axis of an image's tokens the first ones decode by themselves, and how many there
    /// are in all; `None` if only all of them decode. Of a tokenizer with both it is the tokens.
    #[must_use]
    pub fn prefixes(&self) -> Option<StatedPrefix> {
        if let Some(tail) = &self.tail {
            return Some(StatedPrefix { axis: PrefixAxis::Tokens, of: tail.tokens() });
        }
        let of = self.codebook().codebooks as u32;
        self.quantizer.has_stages().then_some(StatedPrefix { axis: PrefixAxis::Codebooks, of })
    }

    /// [`Tokenizer::prefixes`] of a tokenizer with these settings, before it is built.
    ///
    /// # Errors
    /// The same as [`Tokenizer::new`].
    pub fn prefixes_of(
        model: &dyn Settings,
        quantizer: &QuantizerConfig,
        trained: impl Into<TrainedSizes>,
    ) -> Result<Option<StatedPrefix>, ModelError> {
        if let Some(&settings) = model.tail_drop() {
            let of = tail_drop::check(settings, model.plan(quantizer, trained.into())?.shape())?;
            return Ok(Some(StatedPrefix { axis: PrefixAxis::Tokens, of }));
        }
        let settings = quantizer.settings();
        let of = settings.codes().0 as u32;
        Ok(settings.has_stages().then_some(StatedPrefix { axis: PrefixAxis::Codebooks, of }))
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

    /// Checks that indices of this size, in the shape of [`Tokenizer::encode`] or of a prefix, can be
    /// decoded to images of size `image`.
    ///
    /// # Errors
    /// Names both numbers of tokens, both grids, or both numbers of codebooks.
    pub fn check_indices(&self, size: &[i64], image: ImageSize) -> Result<(), ModelError> {
        let all = self.codebook().codebooks;
        let given = if all > 1 { *size.last().unwrap_or(&0) } else { 1 };
        let fits = if self.quantizer.has_stages() { (1..=all).contains(&given) } else { given == all };
        if !fits {
            return Err(ModelError::Network(format!(
                "the tokens are of {given} codebooks, and this tokenizer has {all}; give those of all (only the first \
                 stages of a residual quantizer decode by themselves)"
            )));
        }
        let places = size.len().saturating_sub(usize::from(all > 1));
        let given = size.get(1..places).unwrap_or_default();
        let all: Vec<i64> = match self.shape(image)? {
            TokenShape::Grid { h, w } => vec![h.into(), w.into()],
            TokenShape::Sequence { n } => vec![n.into()],
        };
        Err(ModelError::Network(match (given, &all[..]) {
            (given, all) if given == all => return Ok(()),
            (&[given], &[all]) if self.tail.is_some() && (1..=all).contains(&given) => return Ok(()),
            (&[given], &[all]) if given < all => format!(
                "{given} of the {all} tokens of an image are given, and this tokenizer decodes only all of them: \
                 prefixes need a network that was trained with model.tail_drop"
            ),
            (given, all) => {
                let [given, all] = [given, all].map(|axes| {
                    let axes: Vec<String> = axes.iter().map(ToString::to_string).collect();
                    axes.join("×")
                });
                format!("an image of {image} pixels has {all} tokens here, and {given} are given; give {all}")
            }
        }))
    }

    /// Decodes indices in the shape of [`Tokenizer::encode`] to images `[B, 3, H, W]` of this size.
    /// The first tokens or stages are enough where [`Tokenizer::prefixes`] says so.
    pub fn decode(&self, indices: &Tensor, image: ImageSize) -> Tensor {
        let size = indices.size();
        let several = self.codebook().codebooks > 1;
        let how = Decode { mode: Mode::Eval, places: None };
        if size.len() == 2 + usize::from(several) {
            let z_q = self.quantizer.lookup(indices);
            let (z_q, n) = match &self.tail {
                Some(tail) => (tail.padded(&z_q), tail.tokens()),
                None => (z_q, size[1] as u32),
            };
            return self.decoder.forward(&z_q, TokenShape::Sequence { n }, image, &how);
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
        let recon = self.reconstruct(&self.kept(&quantized, mode), shape, image, mode);
        Ok(Reconstruction { recon, latents, quantized })
    }

    /// The decoder's input for quantized tokens, `[B, N, C]`: their latent. In training, tail drop
    /// of the quantizer's stages and of the tokens is applied to it.
    pub fn kept(&self, quantized: &Quantized, mode: Mode) -> Tensor {
        let latent = || quantized.latent.shallow_clone();
        let Mode::Train { noise, .. } = mode else { return latent() };
        let latent = self.quantizer.tail_dropped(quantized, noise).unwrap_or_else(latent);
        match &self.tail {
            Some(tail) => tail.dropped(&latent, noise),
            None => latent,
        }
    }

    /// What the decoder makes of a latent, such as [`Tokenizer::kept`]. The tokens of an image of
    /// this size have `shape` ([`Tokenizer::shape`]).
    ///
    /// # Shapes
    /// `latent`: `[B, N, C]` -> `[B, 3, H, W]`.
    pub fn reconstruct(&self, latent: &Tensor, shape: TokenShape, image: ImageSize, mode: Mode) -> Tensor {
        self.decoder.forward(latent, shape, image, &Decode { mode, places: None })
    }
}
