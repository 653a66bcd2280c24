//! The layout of a JPEG file: its segments, found by walking from marker to marker (ITU-T T.81,
//! annex B). Also writes the same file without the parts that confuse decoders.

use std::ops::Range;

use crate::picture::PictureError;
use pixtok_base::sniff::Kind;

use super::standard_tables::STANDARD_TABLES;
use super::walk::Walk;
use super::{broken, unsupported};

/// Coded data of 64 ones. No Huffman code consists of ones only (T.81, C.2). So a decoder whose
/// data end too early meets an error here, whereas before a marker it would fill in zeros. With
/// complete data no decoder gets here, because it looks ahead by fewer bits.
const ONES: [u8; 16] = [0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0];
const START: [u8; 2] = [0xFF, 0xD8];
const END_MARKER: u8 = 0xD9;
const END: [u8; 2] = [0xFF, END_MARKER];

/// A component of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Component {
    pub id: u8,
    /// Horizontal and vertical sampling factor.
    pub sampling: (u8, u8),
}

/// The content of a frame header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub progressive: bool,
    pub width: u16,
    /// The height, from the DNL segment if the frame header states none.
    pub height: u16,
    pub components: Vec<Component>,
}

/// How the values of the components are converted to colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::picture) enum Colours {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// A piece of the file that a decoder needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Tables or a restart interval.
    Tables(Range<usize>),
    /// The frame header.
    Frame(Range<usize>),
    /// A scan header, its coded data, and its components by number.
    Scan { header: Range<usize>, data: Range<usize>, components: Vec<usize> },
}

impl Piece {
    fn is_scan(&self) -> bool {
        matches!(self, Self::Scan { .. })
    }
}

/// The segments found so far.
#[derive(Default)]
struct Found<'a> {
    pieces: Vec<Piece>,
    frame: Option<Frame>,
    /// The height of the first DNL segment.
    lines: Option<u16>,
    exif: Option<&'a [u8]>,
    jfif: bool,
    /// The transform of the last Adobe segment.
    adobe: Option<u8>,
    has_huffman: bool,
}

impl<'a> Found<'a> {
    fn take(&mut self, marker: u8, segment: Range<usize>, walk: &mut Walk<'a>) -> Result<(), PictureError> {
        let content = walk.bytes.get(segment.start + 4..segment.end).unwrap_or_default();
        // Segments that describe the whole picture come before its first scan.
        let said = !self.pieces.iter().any(Piece::is_scan);
        match marker {
            // Huffman tables, quantization tables, restart interval.
            0xC4 | 0xDB | 0xDD => {
                self.has_huffman |= marker == 0xC4;
                self.pieces.push(Piece::Tables(segment));
            }
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => {
                if self.frame.replace(read_frame(marker, content)?).is_some() {
                    return Err(broken("it has two frame headers"));
                }
                self.pieces.push(Piece::Frame(segment));
            }
            0xDA => {
                let frame =
                    self.frame.as_ref().ok_or_else(|| broken("a scan stands before the frame header"))?;
                let components = scan_components(content, frame)?;
                self.pieces.push(Piece::Scan { header: segment, data: walk.coded_data(), components });
            }
            0xDC => self.lines = self.lines.or(content.first_chunk().map(|lines| u16::from_be_bytes(*lines))),
            0xE0 if said => self.jfif |= content.starts_with(b"JFIF\0"),
            0xE1 if said => self.exif = self.exif.or(content.strip_prefix(b"Exif\0\0")),
            0xEE if said && content.starts_with(b"Adobe") => {
                self.adobe = content.get(11).copied().or(self.adobe)
            }
            _ => {}
        }
        Ok(())
    }
}

/// The height from the frame header. Zero there leaves it to a DNL segment; otherwise the two must
/// agree.
fn height(stated: u16, lines: Option<u16>) -> Result<u16, PictureError> {
    match (stated, lines) {
        (0, None) => Err(unsupported("a JPEG that does not state its height")),
        (0, Some(lines)) => Ok(lines),
        (height, Some(lines)) if height != lines => {
            Err(broken(&format!("its frame header says {height} lines, its DNL segment {lines}")))
        }
        (height, _) => Ok(height),
    }
}

/// The layout of a whole file.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    bytes: &'a [u8],
    pieces: Vec<Piece>,
    pub frame: Frame,
    pub colours: Colours,
    /// The content of the first EXIF segment.
    pub exif: Option<&'a [u8]>,
    /// Whether the file has any Huffman table.
    has_huffman: bool,
    /// Whether the file has its end marker.
    pub whole: bool,
}

impl<'a> Layout<'a> {
    /// Walks through `bytes` up to the end marker, or as far as they go.
    ///
    /// # Errors
    /// When there is no frame or no scan, or no decoder here reads the kind of frame.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, PictureError> {
        let mut walk = Walk { bytes, at: START.len() };
        let mut found = Found::default();
        let whole = loop {
            match walk.next()? {
                Some((END_MARKER, _)) => break true,
                Some((marker, segment)) => found.take(marker, segment, &mut walk)?,
                None => break false,
            }
        };
        let missing = |what: &str| {
            broken(&if whole {
                format!("it has no {what}")
            } else {
                format!("it is cut short before its {what}")
            })
        };
        let mut frame = found.frame.ok_or_else(|| missing("frame header"))?;
        if !found.pieces.iter().any(Piece::is_scan) {
            return Err(missing("first scan"));
        }
        frame.height = height(frame.height, found.lines)?;
        if frame.width == 0 || frame.height == 0 {
            return Err(broken(&format!("{}x{} pixels", frame.width, frame.height)));
        }
        let colours = colours(&frame.components, found.jfif, found.adobe);
        let (pieces, exif, has_huffman) = (found.pieces, found.exif, found.has_huffman);
        Ok(Self { bytes, pieces, frame, colours, exif, has_huffman, whole })
    }

    fn scans(&self) -> impl Iterator<Item = &[usize]> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Scan { components, .. } => Some(components.as_slice()),
            _ => None,
        })
    }

    /// Whether the first scan has all components, in the frame's order. In a sequential JPEG it
    /// must be the only scan.
    pub(super) fn is_interleaved(&self) -> bool {
        let in_order = |scan: &[usize]| scan.iter().copied().eq(0..self.frame.components.len());
        self.scans().next().is_some_and(in_order) && (self.frame.progressive || self.scans().count() == 1)
    }

    /// Whether scans of a single component have as many blocks as jpeg-decoder expects. It rounds
    /// the picture's size up to whole interleaved units, while the standard rounds the component's
    /// own size up to whole blocks (T.81, A.2.2). The two differ for components whose size is
    /// neither the largest nor the smallest.
    pub(super) fn has_whole_blocks(&self) -> bool {
        let single = self.frame.progressive || self.scans().any(|scan| scan.len() == 1);
        let blocks = |side: u16, own: u8, of: fn(&Component) -> u8| {
            let (side, own) = (u32::from(side), u32::from(own));
            let largest = u32::from(self.frame.components.iter().map(of).max().unwrap_or(1));
            let expected = (own * side.div_ceil(8 * largest)).min(side.div_ceil(8));
            (expected, (side * own).div_ceil(largest).div_ceil(8))
        };
        let equal = |(expected, right): (u32, u32)| expected == right;
        !single
            || self.frame.components.iter().all(|component| {
                equal(blocks(self.frame.width, component.sampling.0, |other| other.sampling.0))
                    && equal(blocks(self.frame.height, component.sampling.1, |other| other.sampling.1))
            })
    }

    /// Whether each component occurs in a scan.
    pub(super) fn has_every_component(&self) -> bool {
        (0..self.frame.components.len()).all(|component| self.scans().any(|scan| scan.contains(&component)))
    }

    /// The file reduced to what decoding needs: without bytes between segments and without
    /// metadata, with the height in the frame header, and with the standard's tables if the file
    /// has none. If `strict`, the coded data of each scan (or only of the last one, if not
    /// `every_scan`) end in ones.
    pub(super) fn plain(&self, strict: bool, every_scan: bool) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.bytes.len() + 1024);
        plain.extend(START);
        if !self.has_huffman {
            plain.extend(STANDARD_TABLES);
        }
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Tables(range) => plain.extend(&self.bytes[range.clone()]),
                Piece::Frame(range) => {
                    let start = plain.len();
                    plain.extend(&self.bytes[range.clone()]);
                    plain[start + 5..start + 7].copy_from_slice(&self.frame.height.to_be_bytes());
                    if self.frame.components.len() == 1 {
                        // The sampling of a single component has no meaning (T.81, A.2.2).
                        plain[start + 11] = 0x11;
                    }
                }
                Piece::Scan { header, data, .. } => {
                    plain.extend(&self.bytes[header.clone()]);
                    plain.extend(&self.bytes[data.clone()]);
                    if strict && (every_scan || index + 1 == self.pieces.len()) {
                        plain.extend(ONES);
                    }
                }
            }
        }
        plain.extend(END);
        plain
    }
}

fn read_frame(marker: u8, content: &[u8]) -> Result<Frame, PictureError> {
    match marker {
        0xC0..=0xC2 => {}
        0xC3 => return Err(unsupported("a lossless JPEG")),
        0xC9..=0xCB => return Err(unsupported("a JPEG in arithmetic coding")),
        0xF7 => return Err(PictureError::NoImage(Kind::JpegLs)),
        _ => return Err(unsupported("a hierarchical JPEG")),
    }
    let &[precision, h1, h2, w1, w2, count, ref rest @ ..] = content else {
        return Err(broken("its frame header is too short"));
    };
    if precision != 8 {
        return Err(unsupported(&format!("a JPEG of {precision} bits a sample")));
    }
    if !matches!(count, 1 | 3 | 4) {
        return Err(unsupported(&format!("a JPEG of {count} components")));
    }
    let components: Vec<Component> = rest
        .as_chunks::<3>()
        .0
        .iter()
        .map(|&[id, factors, _]| Component { id, sampling: (factors >> 4, factors & 15) })
        .collect();
    let in_range = |factor| (1..=4).contains(&factor);
    if components.len() != usize::from(count)
        || !components
            .iter()
            .all(|component| in_range(component.sampling.0) && in_range(component.sampling.1))
    {
        return Err(broken("its frame header makes no sense"));
    }
    let (width, height) = (u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2]));
    Ok(Frame { progressive: marker == 0xC2, width, height, components })
}

/// The components of a scan, by their index in the frame.
fn scan_components(content: &[u8], frame: &Frame) -> Result<Vec<usize>, PictureError> {
    let nonsense = || broken("a scan header makes no sense");
    let (&count, rest) = content.split_first().ok_or_else(nonsense)?;
    let entries = rest.get(..2 * usize::from(count)).ok_or_else(nonsense)?.as_chunks::<2>().0;
    let number =
        |id: u8| frame.components.iter().position(|component| component.id == id).ok_or_else(nonsense);
    let numbers = entries.iter().map(|&[id, _]| number(id)).collect::<Result<Vec<_>, _>>()?;
    if numbers.is_empty() { Err(nonsense()) } else { Ok(numbers) }
}

/// The colours, decided as libjpeg does: JFIF means YCbCr; otherwise Adobe's segment decides,
/// otherwise the components' names; otherwise YCbCr.
fn colours(components: &[Component], jfif: bool, adobe: Option<u8>) -> Colours {
    let ids: Vec<u8> = components.iter().map(|component| component.id).collect();
    match (ids.as_slice(), adobe) {
        ([_], _) => Colours::Grey,
        ([_, _, _], _) if jfif => Colours::YCbCr,
        ([_, _, _], Some(0)) | (b"RGB", None) => Colours::Rgb,
        ([_, _, _], _) => Colours::YCbCr,
        (_, None | Some(0)) => Colours::Cmyk,
        _ => Colours::Ycck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 12] = [0xFF, 0xC0, 0, 11, 8, 0, 5, 0, 7, 1, 1, 0x22];

    fn file(pieces: &[&[u8]]) -> Vec<u8> {
        pieces.concat()
    }

    #[test]
    fn what_decoding_needs_is_kept_and_nothing_else() {
        let frame = [&FRAME[..], &[0]].concat();
        let tables = [0xFF, 0xC4, 0, 3, 9];
        let scan = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0];
        let data = [7, 0xFF, 0, 0xFF, 0xD0, 9];
        let odd = file(&[
            &START,
            &[0xFF, 0xE1, 0, 12, b'E', b'x', b'i', b'f', 0, 0, 0xFF, 0xD9, 1, 2],
            b"text",
            &[0xFF, 0xFF],
            &frame,
            &tables,
            &scan,
            &data,
            &[0xFF, 0xFF, 0xDC, 0, 4, 0, 5],
            &END,
            b"after",
        ]);
        let layout = Layout::read(&odd).unwrap();
        assert_eq!(layout.exif, Some(&[0xFF, 0xD9, 1, 2][..]));
        assert!(layout.whole && layout.is_interleaved() && layout.has_every_component());
        assert_eq!((layout.frame.width, layout.frame.height, layout.colours), (7, 5, Colours::Grey));
        let mut plain_frame = frame.clone();
        plain_frame[11] = 0x11;
        assert_eq!(layout.plain(false, false), file(&[&START, &plain_frame, &tables, &scan, &data, &END]));
        assert_eq!(
            layout.plain(true, false),
            file(&[&START, &plain_frame, &tables, &scan, &data, &ONES, &END])
        );
    }

    #[test]
    fn heights_agree_or_are_refused() {
        let scan = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 1];
        let with = |height: u8, lines: &[u8]| {
            let mut frame = [&FRAME[..], &[0]].concat();
            frame[6] = height;
            file(&[&START, &frame, &scan, lines, &END])
        };
        let lines = [0xFF, 0xDC, 0, 4, 0, 5];
        let bytes = with(0, &lines);
        let layout = Layout::read(&bytes).unwrap();
        assert_eq!(layout.frame.height, 5);
        // The file has no tables, so the standard's are added.
        let plain = layout.plain(false, false);
        assert_eq!(plain[2..4], [0xFF, 0xC4]);
        assert_eq!(plain[2 + STANDARD_TABLES.len()..][..7], [0xFF, 0xC0, 0, 11, 8, 0, 5]);
        for (bytes, part) in [(with(0, &[]), "height"), (with(6, &lines), "6 lines, its DNL segment 5")] {
            let message = Layout::read(&bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn colours_are_decided_as_in_libjpeg() {
        let named = |ids: &[u8]| ids.iter().map(|&id| Component { id, sampling: (1, 1) }).collect::<Vec<_>>();
        for (ids, jfif, adobe, expected) in [
            (&b"\x01\x02\x03"[..], false, None, Colours::YCbCr),
            (b"\x01\x02\x03", false, Some(0), Colours::Rgb),
            (b"\x01\x02\x03", true, Some(0), Colours::YCbCr),
            (b"RGB", false, None, Colours::Rgb),
            (b"RGB", false, Some(1), Colours::YCbCr),
            (b"RGB", true, None, Colours::YCbCr),
            (b"rgb", false, None, Colours::YCbCr),
            (b"\x01", false, Some(0), Colours::Grey),
            (b"CMYK", false, None, Colours::Cmyk),
            (b"CMYK", false, Some(0), Colours::Cmyk),
            (b"CMYK", true, Some(2), Colours::Ycck),
        ] {
            assert_eq!(colours(&named(ids), jfif, adobe), expected, "{ids:?} {jfif} {adobe:?}");
        }
    }
}
