//! Repairs to PNG files before `image` reads them, and whether they have a palette.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;

use super::PictureError;
use super::exif::orientation;
use super::size::{Stored, upright};

const SIGNATURE: usize = 8;
/// The bytes of a chunk besides its data: length, kind, checksum.
const CHUNK: u64 = 12;
/// The last chunk: length 0, its kind, its checksum.
const IEND: [u8; 12] = *b"\0\0\0\0IEND\xAE\x42\x60\x82";
/// The names under which ImageMagick stores an EXIF block as text.
const PROFILES: [&[u8]; 2] = [b"Raw profile type exif", b"Raw profile type APP1"];
/// A limit on the hexadecimal text, above what any EXIF block in a JPEG needs.
const MAX_PROFILE: u64 = 1 << 18;

/// The offset of the colour type, after the signature, the length and kind of the first chunk,
/// width, height and depth.
const COLOUR_TYPE: usize = 25;
/// The colour type of pixels that are indices into a palette.
const INDEXED: u8 = 3;

/// Whether the pixels are indices into a palette.
pub(super) fn has_palette(bytes: &[u8]) -> bool {
    bytes.get(COLOUR_TYPE) == Some(&INDEXED)
}

/// The chunks that may hold an EXIF block, and the one that states the size.
const READ: [&[u8; 4]; 5] = [b"IHDR", b"eXIf", b"tEXt", b"zTXt", b"iTXt"];

/// Width and height of the picture once it is upright. The pixels are not read.
///
/// # Errors
/// If the file cannot be read, or has no size.
pub(super) fn size_of(stored: &Stored) -> Result<(usize, usize), PictureError> {
    let bytes = without_pixels(stored)?;
    let size = size(&bytes).ok_or_else(|| PictureError::Broken {
        format: "PNG",
        reason: "its header states no size".to_owned(),
    })?;
    let turned = exif(&bytes).map_or(Orientation::NoTransforms, |block| orientation(&block));
    Ok(upright(size, turned))
}

/// The signature and the chunks that are [`READ`], as far as the file has them whole.
fn without_pixels(stored: &Stored) -> Result<Vec<u8>, PictureError> {
    let mut bytes = vec![0; SIGNATURE.min(stored.length as usize)];
    (stored.read)(0, &mut bytes)?;
    let mut at = SIGNATURE as u64;
    while at + CHUNK <= stored.length {
        let mut head = [0; 8];
        (stored.read)(at, &mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let length = CHUNK + u64::from(u32::from_be_bytes([a, b, c, d]));
        if &kind == b"IEND" || at + length > stored.length {
            break;
        }
        if READ.contains(&&kind) {
            let start = bytes.len();
            bytes.resize(start + length as usize, 0);
            (stored.read)(at, &mut bytes[start..])?;
        }
        at += length;
    }
    Ok(bytes)
}

/// Width and height, from the beginning of a PNG; `None` for anything else.
fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let after = bytes.strip_prefix(b"\x89PNG\r\n\x1A\n")?.get(4..)?.strip_prefix(b"IHDR")?;
    let (width, after) = after.split_first_chunk::<4>()?;
    let (height, _) = after.split_first_chunk::<4>()?;
    let [width, height] = [width, height].map(|side| u32::from_be_bytes(*side));
    (width.min(height) > 0).then_some((width, height))
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

/// The chunks up to IEND, and the bytes after the last chunk found. If the file is cut short, there
/// is no IEND.
fn chunks(bytes: &[u8]) -> (Vec<Chunk<'_>>, &[u8]) {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    let mut chunks = Vec::new();
    while let Some((chunk, after)) = first_chunk(rest) {
        let last = chunk.kind == *b"IEND";
        chunks.push(chunk);
        rest = after;
        if last {
            break;
        }
    }
    (chunks, rest)
}

fn first_chunk(bytes: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let (length, after) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let (kind, after) = after.split_first_chunk::<4>()?;
    // The chunk's checksum follows its data.
    let rest = after.get(length.checked_add(4)?..)?;
    let named = kind.iter().all(u8::is_ascii_alphabetic);
    named.then_some((Chunk { kind: *kind, data: &after[..length] }, rest))
}

/// The file, with the last chunk (IEND) added if it is missing: that chunk holds no data. The
/// decoder detects missing pixels.
///
/// # Errors
/// If the file is in Apple's variant for iOS, which is not PNG.
pub(super) fn with_end(bytes: &[u8]) -> Result<Cow<'_, [u8]>, PictureError> {
    let (chunks, rest) = chunks(bytes);
    if chunks.first().is_some_and(|chunk| chunk.kind == *b"CgBI") {
        let words = "a PNG that was optimised for iOS (CgBI) is not supported; save it as a plain PNG";
        return Err(PictureError::Unsupported(words.to_owned()));
    }
    let ended = chunks.last().is_some_and(|chunk| chunk.kind == *b"IEND");
    let has_pixels = chunks.iter().any(|chunk| chunk.kind == *b"IDAT");
    if ended || !has_pixels {
        return Ok(Cow::Borrowed(bytes));
    }
    Ok(Cow::Owned([&bytes[..bytes.len() - rest.len()], &IEND].concat()))
}

/// The first EXIF block, from an eXIf chunk, otherwise from ImageMagick's text. The standard allows
/// an eXIf chunk after the pixels, where `image` does not look.
pub(super) fn exif(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (chunks, _) = chunks(bytes);
    if let Some(chunk) = chunks.iter().find(|chunk| chunk.kind == *b"eXIf") {
        return Some(Cow::Borrowed(chunk.data));
    }
    chunks.iter().find_map(raw_profile).map(Cow::Owned)
}

/// The content of a text chunk in which ImageMagick stores an EXIF block: a line with its kind, a
/// line with its length, and the bytes as hexadecimal digits.
fn raw_profile(chunk: &Chunk) -> Option<Vec<u8>> {
    let end = chunk.data.iter().position(|byte| *byte == 0)?;
    let (name, after) = (&chunk.data[..end], &chunk.data[end + 1..]);
    if !PROFILES.contains(&name) {
        return None;
    }
    let text = match &chunk.kind {
        b"tEXt" => after.to_vec(),
        // The first byte is the compression method; only one exists.
        b"zTXt" => inflated(after.get(1..)?)?,
        // A compression flag and the method, then a language and a translated name, each ended by a
        // zero.
        b"iTXt" => {
            let (&[compressed, _], rest) = after.split_first_chunk::<2>()?;
            let mut parts = rest.splitn(3, |byte| *byte == 0);
            let text = parts.nth(2)?;
            if compressed == 1 { inflated(text)? } else { text.to_vec() }
        }
        _ => return None,
    };
    let text = String::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let length: usize = words.nth(1)?.parse().ok()?;
    let digits: Vec<u8> = words.flat_map(str::bytes).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes =
        digits.as_chunks::<2>().0.iter().map(|&[high, low]| Some((digit(high)? * 16 + digit(low)?) as u8));
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    (bytes.len() >= length).then_some(bytes)
}

fn inflated(data: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(data).take(MAX_PROFILE).read_to_end(&mut text).ok()?;
    Some(text)
}
