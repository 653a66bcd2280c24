//! Walking from marker to marker through a JPEG file (ITU-T T.81, B.1.1).

use std::ops::Range;

use super::broken;
use crate::picture::PictureError;

/// A position in the file that moves from marker to marker.
pub(super) struct Walk<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Walk<'_> {
    /// The next marker and the range of its segment, starting at the marker; none if the bytes end
    /// before or inside it. Skips bytes between segments. Thumbnails lie inside segments, so their
    /// markers are not seen.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Range<usize>)>, PictureError> {
        loop {
            let Some(start) = self.next_marker() else { return Ok(None) };
            let marker = self.bytes[start + 1];
            match marker {
                0xD9 => return Ok(Some((marker, start..start + 2))),
                // TEM, restart markers, start of image: these have no segment to skip.
                0x01 | 0xD0..=0xD8 => self.at = start + 2,
                _ => {
                    let Some(&[high, low]) = self.bytes.get(start + 2..start + 4) else { return Ok(None) };
                    let length = u16::from_be_bytes([high, low]);
                    if length < 2 {
                        return Err(broken(&format!(
                            "a segment (marker {marker:02X}) claims a length of {length} bytes"
                        )));
                    }
                    let end = start + 2 + usize::from(length);
                    if end > self.bytes.len() {
                        return Ok(None);
                    }
                    self.at = end;
                    return Ok(Some((marker, start..end)));
                }
            }
        }
    }

    /// The position of the next marker's last 0xFF. A marker is one or more bytes 0xFF, then a byte
    /// that is neither 0xFF nor 0x00; 0xFF 0x00 stands for a literal 0xFF in coded data.
    fn next_marker(&mut self) -> Option<usize> {
        loop {
            let start = self.at + memchr::memchr(0xFF, self.bytes.get(self.at..)?)?;
            match self.bytes.get(start + 1)? {
                0xFF => self.at = start + 1,
                0x00 => self.at = start + 2,
                _ => return Some(start),
            }
        }
    }

    /// The coded data here, including restart markers, up to the next other marker or the end of
    /// the bytes.
    pub(super) fn coded_data(&mut self) -> Range<usize> {
        let start = self.at;
        loop {
            match self.next_marker() {
                Some(marker) if matches!(self.bytes[marker + 1], 0xD0..=0xD7) => self.at = marker + 2,
                Some(marker) => {
                    // Leave out fill bytes 0xFF before the marker.
                    let filled =
                        self.bytes[start..marker].iter().rev().take_while(|byte| **byte == 0xFF).count();
                    self.at = marker;
                    return start..marker - filled;
                }
                None => {
                    let rest = &self.bytes[start..];
                    let half = rest.iter().rev().take_while(|byte| **byte == 0xFF).count();
                    self.at = self.bytes.len();
                    return start..self.bytes.len() - half;
                }
            }
        }
    }
}
