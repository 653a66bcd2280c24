//! Our own tokenizer as a codec.

use tch::{Kind, Tensor};

use super::{Codec, CodecError, Vocabulary};
use crate::metrics::to_8bit;
use crate::model::{Tokenizer, images_from_bytes};
use crate::quantizer::Mode;
use crate::torch::{Precision, catching, with_precision};

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
            tch::no_grad(|| {
                let latents =
                    with_precision(self.precision, || self.tokenizer.latents(&images_from_bytes(images)));
                let indices = self.tokenizer.quantizer.quantize(&latents, Mode::Eval).indices;
                (indices, latents.isfinite().all().to_kind(Kind::Int64).int64_value(&[]) == 1)
            })
        })?;
        if finite { Ok(indices) } else { Err(CodecError::NotFinite) }
    }

    fn decode(&self, indices: &Tensor) -> Result<Tensor, CodecError> {
        let decoded = || with_precision(self.precision, || self.tokenizer.decode(indices));
        Ok(catching(|| tch::no_grad(|| to_8bit(&decoded())))?)
    }
}
