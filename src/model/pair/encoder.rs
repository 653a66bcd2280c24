//! The encoder of a pair, which takes no images that the decoder cannot make.

use tch::{Device, Tensor};

use crate::model::grid::check_sides;
use crate::model::{self, ImageSize, ModelError, TokenShape};
use crate::quantizer::Mode;

/// The encoder of one network, for images that the decoder of the other can make too.
#[derive(Debug)]
pub(super) struct Encoder {
    own: Box<dyn model::Encoder>,
    /// What sides have to be multiples of for both.
    side_multiple: i64,
    /// The only size that one of both takes.
    only_size: Option<ImageSize>,
}

impl Encoder {
    pub fn new(own: Box<dyn model::Encoder>, side_multiple: i64, only_size: Option<ImageSize>) -> Self {
        let only_size = own.only_size().or(only_size);
        Self { own, side_multiple, only_size }
    }
}

impl model::Encoder for Encoder {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        let shape = self.own.shape(image)?;
        let ImageSize { height, width } = image;
        if let Some(only) = self.only_size.filter(|only| *only != image) {
            return Err(ModelError::Network(format!(
                "images are of {height}×{width} pixels, and encoder and decoder together take {}×{} alone",
                only.height, only.width
            )));
        }
        let multiple = self.side_multiple;
        check_sides(image, multiple, &format!("{multiple}, which encoder and decoder together need"))?;
        Ok(shape)
    }

    fn side_multiple(&self) -> i64 {
        self.side_multiple
    }

    fn only_size(&self) -> Option<ImageSize> {
        self.only_size
    }

    fn device(&self) -> Device {
        self.own.device()
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        self.own.forward(images, mode)
    }
}
