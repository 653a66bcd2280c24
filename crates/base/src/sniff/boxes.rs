//! Kinds made of ISO boxes: a length, four letters, content (ISO/IEC 14496-12).

use super::Kind;

pub(super) fn kind(head: &[u8]) -> Option<Kind> {
    if head.starts_with(b"\0\0\0\x0CJXL \r\n\x87\n") {
        return Some(Kind::JpegXl);
    }
    if head.starts_with(b"\0\0\0\x0CjP  \r\n\x87\n") {
        return Some(Kind::Jpeg2000);
    }
    let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
    match head.get(4..8)? {
        b"ftyp" => {
            let brands = &head[8..head.len().min(length.max(12))];
            Some(of_brands(brands.as_chunks().0))
        }
        // QuickTime files from before brands existed. The length distinguishes them from text that
        // contains such a word.
        b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"pnot"
            if matches!(length, 0 | 1 | 8..0x2000_0000) =>
        {
            Some(Kind::QuickTime)
        }
        _ => None,
    }
}

/// The kind by the major brand. If that only says "pictures", the compatible brands decide, which
/// follow the version.
fn of_brands(brands: &[[u8; 4]]) -> Kind {
    let Some(major) = brands.first() else { return Kind::Mp4 };
    let compatible = brands.get(2..).unwrap_or_default();
    of_brand(major).unwrap_or_else(|| match major {
        b"mif1" | b"mif2" | b"msf1" | b"miaf" => compatible.iter().find_map(of_brand).unwrap_or(Kind::Heif),
        b"qt  " => Kind::QuickTime,
        b"M4A " | b"M4B " | b"M4P " => Kind::Audio,
        _ => Kind::Mp4,
    })
}

/// The kind for a brand that names a coding of pictures.
fn of_brand(brand: &[u8; 4]) -> Option<Kind> {
    match brand {
        b"avif" | b"avis" => Some(Kind::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => Some(Kind::Heic),
        b"jpeg" | b"jpgs" | b"j2ki" | b"j2is" | b"avci" | b"avcs" | b"vvic" | b"vvis" | b"evbi" | b"unif" => {
            Some(Kind::Heif)
        }
        b"crx " => Some(Kind::CameraRaw),
        b"jp2 " | b"jpx " | b"jpm " => Some(Kind::Jpeg2000),
        b"jxl " => Some(Kind::JpegXl),
        _ => None,
    }
}
