//! The encoder of a pair, which takes no images that the decoder cannot make.

use tch::{Device, Tensor};

use crate::model::grid::check_sides;
use crate::model::{self, ImageSize, ModelError, TokenShape};
use crate::quantizer::Mode;

/// The encoder of one network, for images that the decoder of the other can make too.
#[derive(Debug)]
pub(super) struct Encoder {
    own: Box<dyn model::Encoder>,
    taken: Taken,
}

/// The images that both halves take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Sides of images must be multiples of this for both halves.
    pub side_multiple: i64,
    /// The only size of images that one of the halves takes.
    pub only_size: Option<ImageSize>,
    /// The fewest tokens of an image that the decoder can decode.
    pub fewest_tokens: usize,
}

impl Encoder {
    pub fn new(own: Box<dyn model::Encoder>, taken: Taken) -> Self {
        Self { own, taken }
    }
}

impl model::Encoder for Encoder {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        let shape = self.own.shape(image)?;
        let ImageSize { height, width } = image;
        if let Some(only) = self.taken.only_size.filter(|only| *only != image) {
            return Err(ModelError::Network(format!(
                "images are of {height}×{width} pixels, and encoder and decoder together take {}×{} alone",
                only.height, only.width
            )));
        }
        let multiple = self.taken.side_multiple;
        check_sides(image, multiple, &format!("{multiple}, which encoder and decoder together need"))?;
        let (tokens, fewest) = (shape.positions(), self.taken.fewest_tokens);
        if tokens < fewest {
            return Err(ModelError::Network(format!(
                "an image of {height}×{width} pixels has {tokens} token here, and model.decoder needs at least \
                 {fewest} of an image; choose larger images"
            )));
        }
        Ok(shape)
    }

    fn side_multiple(&self) -> i64 {
        self.taken.side_multiple
    }

    fn only_size(&self) -> Option<ImageSize> {
        self.taken.only_size
    }

    fn device(&self) -> Device {
        self.own.device()
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        self.own.forward(images, mode)
    }
}
