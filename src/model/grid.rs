//! Images whose sides are multiples of a number of pixels, and tokens that lie in a grid, one for
//! each square of pixels.

use super::{ImageSize, ModelError, TokenShape};
use pixtok_tokens::Grid;

/// The multiples of `multiple` that are nearest to a side that is none, in words: `28 or 32`. Below
/// the first multiple it is that one.
///
/// `multiple` is over 0.
#[must_use]
pub fn nearest_multiples(side: i64, multiple: i64) -> String {
    match side / multiple * multiple {
        0 => multiple.to_string(),
        below => format!("{below} or {}", below + multiple),
    }
}

fn is_multiple(side: i64, multiple: i64) -> bool {
    side > 0 && side % multiple == 0
}

/// The first of height and width that is no multiple of `multiple` pixels.
fn other_side(image: ImageSize, multiple: i64) -> Option<i64> {
    [image.height, image.width].map(i64::from).into_iter().find(|&side| !is_multiple(side, multiple))
}

/// Checks that both sides of images of this size are multiples of `multiple` pixels, a number that
/// `what` says in words.
///
/// # Errors
/// When one is not; the message names the nearest that are.
pub(super) fn check_sides(image: ImageSize, multiple: i64, what: &str) -> Result<(), ModelError> {
    let Some(side) = other_side(image, multiple) else { return Ok(()) };
    Err(ModelError::Network(format!(
        "images of {}×{} pixels are no multiples of {what}; the nearest to {side} that are: {}",
        image.height,
        image.width,
        nearest_multiples(side, multiple)
    )))
}

/// The grid of an image with a token for `downsample` × `downsample` pixels.
///
/// # Errors
/// When the squares do not cover the image.
pub(super) fn grid_of(image: ImageSize, downsample: i64) -> Result<TokenShape, ModelError> {
    check_sides(image, downsample, &format!("the model's downsampling by {downsample}"))?;
    Ok(patches_of(image, downsample).into())
}

/// The whole patches of an image, of `patch` × `patch` pixels each.
pub(super) fn patches_of(image: ImageSize, patch: i64) -> Grid {
    let side = |pixels: u32| (i64::from(pixels) / patch) as u32;
    Grid { h: side(image.height), w: side(image.width) }
}

/// Checks `data.image_size` of a config: both sides are multiples of `multiple` pixels, a number
/// that `what` says in words.
///
/// # Errors
/// When one is not; the message names the nearest that are.
pub(super) fn check_image_size_by(image: ImageSize, multiple: i64, what: &str) -> Result<(), ModelError> {
    let Some(side) = other_side(image, multiple) else { return Ok(()) };
    Err(ModelError::Network(format!(
        "data.image_size {side} is no multiple of {what}; the nearest that are: {}",
        nearest_multiples(side, multiple)
    )))
}

/// Checks `data.image_size` of a config.
///
/// # Errors
/// When it is no multiple of `downsample`; the message names the nearest that are.
pub(super) fn check_image_size(image: ImageSize, downsample: i64) -> Result<(), ModelError> {
    check_image_size_by(image, downsample, &format!("the model's downsampling by {downsample}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_multiples_are_named() {
        for (side, multiple, words) in [(30, 4, "28 or 32"), (33, 16, "32 or 48"), (3, 4, "4"), (0, 8, "8")] {
            assert_eq!(nearest_multiples(side, multiple), words);
        }
        let said = |height, width| {
            grid_of(ImageSize { height, width }, 8)
                .map_err(|error| error.to_string())
                .map(TokenShape::positions)
        };
        assert_eq!(said(16, 24), Ok(6));
        let words = said(16, 30).unwrap_err();
        assert!(words.starts_with("images of 16×30 pixels are no multiples of"), "{words}");
        assert!(words.ends_with("downsampling by 8; the nearest to 30 that are: 24 or 32"), "{words}");
        assert!(said(5, 0).unwrap_err().ends_with("the nearest to 5 that are: 8"));
    }
}
