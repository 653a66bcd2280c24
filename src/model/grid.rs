//! Images whose tokens lie in a grid, one for each square of pixels.

use super::{ImageSize, ModelError, TokenShape};
use pixtok_tokens::Grid;

/// The grid of an image with a token for `downsample` × `downsample` pixels.
///
/// # Errors
/// When the squares do not cover the image.
pub(super) fn grid_of(image: ImageSize, downsample: i64) -> Result<TokenShape, ModelError> {
    let ImageSize { height, width } = image;
    let side = |pixels: u32| {
        let positions = i64::from(pixels) / downsample;
        (positions > 0 && positions * downsample == i64::from(pixels)).then_some(positions as u32)
    };
    match (side(height), side(width)) {
        (Some(h), Some(w)) => Ok(TokenShape::Grid { h, w }),
        _ => Err(ModelError::Network(format!(
            "images of {height}×{width} pixels are no multiples of the model's downsampling by {downsample}; choose a \
             data.image_size that is"
        ))),
    }
}

/// The whole patches of an image, of `patch` × `patch` pixels each.
pub(super) fn patches_of(image: ImageSize, patch: i64) -> Grid {
    let side = |pixels: u32| pixels / patch as u32;
    Grid { h: side(image.height), w: side(image.width) }
}

/// Checks `data.image_size` of a config.
///
/// # Errors
/// When it is no multiple of `downsample`; the message names the nearest that are.
pub(super) fn check_image_size(image: ImageSize, downsample: i64) -> Result<(), ModelError> {
    for size in [image.height, image.width].map(i64::from) {
        if size < downsample || size % downsample != 0 {
            let below = size / downsample * downsample;
            let nearest =
                if below > 0 { format!("{below} or {}", below + downsample) } else { downsample.to_string() };
            return Err(ModelError::Network(format!(
                "data.image_size {size} is no multiple of the model's downsampling by {downsample}; the nearest that \
                 are: {nearest}"
            )));
        }
    }
    Ok(())
}
