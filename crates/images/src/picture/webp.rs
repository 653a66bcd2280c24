//! Repairs to WebP files before `image` reads them.

use std::borrow::Cow;

use super::PictureError;

/// The offset of the flags of the VP8X chunk, after RIFF, a length, WEBP, VP8X and another length.
const FLAGS: usize = 20;
/// The flags, each with the chunk that it announces.
const PROMISES: [(u8, &[u8; 4]); 5] =
    [(0x20, b"ICCP"), (ALPHA, b"ALPH"), (0x08, b"EXIF"), (0x04, b"XMP "), (0x02, b"ANIM")];
const ALPHA: u8 = 0x10;

/// The chunks that hold pixels.
const PIXELS: [&[u8; 4]; 4] = [b"VP8 ", b"VP8L", b"ALPH", b"ANMF"];

/// The file with flags that agree with its chunks. `image` refuses a file without an announced
/// chunk, and ignores the alpha of a lossless picture if it is not announced; libwebp does neither.
///
/// # Errors
/// When a chunk of pixels is cut short, which `image` does not notice.
pub(super) fn with_true_flags(bytes: &[u8]) -> Result<Cow<'_, [u8]>, PictureError> {
    let chunks = chunks(bytes);
    if chunks.iter().any(|chunk| PIXELS.contains(&&chunk.kind) && chunk.data.len() < chunk.length) {
        return Err(PictureError::Broken { format: "WebP", reason: "it is cut short".to_owned() });
    }
    if bytes.get(12..16) != Some(b"VP8X") || bytes.len() <= FLAGS {
        return Ok(Cow::Borrowed(bytes));
    }
    let find = |kind: &[u8; 4]| chunks.iter().find(|chunk| chunk.kind == *kind).map(|chunk| chunk.data);
    let mut flags = bytes[FLAGS];
    for (flag, kind) in PROMISES {
        if find(kind).is_none() {
            flags &= !flag;
        }
    }
    // A lossless picture itself says whether it has alpha, by a bit after its signature and size.
    let lossless = find(b"VP8L").and_then(|data| data.get(4)).is_some_and(|byte| byte & 0x10 != 0);
    if lossless {
        flags |= ALPHA;
    }
    if find(b"ANMF").is_some() {
        // An animation keeps its flag, since its frames are not examined here.
        flags |= bytes[FLAGS] & ALPHA;
    }
    if flags == bytes[FLAGS] {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut bytes = bytes.to_vec();
    bytes[FLAGS] = flags;
    Ok(Cow::Owned(bytes))
}

/// Whether the first picture is lossy.
pub(super) fn is_lossy(bytes: &[u8]) -> bool {
    let chunks = chunks(bytes);
    // A frame of an animation has its own chunks, after 16 bytes.
    let inner = chunks.iter().find(|chunk| chunk.kind == *b"ANMF").and_then(|chunk| chunk.data.get(16..));
    let frame = inner.map(|inner| self::chunks(&[&[0; 12][..], inner].concat()).iter().any(is_vp8));
    frame.unwrap_or_else(|| chunks.iter().any(is_vp8))
}

fn is_vp8(chunk: &Chunk) -> bool {
    chunk.kind == *b"VP8 "
}

struct Chunk<'a> {
    kind: [u8; 4],
    /// The length that the chunk states.
    length: usize,
    /// The data, as far as the file contains them.
    data: &'a [u8],
}

fn chunks(bytes: &[u8]) -> Vec<Chunk<'_>> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    let mut chunks = Vec::new();
    while let Some((&[a, b, c, d, length @ ..], after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes(length) as usize;
        chunks.push(Chunk { kind: [a, b, c, d], length, data: &after[..length.min(after.len())] });
        // Chunks of odd length are padded.
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    chunks
}
