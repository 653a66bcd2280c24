//! Converts images to tokens and back, with any tokenizer: pixtok's, or a TorchScript pair behind
//! an adapter.
//!
//! Everything that is measured or exported goes through [`Codec`], so the code above it does not
//! depend on the tokenizer.

mod adapter;
mod own;
mod prefix;
mod range;
mod steadiness;
mod torchscript;
pub mod trace;

use strum::Display;
use tch::Tensor;

pub use adapter::{Adapter, AdapterError, Layout, Number};
pub use own::Own;
pub use prefix::{Prefix, first_of, prefix_of};
pub use torchscript::TorchScript;

use crate::model::{ImageSize, ModelError, TokenShape};
use pixtok_base::{Class, Classified};
use pixtok_tokens::StatedPrefix;
use pixtok_torch::TorchError;

/// The sizes of the codebooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// The number of codebooks. The indices have an additional axis if it is over 1.
    pub codebooks: i64,
    /// K, the number of codes in each codebook.
    pub size: i64,
}

/// A tokenizer between 8-bit images and indices.
pub trait Codec {
    /// The sizes of the codebooks.
    fn vocabulary(&self) -> Vocabulary;

    /// The shape of the tokens of an image of this size.
    ///
    /// # Errors
    /// When the tokenizer cannot take images of this size.
    fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError>;

    /// Along which axis the first of an image's tokens decode without the others, and how many there
    /// are in all; `None` if only all tokens decode.
    fn prefixes(&self) -> Option<StatedPrefix> {
        None
    }

    /// Encodes a batch to indices in the tokens' own shape, without gradients.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` uint8 -> `[B, h, w]` or, of a sequence, `[B, N]` int64 in `0..K`
    /// (with an additional axis for several codebooks).
    ///
    /// # Errors
    /// See [`CodecError`].
    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError>;

    /// Decodes a batch of indices to images of size `image`, without gradients.
    ///
    /// # Shapes
    /// `indices`: in the shape of [`Codec::encode`], or the first of them as [`Codec::prefixes`] says
    /// -> `[B, 3, H, W]` uint8.
    ///
    /// # Errors
    /// See [`CodecError`].
    fn decode(&self, indices: &Tensor, image: ImageSize) -> Result<Tensor, CodecError>;
}

impl<T: Codec> Codec for &T {
    fn vocabulary(&self) -> Vocabulary {
        (**self).vocabulary()
    }

    fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError> {
        (**self).shape(image)
    }

    fn prefixes(&self) -> Option<StatedPrefix> {
        (**self).prefixes()
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        (**self).encode(images)
    }

    fn decode(&self, indices: &Tensor, image: ImageSize) -> Result<Tensor, CodecError> {
        (**self).decode(indices, image)
    }
}

/// An error while a batch is encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The model gives numbers that are not finite.
    #[error("its {0} are not finite; these weights are of no use")]
    NotFinite(&'static str),
    /// The model cannot take images of this size.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer has no such prefix.
    #[error("{0}")]
    Prefix(String),
    /// A foreign tokenizer does not behave as its adapter states.
    #[error("{0}")]
    Disagrees(String),
    /// A module of a foreign tokenizer fails on its input.
    #[error("the {half} refuses the {}: {reason}{}", half.takes(), at_a_time(*count))]
    Refuses {
        /// Which module.
        half: Half,
        /// Images in the batch.
        count: i64,
        /// libtorch's message.
        reason: String,
    },
    /// libtorch failed, for instance because memory is exhausted.
    #[error(transparent)]
    Torch(#[from] TorchError),
}

impl Classified for CodecError {
    fn class(&self) -> Class {
        match self {
            Self::NotFinite(_) => Class::NotFinite,
            Self::Prefix(_) | Self::Disagrees(_) | Self::Refuses { .. } => Class::Misuse,
            Self::Model(error) => error.class(),
            Self::Torch(error) => error.class(),
        }
    }
}

/// A module of a foreign tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Half {
    /// From images to indices.
    Encoder,
    /// And back.
    Decoder,
}

impl Half {
    fn takes(self) -> &'static str {
        match self {
            Self::Encoder => "images",
            Self::Decoder => "indices",
        }
    }
}

/// Advice for a module that refuses `count` images.
fn at_a_time(count: i64) -> String {
    if count == 1 {
        return String::new();
    }
    format!(
        "; if the pair was traced with another number of images than {count}, give that with --batch-size \
         (eval.batch_size)"
    )
}

/// Whether all elements are finite. Waits for the device.
fn is_finite(x: &Tensor) -> bool {
    x.isfinite().all().int64_value(&[]) == 1
}
