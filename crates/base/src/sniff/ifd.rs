//! TIFF, and camera raw files that are built like it.

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
    // Canon puts its own letters after the header.
    let canon = head.get(8..10) == Some(b"CR");
    Some(if canon || is_raw(head).unwrap_or(false) { Kind::CameraRaw } else { Kind::Tiff })
}

/// Whether the first directory is that of a raw file: it says so, holds the sensor's mosaic, or is
/// a thumbnail by a camera, with the picture in further directories. `None` if the directory is not
/// within `head`.
fn is_raw(head: &[u8]) -> Option<bool> {
    let (mut raw, mut thumbnail, mut made, mut parts) = (false, false, false, false);
    for entry in directory(head)? {
        match entry.tag {
            DNG_VERSION => raw = true,
            // Colour filter array, and linear raw.
            PHOTOMETRIC => raw |= matches!(entry.short, 32803 | 34892),
            NEW_SUBFILE_TYPE => thumbnail = entry.long & 1 == 1,
            MAKE => made = true,
            SUB_IFDS => parts = true,
            _ => {}
        }
    }
    Some(raw || (made && parts && thumbnail))
}

/// An entry of a TIFF directory, with its value if that is a single number of the entry's width.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The tag: the meaning of the value.
    pub tag: u16,
    /// The type of its numbers.
    pub kind: u16,
    /// The number of values.
    pub count: u32,
    /// The value as a 16-bit number.
    pub short: u16,
    /// The value as a 32-bit number.
    pub long: u32,
}

/// The entries of the first directory of a TIFF, or of an EXIF block, which is built like one. If
/// `bytes` end within the directory, the entries up to there; none if it is not within `bytes`.
pub fn directory(bytes: &[u8]) -> Option<impl Iterator<Item = Entry> + '_> {
    let big = match bytes.first_chunk::<4>()? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let short = move |at: usize| {
        let two = *bytes.get(at..)?.first_chunk()?;
        Some(if big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    };
    let long = move |at: usize| {
        let four = *bytes.get(at..)?.first_chunk()?;
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    };
    let first = long(4)? as usize;
    let count = usize::from(short(first)?);
    Some((0..count).map_while(move |entry| {
        let at = first + 2 + 12 * entry;
        let (tag, kind, count) = (short(at)?, short(at + 2)?, long(at + 4)?);
        Some(Entry { tag, kind, count, short: short(at + 8)?, long: long(at + 8)? })
    }))
}
