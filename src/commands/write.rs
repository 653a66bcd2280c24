//! Files that commands leave.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::checkpoint::write_atomic;
use crate::picture::Picture;

/// A picture as PNG, with the folders it lies in.
pub(super) fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let png = picture.to_png()?;
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, png));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A pipe or a device is written to, a file is replaced whole.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = if path.exists() && !path.is_file() {
        fs::write(path, bytes).map_err(anyhow::Error::from)
    } else {
        write_atomic(path, bytes).map_err(anyhow::Error::from)
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}
