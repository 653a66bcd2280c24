//! The formats that `image` reads: PNG, GIF, WebP, BMP and PNM.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::flatten::flatten;
use super::size::upright;
use super::{DecodeOptions, Decoded, FORMATS, PictureError, Traits, exif, gif, png, turn, webp};

/// The memory that a decoder may allocate for any picture: metadata, tables, row buffers.
const FIXED_BYTES: u64 = 64 << 20;
/// The memory that a decoder may allocate per declared pixel: two buffers of four 16-bit channels.
const BYTES_PER_PIXEL: u64 = 16;
/// The number of colours of the largest palette. A picture with no more pixels than this loses
/// nothing in it.
const PALETTE_COLOURS: u64 = 256;

pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    options: &DecodeOptions,
) -> Result<Decoded, PictureError> {
    let fail = |error| explain(format, error);
    let bytes = repaired(bytes, format)?;
    let mut decoder = opened(&bytes, format)?;
    let (width, height) = decoder.dimensions();
    options.check_size(u64::from(width), u64::from(height))?;
    if width == 0 || height == 0 {
        return Err(without_pixels((width, height), format));
    }
    let pixels = u64::from(width) * u64::from(height);
    decoder.set_limits(limits(pixels)).map_err(fail)?;
    let turned = orientation(&bytes, format, &mut decoder);
    let per_pixel =
        working_bytes(decoder.color_type(), turned != Orientation::NoTransforms) + canvas_bytes(format);
    let permit = options.reserve(bytes.len() as u64 + pixels * per_pixel)?;
    let image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    let image = if format == ImageFormat::Bmp { opaque_if_unseen(image) } else { image };
    let (picture, transparent) = flatten(turn(image, turned), options.background);
    let lossy = match format {
        ImageFormat::Gif => true,
        ImageFormat::WebP => webp::is_lossy(&bytes),
        ImageFormat::Png => pixels > PALETTE_COLOURS && png::has_palette(&bytes),
        _ => false,
    };
    Ok(Decoded::new(picture, Traits { transparent, lossy }, permit))
}

/// Width and height of the picture once it is upright. PNG has a function of its own.
///
/// # Errors
/// If the header is broken.
pub(super) fn size(bytes: &[u8], format: ImageFormat) -> Result<(usize, usize), PictureError> {
    let bytes = repaired(bytes, format)?;
    let mut decoder = opened(&bytes, format)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(without_pixels((width, height), format));
    }
    Ok(upright((width, height), orientation(&bytes, format, &mut decoder)))
}

/// The file as `image` reads it.
fn repaired(bytes: &[u8], format: ImageFormat) -> Result<Cow<'_, [u8]>, PictureError> {
    match format {
        ImageFormat::Png => png::with_end(bytes),
        ImageFormat::WebP => webp::with_true_flags(bytes),
        ImageFormat::Gif => gif::with_screen(bytes),
        _ => Ok(Cow::Borrowed(bytes)),
    }
}

/// The decoder after it has read the header. Its limits are those for the header; they are set
/// again once the size is known.
fn opened(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder, PictureError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(0));
    reader.into_decoder().map_err(|error| explain(format, error))
}

/// How the picture is turned.
fn orientation(bytes: &[u8], format: ImageFormat, decoder: &mut impl ImageDecoder) -> Orientation {
    let block = match format {
        ImageFormat::Png => png::exif(bytes),
        _ => decoder.exif_metadata().ok().flatten().map(Cow::Owned),
    };
    block.map_or(Orientation::NoTransforms, |block| exif::orientation(&block))
}

fn without_pixels((width, height): (u32, u32), format: ImageFormat) -> PictureError {
    PictureError::Broken { format: name(format), reason: format!("{width}x{height} pixels") }
}

/// The most bytes per pixel that are in use between decoding the image and the finished picture.
fn working_bytes(colour: ColorType, turned: bool) -> u64 {
    let own = u64::from(colour.bytes_per_pixel());
    let flat = match colour {
        ColorType::Rgb8 => own,
        // Converted through RGBA.
        ColorType::La8 | ColorType::La16 => 3 * own + 1,
        _ => own + 3,
    };
    if turned { flat.max(2 * own) } else { flat }
}

/// Bytes per pixel that decoders keep besides the image that they fill.
fn canvas_bytes(format: ImageFormat) -> u64 {
    match format {
        // The frame that is drawn on the canvas, and its palette indices.
        ImageFormat::Gif => 5,
        // Luma and chroma, or a frame of four channels.
        ImageFormat::WebP => 4,
        _ => 0,
    }
}

/// The image without its alpha channel if that would hide all of it: some programs write BMP files
/// whose alpha is zero everywhere.
fn opaque_if_unseen(image: DynamicImage) -> DynamicImage {
    let seen = match &image {
        DynamicImage::ImageRgba8(pixels) => pixels.pixels().any(|pixel| pixel.0[3] != 0),
        DynamicImage::ImageRgba16(pixels) => pixels.pixels().any(|pixel| pixel.0[3] != 0),
        _ => true,
    };
    if seen { image } else { DynamicImage::ImageRgb8(image.into_rgb8()) }
}

fn limits(pixels: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(FIXED_BYTES + BYTES_PER_PIXEL * pixels);
    limits
}

fn explain(format: ImageFormat, error: ImageError) -> PictureError {
    let broken = |reason: &str| PictureError::Broken { format: name(format), reason: plain(reason) };
    match error {
        ImageError::Unsupported(_) => {
            let words = format!("a {} of this kind is not supported (readable: {FORMATS})", name(format));
            PictureError::Unsupported(words)
        }
        // The library's message repeats the format's name before the cause.
        ImageError::Decoding(error) => match std::error::Error::source(&error) {
            Some(cause) => broken(&cause.to_string()),
            None => broken(&error.to_string()),
        },
        error => broken(&error.to_string()),
    }
}

/// A decoder's message without the names of its types.
fn plain(words: &str) -> String {
    let mut words = words.trim_end_matches('.').to_owned();
    // `ChunkType { type: IDAT, critical: true, … }`
    const CHUNK: &str = "ChunkType { type: ";
    if let Some((before, rest)) = words.split_once(CHUNK)
        && let Some((kind, rest)) = rest.split_once(',')
        && let Some((_, after)) = rest.split_once('}')
    {
        words = format!("{before}{kind}{after}");
    }
    if let Some((before, _)) = words.split_once("Corrupt deflate stream") {
        words = format!("{before}corrupt deflate stream");
    }
    let ended = ["failed to fill whole buffer", "unexpected end of file"];
    if ended.iter().any(|part| words.eq_ignore_ascii_case(part)) {
        return "it is cut short".to_owned();
    }
    let odd = ["{", "[", "`", "::", "Some(", "None"];
    if odd.iter().any(|part| words.contains(part)) { "its content makes no sense".to_owned() } else { words }
}

pub(super) fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        _ => "PNM",
    }
}
