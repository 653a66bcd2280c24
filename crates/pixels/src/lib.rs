//! The inner loops that take almost all of the time of reading a picture. Both libraries are
//! generic, so their inner loops are compiled in the crate that names the types. This crate is
//! compiled at the highest optimisation level, while the rest of pixtok compiles quickly
//! (`docs/performance.md`).
#![warn(missing_docs)]

mod instructions;

pub use instructions::Instructions;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{ResizeError, ResizeOptions, Resizer};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// A decoder of bytes in memory.
pub type Jpeg<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

/// Calls [`JpegDecoder::decode_headers`].
///
/// # Errors
/// The decoder's.
#[inline(never)]
pub fn decode_headers(jpeg: &mut Jpeg) -> Result<(), DecodeErrors> {
    jpeg.decode_headers()
}

/// Calls [`JpegDecoder::decode_into`].
///
/// # Errors
/// The decoder's.
#[inline(never)]
pub fn decode_into(jpeg: &mut Jpeg, pixels: &mut [u8]) -> Result<(), DecodeErrors> {
    jpeg.decode_into(pixels)
}

/// Calls [`Resizer::resize`].
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

/// The library's bicubic filter (Keys 1981, a = -0.5), but not exactly zero at whole pixels. The
/// library drops zero weights from the ends of a pixel's support. It then assumes that the supports
/// of the first and the last pixel are the outermost ones. In an enlarged part whose first or last
/// pixel falls on a whole pixel, it would therefore read outside the picture's memory
/// (`tests/edges.rs`).
#[must_use]
pub fn catmull_rom(x: f64) -> f64 {
    let x = x.abs();
    let weight = match x {
        0.0..1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        1.0..2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        _ => return 0.0,
    };
    if weight == 0.0 { 1e-30 } else { weight }
}

/// Splits a row of interleaved pixels (three channels, one byte each) into one row per channel. It
/// stops at the end of the shortest row.
pub fn split_channels(instructions: Instructions, pixels: &[[u8; 3]], planes: [&mut [u8]; 3]) {
    #[cfg(target_arch = "x86_64")]
    if instructions.has_avx2() {
        // SAFETY: a value of `Instructions` with AVX2 exists only if the processor has AVX2.
        return unsafe { split_with_avx2(pixels, planes) };
    }
    let _ = instructions;
    split(pixels, planes);
}

/// AVX2 has the shuffles that this loop needs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn split_with_avx2(pixels: &[[u8; 3]], planes: [&mut [u8]; 3]) {
    split(pixels, planes);
}

#[inline(always)]
fn split(pixels: &[[u8; 3]], [red, green, blue]: [&mut [u8]; 3]) {
    for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*red, *green, *blue] = *pixel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_apart_in_rows_of_any_length() {
        for (instructions, width) in
            Instructions::all().into_iter().flat_map(|set| (0..200).map(move |width| (set, width)))
        {
            let pixels: Vec<[u8; 3]> =
                (0..width).map(|x| [0, 1, 2].map(|c| (x * 7 + c * 85) as u8)).collect();
            let mut rows = [0, 1, 2].map(|_| vec![0; width]);
            split_channels(instructions, &pixels, rows.each_mut().map(Vec::as_mut_slice));
            for (channel, row) in rows.iter().enumerate() {
                assert!(
                    row.iter().eq(pixels.iter().map(|pixel| &pixel[channel])),
                    "{instructions:?}, {width} pixels"
                );
            }
        }
    }
}
