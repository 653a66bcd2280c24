//! Our own tokenizer as a codec.

use tch::Tensor;

use super::{Codec, CodecError, Vocabulary, is_finite};
use crate::metrics::to_8bit;
use crate::model::{Tokenizer, images_from_bytes};
use crate::quantizer::Mode;
use pixtok_torch::{Precision, catching, no_grad, with_precision};

/// A tokenizer at a precision.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// With its weights.
    pub tokenizer: &'a Tokenizer,
    /// Of encoder and decoder.
    pub precision: Precision,
}

impl Codec for Own<'_> {
    fn vocabulary(&self) -> Vocabulary {
        let shape = self.tokenizer.codebook();
        Vocabulary { codebooks: shape.codebooks, size: shape.size }
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        let (indices, finite) = catching(|| {
            no_grad(|| {
                let latents =
                    with_precision(self.precision, || self.tokenizer.latents(&images_from_bytes(images)));
                let indices = self.tokenizer.quantizer.quantize(&latents, Mode::Eval).indices;
                (indices, is_finite(&latents))
            })
        })?;
        if finite { Ok(indices) } else { Err(CodecError::NotFinite("latents")) }
    }

    fn decode(&self, indices: &Tensor) -> Result<Tensor, CodecError> {
        let (images, finite) = catching(|| {
            no_grad(|| {
                let images = with_precision(self.precision, || self.tokenizer.decode(indices));
                (to_8bit(&images), is_finite(&images))
            })
        })?;
        if finite { Ok(images) } else { Err(CodecError::NotFinite("reconstructions")) }
    }
}
