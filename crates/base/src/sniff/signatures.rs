//! Kinds with a fixed signature.

use super::Kind;

/// Signatures at the start.
const AT_START: &[(&[u8], Kind)] = &[
    (b"\x89PNG\r\n\x1a\n", Kind::Png),
    (b"GIF87a", Kind::Gif),
    (b"GIF89a", Kind::Gif),
    (b"\xFF\x0A", Kind::JpegXl),
    (b"\xFF\x4F\xFF\x51", Kind::Jpeg2000),
    (b"8BPS", Kind::Psd),
    (b"gimp xcf", Kind::Xcf),
    (b"FUJIFILMCCD-RAW", Kind::CameraRaw),
    (b"\0MRM", Kind::CameraRaw),
    (b"FOVb", Kind::CameraRaw),
    (b"icns", Kind::Icns),
    (b"\x76\x2F\x31\x01", Kind::Exr),
    (b"#?RADIANCE", Kind::Hdr),
    (b"#?RGBE", Kind::Hdr),
    (b"PF\n", Kind::Pfm),
    (b"Pf\n", Kind::Pfm),
    (b"DDS \x7C", Kind::Dds),
    (b"qoif", Kind::Qoi),
    (b"farbfeld", Kind::Farbfeld),
    (b"\x8AMNG", Kind::Mng),
    (b"\x8BJNG", Kind::Mng),
    (b"AT&TFORM", Kind::Djvu),
    (b"SIMPLE  =", Kind::Fits),
    (b"\xD7\xCD\xC6\x9A", Kind::Metafile),
    (b"%!PS", Kind::PostScript),
    (b"\xC5\xD0\xD3\xC6", Kind::PostScript),
    (b"\0\x05\x16\x07", Kind::AppleDouble),
    (b"\0\x05\x16\0", Kind::AppleDouble),
    (b"\0\0\0\x01Bud1", Kind::DsStore),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", Kind::Ole),
    (b"\x1A\x45\xDF\xA3", Kind::Matroska),
    (b"FLV\x01", Kind::Video),
    (b"\0\0\x01\xBA", Kind::Video),
    (b"\0\0\x01\xB3", Kind::Video),
    (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", Kind::Video),
    (b"OggS", Kind::Audio),
    (b"fLaC", Kind::Audio),
    (b"ID3\x02", Kind::Audio),
    (b"ID3\x03", Kind::Audio),
    (b"ID3\x04", Kind::Audio),
    (b"\x1F\x8B", Kind::Gzip),
    (b"\x28\xB5\x2F\xFD", Kind::Zstd),
    (b"\xFD7zXZ\0", Kind::Xz),
    (b"\x04\x22\x4D\x18", Kind::Lz4),
    (b"7z\xBC\xAF\x27\x1C", Kind::SevenZip),
    (b"Rar!\x1A\x07", Kind::Rar),
    (b"PAR1", Kind::Parquet),
    (b"PARE", Kind::Parquet),
    (b"ARROW1", Kind::Arrow),
    (b"\x93NUMPY", Kind::Numpy),
    (b"\x89HDF\r\n\x1a\n", Kind::Hdf5),
    (b"GGUF", Kind::Gguf),
    (b"SQLite format 3\0", Kind::Sqlite),
    (b"\x7FELF", Kind::Program),
];

/// The content of a RIFF file, by the word at byte 8.
const RIFF: &[(&[u8], Kind)] = &[(b"WEBP", Kind::WebP), (b"AVI ", Kind::Avi), (b"WAVE", Kind::Audio)];

/// The header sizes that a BMP may declare. They distinguish it from text that begins with the same
/// two letters.
const BMP_HEADERS: [u32; 8] = [12, 16, 40, 52, 56, 64, 108, 124];

pub(super) fn kind(head: &[u8]) -> Option<Kind> {
    // The most common kinds come first.
    if head.starts_with(b"\xFF\xD8\xFF") {
        return Some(if is_jpeg_ls(head) { Kind::JpegLs } else { Kind::Jpeg });
    }
    if let Some(&(_, kind)) = AT_START.iter().find(|(signature, _)| head.starts_with(signature)) {
        return Some(kind);
    }
    let at =
        |offset: usize, signature: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(signature));
    let short = |offset| head.get(offset..offset + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let word = |offset| Some(u32::from_le_bytes(*head.get(offset..)?.first_chunk()?));
    if head.starts_with(b"RIFF") {
        return RIFF.iter().find(|(name, _)| at(8, name)).map(|&(_, kind)| kind);
    }
    if head.starts_with(b"BM") && word(14).is_none_or(|size| BMP_HEADERS.contains(&size)) {
        return Some(Kind::Bmp);
    }
    if let [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] = head {
        return Some(Kind::Pnm);
    }
    if let ([0, 0, kind @ (1 | 2), 0, ..], Some(1..=1024), Some(0)) = (head, short(4), head.get(9).copied()) {
        return Some(if *kind == 1 { Kind::Ico } else { Kind::Cursor });
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(zip_kind(head));
    }
    if head.starts_with(b"BZh") && (at(4, b"\x31\x41\x59\x26\x53\x59") || at(4, b"\x17\x72\x45\x38\x50\x90"))
    {
        return Some(Kind::Bzip2);
    }
    if at(257, b"ustar") || has_tar_checksum(head) {
        return Some(Kind::Tar);
    }
    if at(128, b"DICM") {
        return Some(Kind::Dicom);
    }
    if word(0) == Some(1) && at(40, b" EMF") {
        return Some(Kind::Metafile);
    }
    // A Windows program points to its second header.
    if head.starts_with(b"MZ") && word(60).is_some_and(|offset| at(offset as usize, b"PE\0\0")) {
        return Some(Kind::Program);
    }
    // Packets of an MPEG transport stream.
    if [0, 188, 376, 564].iter().all(|packet| head.get(*packet) == Some(&0x47)) {
        return Some(Kind::Video);
    }
    if let [0x80, 2..=5, ..] = head {
        return Some(Kind::Pickle);
    }
    // The length of a JSON header, then the header.
    let header_bytes = head.first_chunk().map(|length| u64::from_le_bytes(*length));
    let inside = head.get(8..).and_then(|json| json.strip_prefix(b"{")).map(<[u8]>::trim_ascii_start);
    if header_bytes.is_some_and(|length| (2..=100 << 20).contains(&length))
        && inside.is_some_and(|json| json.starts_with(b"\"") || json.starts_with(b"}"))
    {
        return Some(Kind::Safetensors);
    }
    // A PDF may begin within the first kilobyte.
    let early = &head[..head.len().min(1024)];
    if early.windows(5).any(|window| window == b"%PDF-") {
        return Some(Kind::Pdf);
    }
    head.iter().all(|byte| *byte == 0).then_some(Kind::Zeros)
}

/// Whether the first frame header of a JPEG stream, if it is within `head`, is that of JPEG-LS
/// (ITU-T T.87).
fn is_jpeg_ls(head: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xFF, marker]) = head.get(at..at + 2) {
        match marker {
            0xF7 => return true,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xDA => return false,
            0xFF => at += 1,
            0x01 | 0xD0..=0xD9 => at += 2,
            _ => {
                let Some(length) = head.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
    false
}

/// The content of a zip archive, by the name of its first file.
fn zip_kind(head: &[u8]) -> Kind {
    let length = head.get(26..28).map_or(0, |two| usize::from(u16::from_le_bytes([two[0], two[1]])));
    let name = head.get(30..30 + length).unwrap_or_default();
    match name {
        _ if name.ends_with(b"/data.pkl") || name.ends_with(b"/version") => Kind::TorchZip,
        _ if name.ends_with(b".npy") => Kind::NumpyZip,
        b"[Content_Types].xml" | b"mimetype" => Kind::Office,
        _ => Kind::Zip,
    }
}

/// Whether the head is a tar's first header without the word `ustar`, judged by the checksum in
/// octal.
fn has_tar_checksum(head: &[u8]) -> bool {
    let Some(header) = head.first_chunk::<512>() else { return false };
    let stated = str::from_utf8(&header[148..156]).unwrap_or_default();
    let stated = u32::from_str_radix(stated.trim_matches(['\0', ' ']), 8);
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    header[0] != 0 && stated == Ok(sum(&header[..148]) + 8 * u32::from(b' ') + sum(&header[156..]))
}
