//! A tokenizer that keeps only the first tokens of each image.

use tch::Tensor;

use super::{Codec, CodecError, Vocabulary};
use crate::model::{ImageSize, TokenShape};
use pixtok_tokens::{PrefixAxis, StatedPrefix};

/// Checks that this tokenizer decodes the first `length` of an image's tokens, and returns what they
/// are the first of.
///
/// # Errors
/// [`CodecError::Prefix`]: it decodes only all of them, or does not have as many.
pub fn prefix_of(codec: &dyn Codec, length: u32) -> Result<StatedPrefix, CodecError> {
    let Some(whole) = codec.prefixes() else {
        return Err(CodecError::Prefix(format!(
            "--prefix {length}: this tokenizer decodes an image only from all of its tokens; prefixes are for networks \
             whose tokens are a sequence that was trained with model.tail_drop (kind = \"one-d\"), and for residual \
             quantizers (kind = \"residual\"), whose first stages decode by themselves"
        )));
    };
    let StatedPrefix { axis, of } = whole;
    if (1..=of).contains(&length) {
        return Ok(whole);
    }
    let what = match axis {
        PrefixAxis::Tokens => "tokens for an image",
        PrefixAxis::Codebooks => "codebooks (the stages of its residual quantizer)",
    };
    Err(CodecError::Prefix(format!(
        "--prefix {length}: this tokenizer has {of} {what}; give a number from 1 to {of}"
    )))
}

/// The first `length` along an axis of indices in the shape of [`Codec::encode`]. Codebooks keep
/// their axis, even a single one.
pub fn first_of(indices: &Tensor, axis: PrefixAxis, length: u32) -> Tensor {
    let dim = match axis {
        PrefixAxis::Tokens => 1,
        PrefixAxis::Codebooks => -1,
    };
    indices.narrow(dim, 0, i64::from(length))
}

/// A tokenizer that makes and takes only the first tokens of an image, or codebooks of a position.
pub struct Prefix<'a> {
    codec: Box<dyn Codec + 'a>,
    whole: StatedPrefix,
    length: u32,
}

impl<'a> Prefix<'a> {
    /// The first `length` tokens or codebooks of another tokenizer's.
    ///
    /// # Errors
    /// As [`prefix_of`].
    pub fn new(codec: Box<dyn Codec + 'a>, length: u32) -> Result<Self, CodecError> {
        let whole = prefix_of(&*codec, length)?;
        Ok(Self { codec, whole, length })
    }

    /// Whether only one codebook is left. Then indices have no axis of codebooks.
    fn is_one_codebook(&self) -> bool {
        self.whole.axis == PrefixAxis::Codebooks && self.length == 1
    }
}

impl Codec for Prefix<'_> {
    fn vocabulary(&self) -> Vocabulary {
        let whole = self.codec.vocabulary();
        match self.whole.axis {
            PrefixAxis::Tokens => whole,
            PrefixAxis::Codebooks => Vocabulary { codebooks: self.length.into(), ..whole },
        }
    }

    fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError> {
        let whole = self.codec.shape(image)?;
        Ok(match self.whole.axis {
            PrefixAxis::Tokens => TokenShape::Sequence { n: self.length },
            PrefixAxis::Codebooks => whole,
        })
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        let first = first_of(&self.codec.encode(images)?, self.whole.axis, self.length);
        Ok(if self.is_one_codebook() { first.squeeze_dim(-1) } else { first })
    }

    fn decode(&self, indices: &Tensor, image: ImageSize) -> Result<Tensor, CodecError> {
        if self.is_one_codebook() {
            return self.codec.decode(&indices.unsqueeze(-1), image);
        }
        self.codec.decode(indices, image)
    }
}
