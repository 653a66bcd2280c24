//! From marker to marker through a JPEG file (ITU-T T.81, B.1.1).

use std::ops::Range;

use super::broken;
use crate::picture::PictureError;

/// Goes from marker to marker.
pub(super) struct Walk<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Walk<'_> {
    /// The next marker and the range of its segment from the marker on; none where the bytes end
    /// before or within it. Passes over what lies between segments. Walking them passes over
    /// thumbnails, which have markers of their own.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Range<usize>)>, PictureError> {
        loop {
            let Some(start) = self.next_marker() else { return Ok(None) };
            let marker = self.bytes[start + 1];
            match marker {
                0xD9 => return Ok(Some((marker, start..start + 2))),
                // TEM, restart markers, start of image: nothing follows that could be skipped.
                0x01 | 0xD0..=0xD8 => self.at = start + 2,
                _ => {
                    let Some(&[high, low]) = self.bytes.get(start + 2..start + 4) else { return Ok(None) };
                    let length = u16::from_be_bytes([high, low]);
                    if length < 2 {
                        return Err(broken(&format!("a segment (marker {marker:02X}) of {length} bytes")));
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

    /// Where the next marker's last 0xFF is: 0xFF, any number of 0xFF to fill, then a byte that is
    /// neither 0xFF nor the 0x00 that stands for a literal 0xFF in coded data.
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

    /// The coded data here, with their restart markers, up to the next other marker or the end of
    /// the bytes.
    pub(super) fn coded_data(&mut self) -> Range<usize> {
        let start = self.at;
        loop {
            match self.next_marker() {
                Some(marker) if matches!(self.bytes[marker + 1], 0xD0..=0xD7) => self.at = marker + 2,
                Some(marker) => {
                    // Without the 0xFF that fill up before the marker.
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
