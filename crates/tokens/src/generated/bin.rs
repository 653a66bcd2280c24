//! A stream of ids without a header, as `ids.tofile("gen.bin")` writes it.

use std::path::Path;

use super::{FoundRows, GeneratedForm, Integer, even_rows, width};
use crate::files::Input;
use crate::{Dtype, Grid, TokensError};

/// The rows of a .bin.
pub(super) fn rows(
    path: &Path,
    dtype: Dtype,
    grid: Grid,
    form: &GeneratedForm,
) -> Result<FoundRows, TokensError> {
    let integer = Integer { bytes: dtype.bytes(), signed: false };
    let mut input = Input::open(path.to_owned())?;
    let bytes = input.left();
    if !bytes.is_multiple_of(integer.bytes as u64) {
        return Err(TokensError::Unsuitable(format!(
            "{} has {bytes} bytes, which do not divide into ids of {} bytes each; save it as {}, the number type \
             of the set",
            path.display(),
            integer.bytes,
            dtype.name()
        )));
    }
    let start = input.take(bytes.min(width::ENOUGH * integer.bytes as u64))?;
    if integer.ids(&start).is_ok_and(|ids| width::is_too_wide(&ids)) {
        return Err(TokensError::Unsuitable(format!(
            "every second id of {} is 0, as if it held numbers of more than {} bytes; save it as {}, the number type of \
             the set, or as .npy, which states its type",
            path.display(),
            integer.bytes,
            dtype.name()
        )));
    }
    stream(path, 0, integer, grid, form)
}

/// The rows of the ids of a file from byte `begin` on, one after the other, all as long as the
/// first.
pub(super) fn stream(
    path: &Path,
    begin: u64,
    integer: Integer,
    grid: Grid,
    form: &GeneratedForm,
) -> Result<FoundRows, TokensError> {
    let bytes = integer.bytes as u64;
    let mut input = Input::open_at(path, begin)?;
    let total = input.left() / bytes;
    if total == 0 {
        return Err(TokensError::Unsuitable(format!("{} has no ids", path.display())));
    }
    let first = input.take(total.min(form.whole_length(grid)? as u64) * bytes)?;
    // Numbers that are no ids are named when their rows are read.
    let id = |bytes: &[u8]| integer.ids(bytes).ok().and_then(|ids| ids.first().copied());
    let ids: Vec<u32> =
        first.chunks_exact(integer.bytes).map(|bytes| id(bytes).unwrap_or(u32::MAX)).collect();
    let length = form.length_in_stream(&ids, total, grid)?;
    Ok(even_rows(Input::open_at(path, begin)?, length as u64 * bytes, integer))
}
