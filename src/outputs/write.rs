//! Writes the files of a command.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::checkpoint::write_atomic;
use pixtok_base::Misuse;
use pixtok_base::paths::{OUTPUT_MARKER, make_folder, mark_output};
use pixtok_images::picture::Picture;

/// Makes a folder for images, or takes an empty one. It must be empty because the images often have
/// the originals' names and must not replace them.
///
/// # Errors
/// When it holds something or cannot be made.
pub fn make_empty(out: &Path) -> Result<()> {
    let context = || format!("cannot make the folder {}", out.display());
    make_folder(out).with_context(context)?;
    let other =
        |entry: io::Result<fs::DirEntry>| !entry.is_ok_and(|entry| entry.file_name() == OUTPUT_MARKER);
    if fs::read_dir(out).with_context(context)?.any(other) {
        return Err(
            Misuse(format!("{} is not empty; give a new folder for the images", out.display())).into()
        );
    }
    mark_output(out).with_context(context)
}

/// Writes a picture as PNG. Creates the folders of the path.
///
/// # Errors
/// When it cannot be written.
pub fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let png = picture.to_png()?;
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, png));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes to a pipe or a device, or replaces a file as a whole.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = if path.exists() && !path.is_file() {
        fs::write(path, bytes).map_err(anyhow::Error::from)
    } else {
        write_atomic(path, bytes).map_err(anyhow::Error::from)
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}
