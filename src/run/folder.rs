//! The folder of a run or a model, and its config.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::checkpoint::RunFolder;
use crate::config::Config;
use pixtok_base::Misuse;
use pixtok_torch::tensors::{self, Tensors};

/// The file with the config of a run or a model folder.
pub const CONFIG: &str = "config.toml";
/// The file with the weights of a model folder.
pub const MODEL: &str = "model.safetensors";
/// The file that every checkpoint in a run folder has.
const MANIFEST: &str = "manifest.json";
/// A description that `pixtok export` also writes, for readers that do not know pixtok's defaults.
pub const DESCRIPTION: &str = "config.json";

/// The folder of a run, or of an exported or imported model.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
}

impl Run {
    /// Whether `path` is a run folder or a model folder.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        path.join(CONFIG).is_file()
    }

    /// Opens the run or model folder at `path`; any other folder is refused.
    ///
    /// # Errors
    /// [`Misuse`] says what is missing; [`crate::checkpoint::Error::NotARun`].
    pub fn find(path: &Path) -> Result<Self> {
        if let Some(run) = path.parent().filter(|run| Self::is_one(run) && path.join(MANIFEST).is_file()) {
            return Err(Misuse(format!(
                "{} is a checkpoint; give its run folder, {}",
                path.display(),
                run.display()
            ))
            .into());
        }
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

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The run folder with its checkpoints.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The config that the run was trained with, or the config of the model folder.
    ///
    /// # Errors
    /// When it cannot be read, does not work, or leaves out a setting whose default was different
    /// in an older pixtok.
    pub fn config(&self) -> Result<Config> {
        let folder = self.path();
        let written = Config::read_as_written(&folder.join(CONFIG))
            .with_context(|| format!("{} holds no usable run", folder.display()))?;
        // Only imported weights have a config that a user wrote, which may leave out anything.
        let imported = self.is_model() && !folder.join(DESCRIPTION).exists();
        if let Some(why) = written.model.settings().had_another_meaning().filter(|_| !imported) {
            return Err(Misuse(format!("{} {why}", folder.join(CONFIG).display())).into());
        }
        let config = written.resolved();
        config.check()?;
        Ok(config)
    }

    /// Whether it contains the weights of a model folder.
    pub(super) fn is_model(&self) -> bool {
        self.path().join(MODEL).is_file()
    }

    /// The weights of a model folder; `None` if this is not a model folder.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_told_from_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let checkpoint = run.join("step-000003");
        fs::create_dir_all(&checkpoint).unwrap();
        let error = |path: &Path| Run::find(path).unwrap_err().to_string();
        assert!(error(&run).contains("neither a run folder nor a model folder"));
        fs::write(run.join(CONFIG), "").unwrap();
        fs::write(checkpoint.join(MANIFEST), "{}").unwrap();
        let words = format!("step-000003 is a checkpoint; give its run folder, {}", run.display());
        assert!(error(&checkpoint).ends_with(&words), "{}", error(&checkpoint));
        assert!(Run::find(&run).is_ok());
    }
}
