//! TIFF: the first picture of a file, with samples of any type if the file makes their range clear.

mod samples;

use std::io::{Cursor, ErrorKind};

use image::DynamicImage;
use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffFormatError};

use self::samples::{Ink, Samples};
use super::size::upright;
use super::{DecodeOptions, Decoded, Picture, PictureError, Traits, exif, jpeg, turn};

/// The memory that a decoder may allocate besides the pixels, such as tables and strips.
const FIXED_BYTES: usize = 64 << 20;

/// `PhotometricInterpretation`.
const WHITE_IS_ZERO: u16 = 0;
const BLACK_IS_ZERO: u16 = 1;
const RGB: u16 = 2;
const PALETTE: u16 = 3;
const INKS: u16 = 5;
const YCBCR: u16 = 6;

/// `Compression`.
const JPEG: u16 = 7;

type Tiff<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, PictureError> {
    let mut tiff = Decoder::new(Cursor::new(bytes)).map_err(error)?;
    let (width, height) = tiff.dimensions().map_err(error)?;
    options.check_size(u64::from(width), u64::from(height))?;
    if width == 0 || height == 0 {
        return Err(broken(&format!("{width}x{height} pixels")));
    }
    let turned = orientation(&mut tiff);
    let pixels = u64::from(width) * u64::from(height);
    let samples = u64::from(number(&mut tiff, Tag::SamplesPerPixel)?.unwrap_or(1));
    let bits = numbers(&mut tiff, Tag::BitsPerSample)?.first().copied().unwrap_or(1);
    let own = samples * bits.div_ceil(8);
    let permit = options.reserve(
        bytes.len() as u64 + pixels * if turned == Orientation::NoTransforms { own + 3 } else { own + 6 },
    )?;
    let room = usize::try_from(pixels * own).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = room.saturating_add(FIXED_BYTES);
    limits.intermediate_buffer_size = room.saturating_add(FIXED_BYTES);
    let mut tiff = tiff.with_limits(limits);
    let compression = number(&mut tiff, Tag::Compression)?.unwrap_or(1);
    let (rgb, transparent) = match compression {
        JPEG => (jpeg_pieces(bytes, &mut tiff)?, false),
        compression => {
            check_compression(compression)?;
            read_samples(&mut tiff, options.background)?
        }
    };
    let rgb =
        image::RgbImage::from_raw(width, height, rgb).ok_or_else(|| broken("its pixels are too few"))?;
    let image = turn(DynamicImage::ImageRgb8(rgb), turned);
    let traits = Traits { transparent, lossy: compression == JPEG };
    Ok(Decoded::new(Picture::from_rgb8(image.into_rgb8()), traits, permit))
}

/// Width and height of the picture once it is upright.
///
/// # Errors
/// If the header is broken.
pub(super) fn size(bytes: &[u8]) -> Result<(usize, usize), PictureError> {
    let mut tiff = Decoder::new(Cursor::new(bytes)).map_err(error)?;
    let stored = tiff.dimensions().map_err(error)?;
    Ok(upright(stored, orientation(&mut tiff)))
}

/// How the picture is turned. A broken tag leaves it as stored.
fn orientation(tiff: &mut Tiff) -> Orientation {
    let stated = number(tiff, Tag::Orientation).ok().flatten();
    stated.map_or(Orientation::NoTransforms, exif::orientation_of)
}

/// Refuses compressions that the decoder lacks, by name.
fn check_compression(compression: u16) -> Result<(), PictureError> {
    let name = match compression {
        2 | 3 => "CCITT group 3",
        6 => "the old kind of JPEG",
        34712 => "JPEG 2000",
        34887 => "LERC",
        34925 => "LZMA",
        50000 => "Zstandard",
        50001 => "WebP",
        50002 | 52546 => "JPEG XL",
        // None, CCITT group 4, LZW, Deflate twice, PackBits.
        1 | 4 | 5 | 8 | 32946 | 32773 => return Ok(()),
        _ => return Err(unsupported(&format!("in compression {compression}"))),
    };
    Err(unsupported(&format!("in {name} compression")))
}

/// The meaning of a pixel's samples: colours, then possibly alpha, then samples that do not affect
/// the colour.
fn ink(tiff: &mut Tiff) -> Result<Ink, PictureError> {
    let count = number(tiff, Tag::SamplesPerPixel)?.unwrap_or(1);
    let photometric = number(tiff, Tag::PhotometricInterpretation)?.unwrap_or(BLACK_IS_ZERO);
    let (colours, what) = match photometric {
        WHITE_IS_ZERO | BLACK_IS_ZERO => (1, "grey"),
        RGB => (3, "RGB"),
        INKS => (4, "CMYK"),
        PALETTE => return Err(unsupported("with a palette")),
        YCBCR => return Err(unsupported("in YCbCr colours without JPEG compression")),
        other => return Err(unsupported(&format!("in colours of kind {other}"))),
    };
    if colours == 4 && number(tiff, Tag::Unknown(INK_SET))?.unwrap_or(1) != 1 {
        return Err(unsupported("in inks other than CMYK"));
    }
    if count < colours {
        return Err(broken(&format!("{count} samples a pixel, which {what} is not made of")));
    }
    let extra = numbers(tiff, Tag::ExtraSamples)?;
    let premultiplied = match (count - colours, extra.first()) {
        (0, _) | (_, Some(0)) => None,
        (_, Some(1)) => Some(true),
        // If the extra sample is not declared, or declared with a private number, writers mean
        // alpha.
        (_, _) => Some(false),
    };
    if premultiplied.is_some() && colours == 4 {
        return Err(unsupported("in CMYK with transparency"));
    }
    Ok(Ink { colours: usize::from(colours), premultiplied })
}

/// `InkSet`.
const INK_SET: u16 = 332;

/// Reads the samples and converts them like [`Samples::rgb`].
fn read_samples(tiff: &mut Tiff, background: [u8; 3]) -> Result<(Vec<u8>, bool), PictureError> {
    let ink = ink(tiff)?;
    let count = usize::from(number(tiff, Tag::SamplesPerPixel)?.unwrap_or(1));
    let used = ink.colours + usize::from(ink.premultiplied.is_some());
    let predicted = number(tiff, Tag::Predictor)?.unwrap_or(1) != 1;
    let planar = number(tiff, Tag::PlanarConfiguration)?.unwrap_or(1) == 2;
    if number(tiff, Tag::FillOrder)?.unwrap_or(1) != 1 {
        // The decoder does not know the tag.
        return Err(unsupported("with the bits of its bytes in reverse order (FillOrder 2)"));
    }
    if planar && count > 1 && tiff.find_tag(Tag::TileOffsets).map_err(error)?.is_some() {
        return Err(unsupported("in tiles with its colours apart"));
    }
    if predicted && count > used && !planar {
        // The decoder drops the extra samples before it undoes the prediction.
        return Err(unsupported("with a predictor and more samples than colours and alpha"));
    }
    let bits = numbers(tiff, Tag::BitsPerSample)?.first().copied().unwrap_or(1);
    let (width, height) = tiff.dimensions().map_err(error)?;
    let range = samples::stated_range(tiff)?;
    let mut buffer = DecodingResult::U8(Vec::new());
    let layout = tiff.read_image_to_buffer(&mut buffer).map_err(error)?;
    if buffer.as_buffer(0).as_bytes().len() < layout.complete_len {
        return Err(broken("its header asks for more memory than its pixels need"));
    }
    let size = (width as usize, height as usize);
    // The decoder leaves out some extra samples of interleaved pixels, so the pitch is computed
    // from its buffer.
    let pitch =
        if planar { 1 } else { layout.complete_len * 8 / (size.0 * size.1).max(1) / (bits as usize).max(1) };
    let samples = Samples { buffer, bits, size, ink, pitch: if bits < 8 { 1 } else { pitch }, planar };
    samples.rgb(range, background)
}

/// Decodes a picture whose strips or tiles are JPEG files, with their tables stored separately.
fn jpeg_pieces(bytes: &[u8], tiff: &mut Tiff) -> Result<Vec<u8>, PictureError> {
    let photometric = number(tiff, Tag::PhotometricInterpretation)?.unwrap_or(YCBCR);
    let colours = match photometric {
        BLACK_IS_ZERO => jpeg::Colours::Grey,
        RGB => jpeg::Colours::Rgb,
        YCBCR => jpeg::Colours::YCbCr,
        other => return Err(unsupported(&format!("in JPEG compression with colours of kind {other}"))),
    };
    if number(tiff, Tag::PlanarConfiguration)?.unwrap_or(1) != 1 {
        return Err(unsupported("in JPEG compression with its colours apart"));
    }
    let tables = match tiff.find_tag(Tag::JPEGTables).map_err(error)? {
        Some(tables) => tables.into_u8_vec().map_err(error)?,
        None => vec![0xFF, 0xD8],
    };
    let tables = tables.strip_suffix(&[0xFF, 0xD9]).unwrap_or(&tables).to_vec();
    let tiled = tiff.find_tag(Tag::TileOffsets).map_err(error)?.is_some();
    let (offsets, lengths) = if tiled {
        (Tag::TileOffsets, Tag::TileByteCounts)
    } else {
        (Tag::StripOffsets, Tag::StripByteCounts)
    };
    let (offsets, lengths) = (numbers(tiff, offsets)?, numbers(tiff, lengths)?);
    let (width, height) = tiff.dimensions().map_err(error)?;
    let (piece_width, piece_height) = tiff.chunk_dimensions();
    let across = width.div_ceil(piece_width.max(1));
    if offsets.len() != lengths.len()
        || offsets.len() as u64 != u64::from(across) * u64::from(height.div_ceil(piece_height.max(1)))
    {
        return Err(broken("its strips are too few or too many"));
    }
    let row = 3 * width as usize;
    let mut rgb = vec![0; row * height as usize];
    for (index, (&offset, &length)) in offsets.iter().zip(&lengths).enumerate() {
        let index = index as u32;
        let (left, top) = (index % across * piece_width, index / across * piece_height);
        let (wide, high) = tiff.chunk_data_dimensions(index);
        let range = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(length)).ok());
        let piece = range
            .and_then(|(from, to)| bytes.get(from..to))
            .ok_or_else(|| broken("a strip lies outside the file"))?;
        let whole = [&tables[..], piece.strip_prefix(&[0xFF, 0xD8]).unwrap_or(piece)].concat();
        let piece = jpeg::piece(&whole, colours, (piece_width, piece_height))?;
        if piece.width() < wide || piece.height() < high {
            return Err(broken("a strip has fewer pixels than it should"));
        }
        let line = 3 * piece.width() as usize;
        for y in 0..high as usize {
            let target = (top as usize + y) * row + 3 * left as usize;
            rgb[target..target + 3 * wide as usize]
                .copy_from_slice(&piece.as_raw()[y * line..y * line + 3 * wide as usize]);
        }
    }
    Ok(rgb)
}

/// A tag that holds one integer; `None` if it is missing or not a 16-bit number.
fn number(tiff: &mut Tiff, tag: Tag) -> Result<Option<u16>, PictureError> {
    Ok(numbers(tiff, tag)?.first().and_then(|value| u16::try_from(*value).ok()))
}

fn numbers(tiff: &mut Tiff, tag: Tag) -> Result<Vec<u64>, PictureError> {
    let values = tiff.find_tag(tag).map_err(error)?;
    Ok(values.and_then(|values| values.into_u64_vec().ok()).unwrap_or_default())
}

fn broken(reason: &str) -> PictureError {
    PictureError::Broken { format: "TIFF", reason: reason.to_owned() }
}

fn unsupported(what: &str) -> PictureError {
    PictureError::Unsupported(format!("a TIFF {what} is not supported; save it as 8-bit RGB"))
}

/// The library's messages name its own types.
fn error(error: TiffError) -> PictureError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => broken("it is cut short"),
        TiffError::IoError(_) => broken("its compressed data make no sense"),
        TiffError::LimitsExceeded => broken("its header asks for more memory than its pixels need"),
        TiffError::UnsupportedError(_) => unsupported("of these colours or this number of bits"),
        TiffError::FormatError(TiffFormatError::RequiredTagNotFound(tag)) => {
            broken(&format!("it lacks tag {}", tag.to_u16()))
        }
        TiffError::FormatError(_) | TiffError::IntSizeError | TiffError::UsageError(_) => {
            broken("its directory or its data make no sense")
        }
    }
}
