//! TIFF, and the raw files of cameras that have its form.

use super::Kind;

const NEW_SUBFILE_TYPE: u16 = 254;
const PHOTOMETRIC: u16 = 262;
const MAKE: u16 = 271;
const SUB_IFDS: u16 = 330;
const DNG_VERSION: u16 = 50706;

pub(super) fn kind(head: &[u8]) -> Option<Kind> {
    match head.first_chunk::<4>()? {
        b"II*\0" | b"MM\0*" => {}
        b"II+\0" | b"MM\0+" => return Some(Kind::Tiff),
        // Olympus and Panasonic changed the signature.
        b"IIRO" | b"IIRS" | b"MMOR" | b"IIU\0" => return Some(Kind::CameraRaw),
        b"II\xBC\0" | b"II\xBC\x01" => return Some(Kind::JpegXr),
        _ => return None,
    }
    // Canon writes its own letters behind the header.
    let canon = head.get(8..10) == Some(b"CR");
    Some(if canon || is_raw(head).unwrap_or(false) { Kind::CameraRaw } else { Kind::Tiff })
}

/// Whether the first directory is a raw file's: it says so, holds the sensor's mosaic, or is a camera's thumbnail
/// of what lies in further directories. `None` where it does not lie in `head`.
fn is_raw(head: &[u8]) -> Option<bool> {
    let big = head[0] == b'M';
    let short = |at: usize| {
        let two = *head.get(at..)?.first_chunk()?;
        Some(if big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    };
    let long = |at: usize| {
        let four = *head.get(at..)?.first_chunk()?;
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    };
    let first = long(4)? as usize;
    let (mut dng, mut mosaic, mut thumbnail, mut made, mut parts) = (false, false, false, false, false);
    for entry in 0..usize::from(short(first)?) {
        let at = first.checked_add(2 + 12 * entry)?;
        match short(at)? {
            DNG_VERSION => dng = true,
            // Colour filter array, and linear raw.
            PHOTOMETRIC => mosaic = matches!(short(at + 8)?, 32803 | 34892),
            NEW_SUBFILE_TYPE => thumbnail = long(at + 8)? & 1 == 1,
            MAKE => made = true,
            SUB_IFDS => parts = true,
            _ => {}
        }
    }
    Some(dng || mosaic || (made && parts && thumbnail))
}
