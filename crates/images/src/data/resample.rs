//! Turns a part of a picture into an image: resized, mirrored, as planes.

use std::cell::RefCell;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{Filter as CustomFilter, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Filter, ImageSize};
use crate::picture::Picture;
use pixtok_pixels::Instructions;

thread_local! {
    /// The resizer and an interleaved picture, which are reused for the next picture.
    static SCRATCH: RefCell<(Resizer, Vec<u8>)> = RefCell::new((Resizer::new(), Vec::new()));
}

/// The part that is cut out of a picture: a box in its pixels, whose coordinates need not be whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub mirrored: bool,
}

/// Rows of bytes without gaps, three for each pixel: interleaved, or as planes.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub width: usize,
    pub height: usize,
    pub bytes: &'a [u8],
}

impl View<'_> {
    /// The interleaved pixels of a picture.
    pub(super) fn of(picture: &Picture) -> View<'_> {
        View { width: picture.width, height: picture.height, bytes: &picture.rgb }
    }
}

/// Writes `window` of the interleaved `picture` into `planes`, [3, H, W] of `size` without gaps.
pub(super) fn resample(
    picture: View,
    window: Window,
    size: ImageSize,
    filter: Filter,
    planes: &mut [u8],
) -> Result<(), String> {
    SCRATCH.with_borrow_mut(|(resizer, interleaved)| {
        interleaved.resize(planes.len(), 0);
        cut(picture, window, size, filter, resizer, interleaved)?;
        to_planes(interleaved, size, window.mirrored, planes);
        Ok(())
    })
}

/// Resamples `window` of `picture` to `size`, interleaved. At scale 1 and with whole offsets this
/// is a copy.
pub(super) fn cut(
    picture: View,
    window: Window,
    size: ImageSize,
    filter: Filter,
    resizer: &mut Resizer,
    interleaved: &mut [u8],
) -> Result<(), String> {
    let fail = |error: &dyn std::error::Error| format!("cannot resize: {error}");
    let source = ImageRef::new(picture.width as u32, picture.height as u32, picture.bytes, PixelType::U8x3)
        .map_err(|error| fail(&error))?;
    let mut target = Image::from_slice_u8(size.width, size.height, interleaved, PixelType::U8x3)
        .map_err(|error| fail(&error))?;
    let filter = match filter {
        Filter::Lanczos => FilterType::Lanczos3,
        Filter::Bicubic => FilterType::Custom(
            CustomFilter::new("Catmull-Rom", pixtok_pixels::catmull_rom, 2.0)
                .map_err(|error| fail(&error))?,
        ),
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Box => FilterType::Box,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        window.left,
        window.top,
        window.width,
        window.height,
    );
    pixtok_pixels::resize(resizer, &source, &mut target, &options).map_err(|error| fail(&error))
}

/// Converts interleaved pixels to [3, H, W].
fn to_planes(interleaved: &[u8], size: ImageSize, mirrored: bool, planes: &mut [u8]) {
    let (height, width) = (size.height as usize, size.width as usize);
    let (red, rest) = planes.split_at_mut(height * width);
    let (green, blue) = rest.split_at_mut(height * width);
    let rows = interleaved.chunks_exact(3 * width);
    let planes =
        red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
    for (row, ((red, green), blue)) in rows.zip(planes) {
        pixtok_pixels::split_channels(
            Instructions::widest(),
            row.as_chunks().0,
            [&mut *red, &mut *green, &mut *blue],
        );
        if mirrored {
            for row in [red, green, blue] {
                row.reverse();
            }
        }
    }
}
