//! Where the weights of published networks lie.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::pretrained::Backbone;
use pixtok_base::Misuse;
use pixtok_base::paths::absence;

/// A folder with weights, for those who do not want to name them each time.
pub const FOLDER: &str = "PIXTOK_WEIGHTS";
/// As `scripts/convert_weights.py` names the Inception of the Fréchet distance.
pub const INCEPTION_FILE: &str = "inception-fid.safetensors";

/// As `scripts/convert_weights.py` names LPIPS.
#[must_use]
pub fn lpips_file(backbone: Backbone) -> &'static str {
    match backbone {
        Backbone::Alex => "lpips-alex.safetensors",
        Backbone::Vgg => "lpips-vgg.safetensors",
    }
}

/// What tells a file from others.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let hashed = fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    hashed.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// `file` in the folder of weights, if both are there.
///
/// # Errors
/// [`Misuse`] when the folder that is named is none.
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
