//! What a run or a model folder is, and its config.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::checkpoint::RunFolder;
use crate::config::Config;
use pixtok_base::Misuse;
use pixtok_torch::tensors::{self, Tensors};

/// The config of a run or a model folder.
pub const CONFIG: &str = "config.toml";
/// The weights of a model folder.
pub const MODEL: &str = "model.safetensors";
/// What `pixtok export` also writes, for readers that do not know our defaults.
pub const DESCRIPTION: &str = "config.json";

/// The folder of a run, or of a model that was exported or imported.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
}

impl Run {
    /// Whether it is a folder of ours, of a run or of a model.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        path.join(CONFIG).is_file()
    }

    /// The run or model folder at `path`; a folder of other things is refused.
    ///
    /// # Errors
    /// [`Misuse`] says what is missing; [`crate::checkpoint::Error::NotARun`].
    pub fn find(path: &Path) -> Result<Self> {
        if path.is_dir() && !Self::is_one(path) {
            return Err(Misuse(format!(
                "{} is neither a run folder nor a model folder, for it has no {CONFIG}; give a folder that pixtok train, pixtok export or \
                 scripts/import_weights.py wrote",
                path.display()
            ))
            .into());
        }
        Ok(Self { folder: RunFolder::open(path)? })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its checkpoints.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The config that a run was trained with, or that a model folder has.
    ///
    /// # Errors
    /// When it cannot be read, does not work, or leaves open what an older pixtok decided
    /// differently.
    pub fn config(&self) -> Result<Config> {
        let folder = self.path();
        let written = Config::read_as_written(&folder.join(CONFIG))
            .with_context(|| format!("{} holds no usable run", folder.display()))?;
        // Only imported weights come with a config by a user, which may leave out anything.
        let imported = self.is_model() && !folder.join(DESCRIPTION).exists();
        if let Some(why) = written.model.settings().had_another_meaning().filter(|_| !imported) {
            return Err(Misuse(format!("{} {why}", folder.join(CONFIG).display())).into());
        }
        let config = written.resolved();
        config.check()?;
        Ok(config)
    }

    /// Whether it has the weights of a model folder.
    pub(super) fn is_model(&self) -> bool {
        self.path().join(MODEL).is_file()
    }

    /// The weights of a model folder; nothing if it is none.
    pub(super) fn model(&self) -> Result<Option<Tensors>> {
        if !self.is_model() {
            return Ok(None);
        }
        let file = self.path().join(MODEL);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let weights = tensors::from_bytes(&bytes)
            .map_err(|reason| Misuse(format!("{} is no whole safetensors file: {reason}", file.display())))?;
        Ok(Some(weights))
    }
}
