//! pixtok's own tokenizer as a codec.

use tch::Tensor;

use super::{Codec, CodecError, Vocabulary, is_finite};
use crate::metrics::to_8bit;
use crate::model::{ImageSize, TokenShape, Tokenizer, images_from_bytes, size_of};
use crate::quantizer::Mode;
use pixtok_tokens::StatedPrefix;
use pixtok_torch::{Precision, catching, no_grad, with_precision};

/// A tokenizer that computes in a given precision.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The tokenizer, with its weights.
    pub tokenizer: &'a Tokenizer,
    /// The precision of encoder and decoder.
    pub precision: Precision,
}

impl Codec for Own<'_> {
    fn vocabulary(&self) -> Vocabulary {
        let shape = self.tokenizer.codebook();
        Vocabulary { codebooks: shape.codebooks, size: shape.size }
    }

    fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError> {
        Ok(self.tokenizer.shape(image)?)
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        let shape = self.shape(size_of(images))?;
        let (indices, finite) = catching(|| {
            no_grad(|| {
                let latents =
                    with_precision(self.precision, || self.tokenizer.latents(&images_from_bytes(images)));
                let indices = self.tokenizer.quantizer.quantize(&latents, Mode::Eval).indices;
                (self.tokenizer.shaped(&indices, images, shape), is_finite(&latents))
            })
        })?;
        if finite { Ok(indices) } else { Err(CodecError::NotFinite("latents")) }
    }

    fn prefixes(&self) -> Option<StatedPrefix> {
        self.tokenizer.prefixes()
    }

    fn decode(&self, indices: &Tensor, image: ImageSize) -> Result<Tensor, CodecError> {
        self.tokenizer.check_indices(&indices.size(), image)?;
        let (images, finite) = catching(|| {
            no_grad(|| {
                let images = with_precision(self.precision, || self.tokenizer.decode(indices, image));
                (to_8bit(&images), is_finite(&images))
            })
        })?;
        if finite { Ok(images) } else { Err(CodecError::NotFinite("reconstructions")) }
    }
}
