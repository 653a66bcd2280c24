//! JPEG through zune-jpeg, strictly unless asked otherwise: `image` decodes files that are cut short without
//! a word.

use std::borrow::Cow;

use image::{DynamicImage, RgbImage};
use pixtok_pixels::{Jpeg, decode_headers, decode_into};
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{DecodeOptions, Picture, PictureError, orientation};

/// The largest side that a JPEG header can declare.
const MAX_SIDE: usize = 65535;
/// The end-of-image marker.
const END: [u8; 2] = [0xFF, 0xD9];
/// Coded data of 64 ones. No Huffman code is all ones (ITU-T T.81, C.2), so data that stop too early run into
/// an error here, where zune-jpeg would put zeros in their place before an end marker. Whole data never get
/// here: after them it only looks ahead, by less than that.
const ONES: [u8; 16] = [0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0];

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture, PictureError> {
    let bytes = match find_end(bytes) {
        Ok(_) if options.lenient_jpeg => Cow::Borrowed(bytes),
        Ok(end) => Cow::Owned([&bytes[..end], &ONES, &END].concat()),
        // zune-jpeg does not miss the end marker in a sequential JPEG, even strictly.
        Err(_) if !options.lenient_jpeg => {
            return Err(PictureError::Truncated("no end-of-image marker".to_owned()));
        }
        // Leniently it takes coded data that stop anywhere, but no segment that does.
        Err(whole) => Cow::Owned([&bytes[..whole], &END].concat()),
    };
    let zune = DecoderOptions::default()
        .set_strict_mode(!options.lenient_jpeg)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = Jpeg::new_with_options(ZCursor::new(&*bytes), zune);
    decode_headers(&mut decoder).map_err(error)?;
    let info = decoder.info().ok_or_else(|| broken("no header".to_owned()))?;
    options.check_size(u64::from(info.width), u64::from(info.height))?;
    if !matches!(info.components, 1 | 3 | 4) {
        let words = format!("a JPEG of {} components is not supported (1, 3 or 4 are)", info.components);
        return Err(PictureError::Unsupported(words));
    }
    // Four components are taken as inverted CMYK or YCCK, as Adobe's programs write them and all others read
    // them.
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let mut rgb = RgbImage::new(width, height);
    decode_into(&mut decoder, &mut rgb).map_err(error)?;
    let mut image = DynamicImage::ImageRgb8(rgb);
    if let Some(exif) = &info.exif_data {
        image.apply_orientation(orientation(exif));
    }
    Ok(Picture::from_rgb8(image.into_rgb8()))
}

fn broken(reason: String) -> PictureError {
    PictureError::Broken { format: "JPEG", reason }
}

fn error(error: DecodeErrors) -> PictureError {
    match error {
        DecodeErrors::ExhaustedData => PictureError::Truncated("the data end too early".to_owned()),
        // The Display form is the Debug form, with the variant's name around the words.
        DecodeErrors::Format(words) => broken(words),
        DecodeErrors::FormatStatic(words) => broken(words.to_owned()),
        other => broken(format!("{other:?}")),
    }
}

/// Follows the markers from the start of the image to its end marker. Walking them passes over thumbnails,
/// which have end markers of their own; what follows the end marker does not matter. Returns the number of
/// bytes before the end marker. The error is the number of bytes before the segment that is cut short, all of
/// them if that happens in coded data.
fn find_end(bytes: &[u8]) -> Result<usize, usize> {
    let (mut at, mut segment) = (2, 2);
    loop {
        // The next marker: 0xFF, any number of 0xFF to fill, then a byte that is neither 0xFF nor the 0x00
        // that stands for a literal 0xFF in the coded data.
        let rest = bytes.get(at..).ok_or(segment)?;
        at += memchr::memchr(0xFF, rest).ok_or(bytes.len())?;
        segment = at;
        at += 1;
        match bytes.get(at).ok_or(segment)? {
            0xFF => {}
            // End of image.
            0xD9 => return Ok(segment),
            // Literal 0xFF, TEM, restart markers, start of image: nothing follows that could be skipped.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 1,
            // A segment with its length. After a start of scan the coded data follow, in which the search for
            // the next marker goes on.
            _ => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else { return Err(segment) };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_marker_is_found_in_its_place_only() {
        let whole = [
            0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 2, 7, 0xFF, 0, 0xFF, 0xD0, 9, 0xFF, 0xD9,
        ];
        let end = Ok(18);
        assert_eq!(find_end(&whole), end);
        assert_eq!(find_end(&[&whole[..], b"trailing"].concat()), end);
        let whole_before: Vec<usize> =
            (2..whole.len()).map(|length| find_end(&whole[..length]).unwrap_err()).collect();
        assert_eq!(whole_before, [2, 2, 2, 2, 2, 2, 8, 8, 8, 8, 12, 13, 13, 15, 15, 17, 18, 18]);
    }
}
