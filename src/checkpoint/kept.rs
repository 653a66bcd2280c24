//! The mark of a checkpoint that made tokens: a small file in its folder, which the manifest does
//! not list. Training keeps a checkpoint that has it, and whoever deletes the file releases the
//! checkpoint.

use std::fs;
use std::io;
use std::path::Path;

use super::atomic::write_atomic;
use super::error::Error;

/// The name of the mark in a checkpoint.
const FILE: &str = "kept-for-tokens.txt";

const TEXT: &str = "\
pixtok encode made the tokens in these folders with this checkpoint, so training does not delete it.
Delete this file to release the checkpoint: training then deletes it when it is old.

";

/// Whether the checkpoint in `folder` is kept.
pub(super) fn is_kept(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Marks the checkpoint in `folder` as the one that made the tokens in `tokens`, beside those that
/// it already made.
pub(super) fn keep(folder: &Path, tokens: &Path) -> Result<(), Error> {
    let path = folder.join(FILE);
    let tokens = std::path::absolute(tokens).unwrap_or_else(|_| tokens.to_owned());
    let line = tokens.display().to_string();
    // The lines are for people. If the earlier ones cannot be read, the mark is written again.
    let earlier = fs::read_to_string(&path).ok().filter(|text| text.starts_with(TEXT));
    let earlier = earlier.as_deref().unwrap_or(TEXT);
    if earlier.lines().any(|own| own == line) {
        return Ok(());
    }
    write_atomic(&path, format!("{earlier}{line}\n").as_bytes())
}

/// Copies the mark of the checkpoint in `from`, if it has one, to the one in `to`, which will take
/// its place.
pub(super) fn hand_on(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from.join(FILE), to.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
