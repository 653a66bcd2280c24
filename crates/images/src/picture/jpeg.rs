//! JPEG, strict unless requested otherwise. zune-jpeg is fast and decodes the layouts that it
//! decodes correctly; jpeg-decoder decodes the others. (On other layouts zune-jpeg reports success
//! and returns noise, and `image` decodes truncated files without an error.)

mod layout;
mod standard_tables;
mod walk;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use jpeg_decoder::ColorTransform;
use pixtok_pixels::{Jpeg, decode_headers, decode_into};
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

pub(super) use self::layout::Colours;

use self::layout::{Component, Layout};
use super::memory::Permit;
use super::size::upright;
use super::{DecodeOptions, Decoded, Picture, PictureError, Traits, exif, turn};

/// The largest side that a JPEG header can state.
const MAX_SIDE: usize = 65535;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, PictureError> {
    let layout = Layout::read(bytes)?;
    let (width, height) = (layout.frame.width, layout.frame.height);
    options.check_size(u64::from(width), u64::from(height))?;
    let turned = layout.exif.map_or(Orientation::NoTransforms, exif::orientation);
    let permit = options.reserve(working_bytes(&layout, bytes.len(), turned != Orientation::NoTransforms))?;
    let rgb = pixels(&layout, options.lenient_jpeg)?;
    Ok(finish(rgb, turned, permit))
}

/// Width and height of the picture once it is upright, from the beginning of a file as far as its
/// first scan.
///
/// # Errors
/// If the bytes end before that, or no decoder reads the kind of frame.
pub(super) fn size(bytes: &[u8]) -> Result<(usize, usize), PictureError> {
    let layout = Layout::read(bytes)?;
    let stored = (u32::from(layout.frame.width), u32::from(layout.frame.height));
    Ok(upright(stored, layout.exif.map_or(Orientation::NoTransforms, exif::orientation)))
}

/// Decodes a JPEG stream inside a TIFF, with the colours that the TIFF states. It must be at most
/// `most` pixels wide and high.
pub(super) fn piece(bytes: &[u8], colours: Colours, most: (u32, u32)) -> Result<RgbImage, PictureError> {
    let mut layout = Layout::read(bytes)?;
    layout.colours = colours;
    let (width, height) = (u32::from(layout.frame.width), u32::from(layout.frame.height));
    let grey = layout.frame.components.len() == 1;
    if grey != (colours == Colours::Grey) || layout.frame.components.len() == 4 {
        return Err(broken("its colours are not those of the TIFF around it"));
    }
    if width > most.0 || height > most.1 {
        return Err(broken(&format!("{width}x{height} pixels in a piece of {}x{}", most.0, most.1)));
    }
    pixels(&layout, false)
}

fn finish(rgb: RgbImage, turned: Orientation, permit: Permit) -> Decoded {
    let image = turn(DynamicImage::ImageRgb8(rgb), turned);
    let traits = Traits { transparent: false, lossy: true };
    Decoded::new(Picture::from_rgb8(image.into_rgb8()), traits, permit)
}

/// The largest number of bytes that decoding holds at once, apart from small amounts: the copy of
/// the file without unneeded segments, the picture, and either a turned copy of it or the decoder's
/// own buffers for the whole picture.
fn working_bytes(layout: &Layout, file: usize, turned: bool) -> u64 {
    let frame = &layout.frame;
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let area = |component: &Component| u64::from(component.sampling.0) * u64::from(component.sampling.1);
    let of = |side: fn(&Component) -> u8| frame.components.iter().map(side).max().map_or(1, u64::from);
    let whole = of(|component| component.sampling.0) * of(|component| component.sampling.1);
    let samples = pixels * frame.components.iter().map(area).sum::<u64>() / whole;
    let coefficients = if frame.progressive { 2 * samples } else { 0 };
    let decoding = if is_fast(layout) {
        3 * pixels + coefficients
    } else {
        samples + coefficients + frame.components.len().max(3) as u64 * pixels
    };
    file as u64 + decoding.max(if turned { 6 * pixels } else { 0 })
}

/// The pixels as stored, before turning.
///
/// # Errors
/// If the file is truncated or broken, or no decoder supports its layout.
fn pixels(layout: &Layout, lenient: bool) -> Result<RgbImage, PictureError> {
    let fast = is_fast(layout);
    if !(layout.whole || fast && lenient) {
        let reason = "no end-of-image marker";
        // jpeg-decoder cannot decode part of a file, so `lenient_jpeg` would not help.
        return Err(if fast {
            PictureError::Truncated(reason.to_owned())
        } else {
            broken(&format!("it is cut short: {reason}"))
        });
    }
    if !layout.has_every_component() {
        return Err(broken("a component has no scan"));
    }
    if fast { with_zune(layout, lenient) } else { with_jpeg_decoder(layout) }
}

/// Whether zune-jpeg decodes this layout correctly: grey, or YCbCr with full-size luma and both
/// chroma components at the same full or half size. All components must be in the only scan of a
/// sequential JPEG, or in the first scan of a progressive one.
fn is_fast(layout: &Layout) -> bool {
    let sampling: Vec<_> = layout.frame.components.iter().map(|component| component.sampling).collect();
    let plain = match layout.colours {
        Colours::Grey => true,
        Colours::YCbCr => {
            matches!(sampling[0], (1 | 2, 1 | 2))
                && sampling[1..] == [(1, 1); 2]
                // zune-jpeg takes components with these names for RGB, whatever else the file
                // states.
                && !layout.frame.components.iter().map(|component| component.id).eq(*b"RGB")
        }
        Colours::Rgb | Colours::Cmyk | Colours::Ycck => false,
    };
    plain && layout.is_interleaved()
}

fn with_zune(layout: &Layout, lenient: bool) -> Result<RgbImage, PictureError> {
    let bytes = layout.plain(!lenient, false);
    let zune = DecoderOptions::default()
        .set_strict_mode(!lenient)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = Jpeg::new_with_options(ZCursor::new(&*bytes), zune);
    decode_headers(&mut decoder).map_err(zune_error)?;
    let mut rgb = RgbImage::new(u32::from(layout.frame.width), u32::from(layout.frame.height));
    decode_into(&mut decoder, &mut rgb).map_err(zune_error)?;
    Ok(rgb)
}

fn with_jpeg_decoder(layout: &Layout) -> Result<RgbImage, PictureError> {
    if !layout.has_whole_blocks() {
        return Err(unsupported(
            "a JPEG of several scans with one component at half the size of another and double that of a third",
        ));
    }
    let bytes = layout.plain(true, true);
    let mut decoder = jpeg_decoder::Decoder::new(&*bytes);
    decoder.set_color_transform(match layout.colours {
        Colours::Grey => ColorTransform::Grayscale,
        Colours::YCbCr => ColorTransform::YCbCr,
        Colours::Rgb => ColorTransform::RGB,
        Colours::Cmyk => ColorTransform::CMYK,
        Colours::Ycck => ColorTransform::YCCK,
    });
    let pixels = decoder.decode().map_err(jpeg_decoder_error)?;
    let rgb = match layout.colours {
        Colours::Grey => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        Colours::YCbCr | Colours::Rgb => pixels,
        Colours::Cmyk | Colours::Ycck => {
            pixels.as_chunks().0.iter().flat_map(|inks| rgb_of_inks(*inks)).collect()
        }
    };
    let (width, height) = (u32::from(layout.frame.width), u32::from(layout.frame.height));
    RgbImage::from_raw(width, height, rgb).ok_or_else(|| broken("its pixels are too few"))
}

/// Converts amounts of ink to colours. Four components are treated as inverted CMYK or YCCK:
/// Adobe's programs write them so, and other readers read them so. The decoder has already undone
/// the inversion.
fn rgb_of_inks([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| {
        let light = u32::from(255 - ink) * u32::from(255 - black);
        ((light + 127) / 255) as u8
    })
}

fn broken(reason: &str) -> PictureError {
    PictureError::Broken { format: "JPEG", reason: reason.to_owned() }
}

fn unsupported(what: &str) -> PictureError {
    PictureError::Unsupported(format!("{what} is not supported"))
}

fn zune_error(error: DecodeErrors) -> PictureError {
    match error {
        DecodeErrors::ExhaustedData => PictureError::Truncated("the data end too early".to_owned()),
        // The Display form is the Debug form, in which the variant's name surrounds the message.
        DecodeErrors::Format(words)
        | DecodeErrors::HuffmanDecode(words)
        | DecodeErrors::SofError(words)
        | DecodeErrors::DqtError(words)
        | DecodeErrors::SosError(words)
        | DecodeErrors::MCUError(words) => broken(&words),
        DecodeErrors::FormatStatic(words) => broken(words),
        DecodeErrors::ZeroError => broken("a side has no pixels"),
        _ => broken("the decoder failed"),
    }
}

fn jpeg_decoder_error(error: jpeg_decoder::Error) -> PictureError {
    match error {
        jpeg_decoder::Error::Format(words) => broken(&words),
        jpeg_decoder::Error::Unsupported(jpeg_decoder::UnsupportedFeature::NonIntegerSubsamplingRatio) => {
            unsupported("a JPEG whose components' sizes are not multiples of each other")
        }
        jpeg_decoder::Error::Unsupported(_) => unsupported("a JPEG of this layout"),
        jpeg_decoder::Error::Io(_) => PictureError::Truncated("the data end too early".to_owned()),
        jpeg_decoder::Error::Internal(_) => broken("the decoder failed"),
    }
}
