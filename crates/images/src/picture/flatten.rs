//! Compositing transparency over a background, with a single rounding from the picture's own depth
//! to 8 bits.

use image::DynamicImage;

use super::Picture;

/// The picture, and whether a pixel of it shows the background.
pub(super) fn flatten(image: DynamicImage, background: [u8; 3]) -> (Picture, bool) {
    match image {
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgba8(_) => {
            let image = image.into_rgba8();
            composite(image.width(), image.height(), image.as_raw(), u8::MAX, |value, alpha, channel| {
                let (value, alpha) = (u32::from(value), u32::from(alpha));
                ((value * alpha + u32::from(background[channel]) * (255 - alpha) + 127) / 255) as u8
            })
        }
        DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
            // 65535 = 255 * 257.
            const ONE: u64 = 65535 * 257;
            let image = image.into_rgba16();
            composite(image.width(), image.height(), image.as_raw(), u16::MAX, |value, alpha, channel| {
                let (value, alpha) = (u64::from(value), u64::from(alpha));
                ((value * alpha + u64::from(background[channel]) * 257 * (65535 - alpha) + ONE / 2) / ONE)
                    as u8
            })
        }
        opaque => (Picture::from_rgb8(opaque.into_rgb8()), false),
    }
}

/// Composites `rgba`, with `mix(value, alpha, channel)` for each value; also returns whether an
/// alpha is below `full`.
fn composite<T: Copy + PartialEq>(
    width: u32,
    height: u32,
    rgba: &[T],
    full: T,
    mix: impl Fn(T, T, usize) -> u8,
) -> (Picture, bool) {
    let pixels = rgba.as_chunks::<4>().0;
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        rgb.extend([mix(pixel[0], pixel[3], 0), mix(pixel[1], pixel[3], 1), mix(pixel[2], pixel[3], 2)]);
    }
    let transparent = pixels.iter().any(|pixel| pixel[3] != full);
    (Picture { width: width as usize, height: height as usize, rgb }, transparent)
}
