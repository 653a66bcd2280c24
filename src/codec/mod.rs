//! Images to tokens and back, whoever made the tokenizer: ours, or a TorchScript pair behind an adapter.
//!
//! What is measured or exported goes through [`Codec`], so that nothing above asks whose it is.

mod adapter;
mod own;
mod range;
mod steadiness;
mod torchscript;
pub mod trace;

use strum::Display;
use tch::Tensor;

pub use adapter::{Adapter, AdapterError, Layout, Number};
pub use own::Own;
pub use torchscript::TorchScript;

use crate::model::{ImageSize, ModelError, TokenShape};
use pixtok_base::{Class, Classified};
use pixtok_torch::TorchError;

/// How many codes there are to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// Number of codebooks; the indices have an extra axis when it is over 1.
    pub codebooks: i64,
    /// K, codes in each codebook.
    pub size: i64,
}

/// A tokenizer between 8-bit images and indices.
pub trait Codec {
    /// Sizes of the codebooks.
    fn vocabulary(&self) -> Vocabulary;

    /// The tokens of an image of this size.
    ///
    /// # Errors
    /// When it takes no such images.
    fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError>;

    /// The indices of a batch, without gradient, in the tokens' own shape.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` uint8 -> `[B, h, w]` or, of a sequence, `[B, N]` int64 in `0..K` (one axis more for
    /// several codebooks).
    ///
    /// # Errors
    /// See [`CodecError`].
    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError>;

    /// The images, of `image`'s size, of a batch of indices, without gradient.
    ///
    /// # Shapes
    /// `indices`: as [`Codec::encode`] makes them -> `[B, 3, H, W]` uint8.
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

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        (**self).encode(images)
    }

    fn decode(&self, indices: &Tensor, image: ImageSize) -> Result<Tensor, CodecError> {
        (**self).decode(indices, image)
    }
}

/// Why a batch gave no tokens or no images.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The model makes numbers that are not finite.
    #[error("its {0} are not finite; these weights are of no use")]
    NotFinite(&'static str),
    /// Images of a size that the model does not take.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A foreign tokenizer does not do what its adapter says.
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
    /// From libtorch, memory exhausted among others.
    #[error(transparent)]
    Torch(#[from] TorchError),
}

impl Classified for CodecError {
    fn class(&self) -> Class {
        match self {
            Self::NotFinite(_) => Class::NotFinite,
            Self::Disagrees(_) | Self::Refuses { .. } => Class::Misuse,
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

/// What may help when a module refuses `count` images.
fn at_a_time(count: i64) -> String {
    if count == 1 {
        return String::new();
    }
    format!(
        "; if the pair was traced with another number of images than {count}, give that with --batch-size \
         (eval.batch_size)"
    )
}

/// Whether all numbers are. Waits for the device.
fn is_finite(x: &Tensor) -> bool {
    x.isfinite().all().int64_value(&[]) == 1
}
