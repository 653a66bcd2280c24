//! The files with the weights of published networks.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::pretrained::Backbone;
use pixtok_base::Misuse;
use pixtok_base::paths::absence;

/// The environment variable that names a folder with weights, for those who don't want to name each
/// file.
pub const FOLDER: &str = "PIXTOK_WEIGHTS";
/// The file name that `scripts/convert_weights.py` gives to the Inception of the Fréchet distance.
pub const INCEPTION_FILE: &str = "inception-fid.safetensors";

/// The file name that `scripts/convert_weights.py` gives to LPIPS.
#[must_use]
pub fn lpips_file(backbone: Backbone) -> &'static str {
    match backbone {
        Backbone::Alex => "lpips-alex.safetensors",
        Backbone::Vgg => "lpips-vgg.safetensors",
    }
}

/// The hash of a file's content.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let hashed = fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    hashed.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The path of `file` in the folder of weights, if both exist.
///
/// # Errors
/// [`Misuse`] when the named folder does not exist.
pub fn in_folder(file: &str) -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os(FOLDER) else { return Ok(None) };
    if !Path::new(&folder).is_dir() {
        let folder = Path::new(&folder);
        let what = if folder.exists() { "is no folder".to_owned() } else { absence(folder) };
        let folder = folder.display();
        return Err(Misuse(format!("{FOLDER} is {folder}, which {what}; correct or unset it")).into());
    }
    let path = Path::new(&folder).join(file);
    Ok(path.exists().then_some(path))
}
