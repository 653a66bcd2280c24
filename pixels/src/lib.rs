//! The calls in which almost all of the time of reading a picture goes. Both libraries are generic, so that their inner loops are
//! compiled in the crate that names the types: here, at the highest level, while the rest of pixtok is compiled quickly
//! (`docs/performance.md`).
#![warn(missing_docs)]

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{ResizeError, ResizeOptions, Resizer};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;

/// A decoder of bytes in memory.
pub type Jpeg<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

/// [`JpegDecoder::decode_headers`].
///
/// # Errors
/// The decoder's.
#[inline(never)]
pub fn decode_headers(jpeg: &mut Jpeg) -> Result<(), DecodeErrors> {
    jpeg.decode_headers()
}

/// [`JpegDecoder::decode_into`].
///
/// # Errors
/// The decoder's.
#[inline(never)]
pub fn decode_into(jpeg: &mut Jpeg, pixels: &mut [u8]) -> Result<(), DecodeErrors> {
    jpeg.decode_into(pixels)
}

/// [`Resizer::resize`].
///
/// # Errors
/// The resizer's.
#[inline(never)]
pub fn resize(
    resizer: &mut Resizer,
    source: &ImageRef,
    target: &mut Image,
    options: &ResizeOptions,
) -> Result<(), ResizeError> {
    resizer.resize(source, target, options)
}
