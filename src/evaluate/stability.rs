//! Token stability: how many tokens stay the same when the image changes slightly.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::EvaluateError;
use crate::batches::{picture_of, tensor_of};
use crate::codec::Codec;
use crate::model::{TokenShape, size_of};
use pixtok_images::picture::{DecodeOptions, Picture, PictureError, decode};

/// The changes, named as their figures.
pub(super) const NAMES: [&str; 4] =
    ["stability_shift", "stability_jpeg75", "stability_flip", "stability_reencode"];
/// The JPEG quality.
const QUALITY: u8 = 75;

/// How many tokens of a batch are unchanged, for each of [`NAMES`]; of the mirror image in a grid
/// only, where it is known which tokens belong to each other.
pub(super) fn unchanged(
    codec: &dyn Codec,
    images: &Tensor,
    recons: &Tensor,
    indices: &Tensor,
) -> Result<[Option<i64>; 4], EvaluateError> {
    let several = codec.vocabulary().codebooks > 1;
    let count = |other: &Tensor| {
        let same = indices.eq_tensor(other);
        let same = if several { same.all_dim(-1, false) } else { same };
        same.sum(Kind::Int64).int64_value(&[])
    };
    let flipped = match codec.shape(size_of(images))? {
        // Indices are [B, h, w, …]: their axis 2 is the width, as is the images' axis 3.
        TokenShape::Grid { .. } => Some(count(&codec.encode(&images.flip([3]))?.flip([2]))),
        TokenShape::Sequence { .. } => None,
    };
    Ok([
        Some(count(&codec.encode(&shifted(images))?)),
        Some(count(&codec.encode(&recompressed(images)?)?)),
        flipped,
        Some(count(&codec.encode(recons)?)),
    ])
}

/// Shifts images one pixel to the right. The first column is repeated, and the last is lost.
fn shifted(images: &Tensor) -> Tensor {
    let width = images.size()[3];
    Tensor::cat(&[images.narrow(3, 0, 1), images.narrow(3, 0, width - 1)], 3)
}

/// Saves images as JPEG files and reads them back.
fn recompressed(images: &Tensor) -> Result<Tensor, EvaluateError> {
    let originals: Result<Vec<Picture>, _> =
        (0..images.size()[0]).map(|i| picture_of(&images.get(i))).collect();
    let back: Result<Vec<Picture>, PictureError> = originals?
        .into_par_iter()
        .map(|picture| Ok(decode(&picture.to_jpeg(QUALITY)?, &DecodeOptions::default())?.release()))
        .collect();
    let tensors: Result<Vec<Tensor>, _> = back?.iter().map(tensor_of).collect();
    Ok(Tensor::stack(&tensors?, 0).to_device(images.device()))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::codec::{CodecError, Vocabulary};
    use crate::model::ImageSize;

    /// A test tokenizer: a token is the thresholded sum of 2×2 pixels of the first channel, so
    /// results can be counted by hand.
    struct Threshold;

    impl Codec for Threshold {
        fn vocabulary(&self) -> Vocabulary {
            Vocabulary { codebooks: 1, size: 2 }
        }

        fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError> {
            Ok(TokenShape::Grid { h: image.height / 2, w: image.width / 2 })
        }

        fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
            let means = images.narrow(1, 0, 1).to_kind(Kind::Float).avg_pool2d(
                [2, 2],
                [2, 2],
                [0, 0],
                false,
                true,
                None::<i64>,
            );
            Ok(means.squeeze_dim(1).gt(127.0).to_kind(Kind::Int64))
        }

        fn decode(&self, _indices: &Tensor, _image: ImageSize) -> Result<Tensor, CodecError> {
            Err(CodecError::NotFinite("images"))
        }
    }

    #[test]
    fn each_change_is_counted_against_the_tokens_in_place() {
        // The left half of 6×8 pixels is white, so each row has the tokens 1 1 0 0. After a shift
        // by one pixel, the third 2×2 square is half white, which is above the threshold. Flipping
        // twice changes nothing. The reconstruction is black.
        let image = Tensor::zeros([1, 3, 6, 8], (Kind::Uint8, Device::Cpu));
        let _ = image.narrow(3, 0, 4).fill_(255);
        let indices = Threshold.encode(&image).unwrap();
        let black = image.zeros_like();
        let counts = unchanged(&Threshold, &image, &black, &indices).unwrap();
        assert_eq!(counts, [9, 12, 12, 6].map(Some));
    }
}
