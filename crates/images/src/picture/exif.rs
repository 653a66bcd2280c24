//! The orientation of a picture, from its EXIF block.

use image::metadata::Orientation;

use pixtok_base::sniff::directory;

const ORIENTATION: u16 = 0x0112;
/// The integer types in which writers store the orientation: SHORT and LONG, unsigned and signed.
const SHORTS: [u16; 2] = [3, 8];
const LONGS: [u16; 2] = [4, 9];

/// The orientation in an EXIF block. Some writers leave JPEG's prefix on it in other formats. If
/// the block is broken or has none of the eight values, the picture is not turned.
pub(super) fn orientation(exif: &[u8]) -> Orientation {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let entry =
        directory(exif).into_iter().flatten().find(|entry| entry.tag == ORIENTATION && entry.count > 0);
    let value = entry.and_then(|entry| match entry.kind {
        kind if SHORTS.contains(&kind) => Some(u32::from(entry.short)),
        kind if LONGS.contains(&kind) => Some(entry.long),
        _ => None,
    });
    value.and_then(|value| u16::try_from(value).ok()).map_or(Orientation::NoTransforms, orientation_of)
}

/// The orientation for a number from 1 to 8; any other number means not turned.
pub(super) fn orientation_of(number: u16) -> Orientation {
    u8::try_from(number).ok().and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EXIF block with one entry.
    fn block(big: bool, kind: u16, count: u32, value: u32) -> Vec<u8> {
        let short = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let long = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let value = match kind {
            3 | 8 => [short(value as u16), [0xAA, 0xBB]].concat(),
            _ => long(value).to_vec(),
        };
        let mark: &[u8] = if big { b"MM\0*" } else { b"II*\0" };
        [mark, &long(8), &short(1), &short(ORIENTATION), &short(kind), &long(count), &value, &long(0)]
            .concat()
    }

    #[test]
    fn whole_numbers_of_either_width_and_order_are_read() {
        for big in [false, true] {
            for kind in [3, 4, 8, 9] {
                for (value, expected) in [
                    (1, Orientation::NoTransforms),
                    (3, Orientation::Rotate180),
                    (6, Orientation::Rotate90),
                    (8, Orientation::Rotate270),
                ] {
                    assert_eq!(orientation(&block(big, kind, 1, value)), expected, "{big} {kind} {value}");
                }
            }
        }
        let prefixed = [b"Exif\0\0", &block(true, 3, 1, 6)[..]].concat();
        assert_eq!(orientation(&prefixed), Orientation::Rotate90);
    }

    #[test]
    fn broken_values_leave_the_picture_as_it_lies() {
        let whole = block(false, 3, 1, 6);
        let broken = [
            block(false, 3, 1, 0),
            block(false, 3, 1, 9),
            block(true, 4, 1, 6 << 16),
            block(false, 3, 0, 6),
            block(false, 5, 1, 6),
            b"".to_vec(),
            b"II*\0\xFF\xFF\xFF\xFF".to_vec(),
        ];
        for bytes in broken {
            assert_eq!(orientation(&bytes), Orientation::NoTransforms, "{bytes:?}");
        }
        for length in 0..20 {
            assert_eq!(orientation(&whole[..length]), Orientation::NoTransforms, "{length}");
        }
    }
}
