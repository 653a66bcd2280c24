//! An array of integers, as `np.save("gen.npy", ids)` writes it.

use std::path::Path;

use super::{Found, FoundRows, GeneratedForm, Integer, bin, even_rows};
use crate::TokensError;
use crate::files::Input;
use crate::npy::{Header, PREAMBLE, parse};

/// The longest text of a header that is read. Those of integers have about 100 bytes.
const MOST_TEXT: u64 = 1 << 16;

/// The rows of a .npy.
pub(super) fn rows(path: &Path, form: &GeneratedForm) -> Result<FoundRows, TokensError> {
    let refused = |words: String| Err(TokensError::Unsuitable(format!("{} {words}", path.display())));
    let mut input = Input::open(path.to_owned())?;
    let bytes = input.left();
    let Some(text) = text_of(&mut input)? else {
        return refused("is not an array in numpy's format; write it with np.save".into());
    };
    let Some(Header { descr, shape }) = parse(&text) else {
        let is_fortran = String::from_utf8_lossy(&text).contains("'fortran_order': True");
        return refused(if is_fortran {
            "is in Fortran's order; save np.ascontiguousarray(ids)".into()
        } else {
            "is not a plain array; save the ids as integers, np.array(ids, dtype=np.int64)".into()
        });
    };
    let Some(integer) = integer(&descr) else {
        return refused(format!(
            "holds numbers of type {descr}; save the ids as integers, ids.astype(np.int64)"
        ));
    };
    let ids = shape.iter().try_fold(1_u64, |product, &axis| product.checked_mul(axis));
    if ids == Some(0) {
        return refused(format!("is an array {shape:?} without ids"));
    }
    if ids.and_then(|ids| ids.checked_mul(integer.bytes as u64)) != Some(input.left()) {
        let left = input.left();
        return refused(format!(
            "is cut off or goes on after its array: {left} bytes follow the header of {shape:?}; save it again"
        ));
    }
    let axes = shape.get(1..).unwrap_or_default();
    if axes.is_empty() {
        let Some(grid) = form.usual_grid() else {
            return refused(
                "is one row of numbers, which does not tell where those of an image end, since the images of the set have \
                 different sizes; save the ids as .jsonl"
                    .into(),
            );
        };
        return bin::stream(path, bytes - input.left(), integer, grid, form);
    }
    // A single axis is a row of ids, even if tokens are a sequence: framing may be in it.
    let grid = form.grid_of_axes(axes).filter(|_| axes.len() > 1);
    if axes.len() > 1 && grid.is_none() {
        return refused(format!(
            "has the shape {shape:?}, and an array of codes has {}; give that, or a row of ids for each image",
            form.axes_in_words()
        ));
    }
    let rows = even_rows(input, axes.iter().product::<u64>() * integer.bytes as u64, integer);
    Ok(Box::new(rows.map(move |found| Ok(Found { grid, ..found? }))))
}

/// The text of a header of any version; `None` if there is none.
fn text_of(input: &mut Input) -> Result<Option<Vec<u8>>, TokensError> {
    if input.left() < PREAMBLE as u64 + 2 {
        return Ok(None);
    }
    let preamble = input.take(PREAMBLE as u64)?;
    let (version, short) = (preamble[6], u64::from(u16::from_le_bytes([preamble[8], preamble[9]])));
    let length = match (preamble.starts_with(b"\x93NUMPY"), version) {
        (true, 1) => short,
        (true, 2 | 3) => short | u64::from(u16::from_le_bytes(input.array()?)) << 16,
        _ => return Ok(None),
    };
    if length > MOST_TEXT.min(input.left()) { Ok(None) } else { input.take(length).map(Some) }
}

/// The integers of a type's name in numpy, if they are little endian.
fn integer(descr: &str) -> Option<Integer> {
    let (signed, bytes) = match descr {
        "|u1" => (false, 1),
        "|i1" => (true, 1),
        "<u2" => (false, 2),
        "<i2" => (true, 2),
        "<u4" => (false, 4),
        "<i4" => (true, 4),
        "<u8" => (false, 8),
        "<i8" => (true, 8),
        _ => return None,
    };
    Some(Integer { bytes, signed })
}
