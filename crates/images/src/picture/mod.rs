//! 8-bit RGB pictures: decoding any supported file, encoding PNG and JPEG, and contact sheets.
//!
//! Only this module determines how a file is decoded: by its content, never by its name. The
//! picture is turned upright by its EXIF orientation, transparency is composited over a background
//! colour, 16 bits are rounded to 8, only the first frame of an animation is read, and colour
//! profiles and gamma are ignored. A truncated or broken file is an error, never half a picture.

mod errors;
mod exif;
mod flatten;
mod gif;
mod jpeg;
mod memory;
mod other;
mod png;
mod sheet;
mod size;
mod tiff;
mod webp;

use std::io::Cursor;
use std::path::Path;
use std::{fs, io};

use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, SamplingFactor};

pub use errors::{error_map, error_scale};
pub use memory::{Decoded, Traits};
pub use sheet::{LabelledSheet, sheet};
pub use size::{Stored, size, size_in, size_of};

use self::memory::Permit;
use pixtok_base::panics;
use pixtok_base::paths::special;
use pixtok_base::sniff::{Kind as FileKind, sniff};
use pixtok_base::{Class, Classified};

/// The formats that [`decode`] reads, as error messages list them.
pub const FORMATS: &str = "JPEG, PNG, APNG, WebP, GIF, BMP, TIFF and PNM";

/// The longest file that is read: 2^28 pixels of 8 bytes.
const MAX_FILE_BYTES: u64 = 1 << 31;

/// The reason why a file could not be decoded, or a picture not encoded.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The system does not allow the file to be read.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// The file is longer than any picture within the pixel limit needs.
    #[error("the file has {bytes} bytes, more than the limit of {limit}")]
    FileTooLong {
        /// The length of the file.
        bytes: u64,
        /// The largest supported length.
        limit: u64,
    },
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// A file of another or an unknown kind.
    #[error("the file is {0}, not an image in a supported format ({FORMATS})")]
    NoImage(FileKind),
    /// A format, or a variant of one, that is known but not supported.
    #[error("{0}")]
    Unsupported(String),
    /// The file ends before the picture does.
    #[error("the JPEG is cut short ({0}); data.lenient_jpeg = true accepts what there is of it")]
    Truncated(String),
    /// The header declares more pixels than are allowed.
    #[error("{width}x{height} pixels are more than the limit of {limit}")]
    TooLarge {
        /// Declared width in pixels.
        width: u64,
        /// Declared height in pixels.
        height: u64,
        /// [`DecodeOptions::max_pixels`].
        limit: u64,
    },
    /// Decoding would take more memory than all threads together may use.
    #[error(
        "decoding it takes {:.2} GiB, more than data.decode_gib = {} allows for all threads together; raise it, or \
         scale the picture down",
        gib(*bytes),
        gib(*limit)
    )]
    Memory {
        /// The bytes that decoding needs.
        bytes: u64,
        /// [`DecodeOptions::max_bytes`].
        limit: u64,
    },
    /// The decoder found the content broken.
    #[error("broken {format}: {reason}")]
    Broken {
        /// The format's name.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// Encoding failed.
    #[error("cannot encode a {width}x{height} picture as {format}: {reason}")]
    Encode {
        /// The format's name.
        format: &'static str,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The encoder's words.
        reason: String,
    },
}

impl Classified for PictureError {
    fn class(&self) -> Class {
        Class::Failed
    }
}

/// An upright picture without transparency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Interleaved rows from the top, 3 bytes per pixel: `rgb.len() == 3 * width * height`.
    pub rgb: Vec<u8>,
}

/// How files are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The colour under transparent pixels.
    pub background: [u8; 3],
    /// Accept a JPEG that is cut short or broken, with what can be decoded of it.
    pub lenient_jpeg: bool,
    /// Refuse a file that declares more pixels than this before anything is allocated for them.
    pub max_pixels: u64,
    /// The most bytes that all threads of the process may use together, for decoding and for
    /// decoded pictures that are still in use. A thread waits for its turn. The need of a picture
    /// is computed from its pixels and its format.
    pub max_bytes: u64,
}

/// In GiB, rounded to six digits, so that a setting is shown as it was written.
fn gib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 30) * 1e6).round() / 1e6
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { background: [255; 3], lenient_jpeg: false, max_pixels: 1 << 28, max_bytes: 2 << 30 }
    }
}

impl DecodeOptions {
    /// Refuses `width` x `height` pixels above the limit.
    fn check_size(&self, width: u64, height: u64) -> Result<(), PictureError> {
        if width.saturating_mul(height) > self.max_pixels {
            return Err(PictureError::TooLarge { width, height, limit: self.max_pixels });
        }
        Ok(())
    }

    /// Waits for `bytes` of the shared memory budget.
    fn reserve(&self, bytes: u64) -> Result<Permit, PictureError> {
        Permit::wait(bytes, self.max_bytes)
    }
}

/// Reads and decodes an image file, whatever its name.
///
/// # Errors
/// If it cannot be read or is longer than 2 GiB, and the errors of [`decode`].
pub fn read(path: &Path, options: &DecodeOptions) -> Result<Decoded, PictureError> {
    length_of(path)?;
    decode(&fs::read(path)?, options)
}

/// The length of a file in bytes.
///
/// # Errors
/// If it is not a file, or too long for a picture.
fn length_of(path: &Path) -> Result<u64, PictureError> {
    let meta = fs::metadata(path)?;
    if let Some(kind) = special(meta.file_type()) {
        return Err(io::Error::other(format!("it is a {kind}, not a file")).into());
    }
    let bytes = meta.len();
    if bytes > MAX_FILE_BYTES {
        return Err(PictureError::FileTooLong { bytes, limit: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

/// Decodes the content of an image file.
///
/// # Errors
/// If the content is not a picture, is broken or truncated, or declares too many pixels. A panic of
/// a decoder is converted to such an error.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    let kind = sniff(bytes);
    guarded(kind, || match kind {
        FileKind::Jpeg => jpeg::decode(bytes, options),
        FileKind::Tiff => tiff::decode(bytes, options),
        FileKind::Png => other::decode(bytes, ImageFormat::Png, options),
        FileKind::Gif => other::decode(bytes, ImageFormat::Gif, options),
        FileKind::WebP => other::decode(bytes, ImageFormat::WebP, options),
        FileKind::Bmp => other::decode(bytes, ImageFormat::Bmp, options),
        FileKind::Pnm => other::decode(bytes, ImageFormat::Pnm, options),
        kind => Err(PictureError::NoImage(kind)),
    })
}

/// Runs a decoder of files of this kind, and converts a panic to an error.
fn guarded<T>(kind: FileKind, decoder: impl FnOnce() -> Result<T, PictureError>) -> Result<T, PictureError> {
    panics::catch(decoder).unwrap_or_else(|_| {
        let reason = "its decoder failed".to_owned();
        Err(PictureError::Broken { format: name(kind), reason })
    })
}

impl Picture {
    /// The middle `width`×`height` pixels, or fewer if the picture is smaller.
    #[must_use]
    pub fn centre_crop(&self, width: usize, height: usize) -> Picture {
        let (width, height) = (width.min(self.width), height.min(self.height));
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        let row = |y: usize| {
            let start = 3 * ((top + y) * self.width + left);
            &self.rgb[start..start + 3 * width]
        };
        Picture { width, height, rgb: (0..height).flat_map(row).copied().collect() }
    }

    /// Encodes the picture as a PNG file.
    ///
    /// # Errors
    /// If the encoder fails, for instance because `rgb` does not have 3 * width * height bytes.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let fail =
            |reason| PictureError::Encode { format: "PNG", width: self.width, height: self.height, reason };
        let side = |pixels| u32::try_from(pixels).map_err(|_| fail("a side is over 2^32".to_owned()));
        let (width, height) = (side(self.width)?, side(self.height)?);
        if self.rgb.len() != 3 * self.width * self.height {
            return Err(fail(format!("it has {} bytes", self.rgb.len())));
        }
        let mut png = Vec::new();
        PngEncoder::new(Cursor::new(&mut png))
            .write_image(&self.rgb, width, height, ExtendedColorType::Rgb8)
            .map_err(|error| fail(error.to_string()))?;
        Ok(png)
    }

    /// Encodes the picture as a JPEG file, with chroma at half resolution, as most writers do.
    ///
    /// # Errors
    /// If the encoder fails, for instance because a side is over 65,535.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, PictureError> {
        let fail =
            |reason| PictureError::Encode { format: "JPEG", width: self.width, height: self.height, reason };
        let side = |pixels| u16::try_from(pixels).map_err(|_| fail("a side is over 65535".to_owned()));
        let mut jpeg = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder
            .encode(&self.rgb, side(self.width)?, side(self.height)?, ColorType::Rgb)
            .map_err(|error| fail(error.to_string()))?;
        Ok(jpeg)
    }

    fn from_rgb8(image: RgbImage) -> Picture {
        let (width, height) = (image.width() as usize, image.height() as usize);
        Picture { width, height, rgb: image.into_raw() }
    }
}

/// Turns `image` upright.
fn turn(mut image: DynamicImage, orientation: Orientation) -> DynamicImage {
    image.apply_orientation(orientation);
    image
}

fn name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Jpeg => "JPEG",
        FileKind::Png => "PNG",
        FileKind::WebP => "WebP",
        FileKind::Gif => "GIF",
        FileKind::Bmp => "BMP",
        FileKind::Tiff => "TIFF",
        _ => "PNM",
    }
}

#[cfg(test)]
mod tests;
