//! Every format but JPEG, through `image`.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{DecodeOptions, FORMATS, Picture, PictureError, name, orientation};

/// What a decoder may allocate whatever the size of the picture: metadata, tables, row buffers.
const FIXED_BYTES: u64 = 64 << 20;
/// What a decoder may allocate per declared pixel: two buffers of four 16-bit channels.
const BYTES_PER_PIXEL: u64 = 16;

pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    options: &DecodeOptions,
) -> Result<Picture, PictureError> {
    let fail = |error| explain(format, error);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The limits twice: for reading the header, and once it has told the size.
    reader.limits(limits(0));
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    options.check_size(u64::from(width), u64::from(height))?;
    if width == 0 || height == 0 {
        let reason = format!("{width}x{height} pixels");
        return Err(PictureError::Broken { format: name(format), reason });
    }
    decoder.set_limits(limits(u64::from(width) * u64::from(height))).map_err(fail)?;
    let turned = match format {
        ImageFormat::Png => png_exif(bytes).map_or(Orientation::NoTransforms, orientation),
        ImageFormat::Tiff => decoder.orientation().map_err(fail)?,
        // A broken EXIF block leaves the picture as it lies.
        _ => decoder
            .exif_metadata()
            .ok()
            .flatten()
            .map_or(Orientation::NoTransforms, |exif| orientation(&exif)),
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    image.apply_orientation(turned);
    Ok(flatten(image, options.background))
}

fn limits(pixels: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(FIXED_BYTES + BYTES_PER_PIXEL * pixels);
    limits
}

fn explain(format: ImageFormat, error: ImageError) -> PictureError {
    match error {
        ImageError::Unsupported(error) => PictureError::Unsupported(format!("{error} (readable: {FORMATS})")),
        ImageError::Decoding(error) => {
            // The library's own words carry the format's name in front of their cause's.
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            PictureError::Broken { format: name(format), reason: cause }
        }
        error => PictureError::Broken { format: name(format), reason: error.to_string() },
    }
}

/// The content of a PNG's eXIf chunk. The standard allows it after the pixels, where `image` does not look.
fn png_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let (&length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(length) as usize;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let data = after.get(..length)?;
        if kind == b"eXIf" {
            return Some(data);
        }
        // The chunk's checksum follows its data.
        rest = after.get(length + 4..)?;
    }
}

/// Lays `image` over `background`, with one rounding from its own depth to 8 bits.
fn flatten(image: DynamicImage, background: [u8; 3]) -> Picture {
    match image {
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgba8(_) => {
            let image = image.into_rgba8();
            composite(image.width(), image.height(), image.as_raw(), |value, alpha, channel| {
                let (value, alpha) = (u32::from(value), u32::from(alpha));
                ((value * alpha + u32::from(background[channel]) * (255 - alpha) + 127) / 255) as u8
            })
        }
        DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
            // 65535 = 255 * 257.
            const ONE: u64 = 65535 * 257;
            let image = image.into_rgba16();
            composite(image.width(), image.height(), image.as_raw(), |value, alpha, channel| {
                let (value, alpha) = (u64::from(value), u64::from(alpha));
                ((value * alpha + u64::from(background[channel]) * 257 * (65535 - alpha) + ONE / 2) / ONE)
                    as u8
            })
        }
        DynamicImage::ImageRgba32F(image) => {
            composite(image.width(), image.height(), image.as_raw(), |value, alpha, channel| {
                let (value, alpha) = (value.clamp(0.0, 1.0), alpha.clamp(0.0, 1.0));
                (255.0 * value * alpha + f32::from(background[channel]) * (1.0 - alpha)).round() as u8
            })
        }
        opaque => Picture::from_rgb8(opaque.into_rgb8()),
    }
}

/// The picture of `rgba`, each of its values from `mix(value, alpha, channel)`.
fn composite<T: Copy>(width: u32, height: u32, rgba: &[T], mix: impl Fn(T, T, usize) -> u8) -> Picture {
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.as_chunks::<4>().0 {
        rgb.extend([mix(pixel[0], pixel[3], 0), mix(pixel[1], pixel[3], 1), mix(pixel[2], pixel[3], 2)]);
    }
    Picture { width: width as usize, height: height as usize, rgb }
}
