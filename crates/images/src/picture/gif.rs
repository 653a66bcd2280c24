//! Repairs to GIF files before `image` reads them.

use std::borrow::Cow;

use super::PictureError;

/// Where the screen's fields begin, after a signature of six bytes: width, height, flags,
/// background colour, aspect ratio.
const SCREEN: usize = 6;
const HEADER: usize = 13;

/// The file, with a screen of the first frame's size if it declares none. Browsers show such files
/// in the same way.
///
/// # Errors
/// If the first frame lies wholly outside the screen.
pub(super) fn with_screen(bytes: &[u8]) -> Result<Cow<'_, [u8]>, PictureError> {
    let Some(frame) = first_frame(bytes) else { return Ok(Cow::Borrowed(bytes)) };
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (screen_width, screen_height) = (short(SCREEN), short(SCREEN + 2));
    let (left, top) = (short(frame), short(frame + 2));
    if screen_width > 0 && screen_height > 0 {
        if left >= screen_width || top >= screen_height {
            let reason = format!(
                "its first frame begins at {left},{top}, outside the picture of {screen_width}x{screen_height}"
            );
            return Err(PictureError::Broken { format: "GIF", reason });
        }
        return Ok(Cow::Borrowed(bytes));
    }
    let mut bytes = bytes.to_vec();
    bytes.copy_within(frame + 4..frame + 8, SCREEN);
    bytes[frame..frame + 4].fill(0);
    Ok(Cow::Owned(bytes))
}

/// The offset of the first frame's position and size; `None` if the file ends before them.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = HEADER + table(*bytes.get(10)?);
    loop {
        match bytes.get(at)? {
            // A frame.
            0x2C => return (bytes.len() > at + 9).then_some(at + 1),
            // An extension: its kind, then blocks that each begin with their length; a length of 0
            // ends it.
            0x21 => {
                at += 2;
                loop {
                    let length = usize::from(*bytes.get(at)?);
                    at += 1 + length;
                    if length == 0 {
                        break;
                    }
                }
            }
            _ => return None,
        }
    }
}
