//! What a run does with the root config of any task.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use super::changes::{as_begun, changed, changes_at, with_changes_of};
use super::diff::{Difference, diff, flattened};
use super::{ConfigError, KeyPath, KnownKey, ResolveError, RunChange};
use crate::{optim, train};

/// The root config of a task: everything that defines a run.
pub trait RootConfig: Clone + Serialize + DeserializeOwned {
    /// Keys that a resumed run may change: they do not alter what is computed.
    const FREE_ON_RESUME: &'static [KnownKey];

    /// Keys that a resumed run may change although they alter what is computed; the run records
    /// their changes.
    const CHANGEABLE: &'static [KnownKey];

    /// The config with the defaults of absent keys filled in.
    #[must_use]
    fn resolved(self) -> Self {
        self
    }

    /// Checks every value, and that the parts fit together. Reads no files.
    ///
    /// # Errors
    /// [`ResolveError`], which names the key, its value and the remedy.
    fn check(&self) -> Result<(), ResolveError>;

    /// Finds the data that a config in `file` names, if it comes with pixtok and the data lies in its
    /// clone. Paths that the user gave in `overrides` stay.
    fn find_data(&mut self, _file: &Path, _overrides: &[String]) {}

    /// The seed of all random decisions.
    fn seed(&self) -> u64;

    /// The settings of the loop.
    fn train(&self) -> &train::Config;

    /// The same, to be changed.
    fn train_mut(&mut self) -> &mut train::Config;

    /// The optimizers: whose each is in a message (`discriminator's `, for instance; empty for the
    /// model's, which is the first), its settings, and the step at which it starts.
    fn optimizers(&self) -> Vec<(&'static str, &optim::Config, u64)>;

    /// The differences from `earlier` that a resumed run must not have.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    fn changes_that_matter(&self, earlier: &Self) -> Result<Vec<Difference>, toml::ser::Error> {
        let changes = diff(&Table::try_from(earlier)?, &Table::try_from(self)?);
        let may = |path: &KeyPath| is_free::<Self>(path) || may_change::<Self>(path);
        Ok(changes.into_iter().filter(|change| !may(&change.path)).collect())
    }

    /// A hash (blake3, hexadecimal) of all settings that a resumed run must not change.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    fn exact_digest(&self) -> Result<String, toml::ser::Error> {
        let mut hasher = blake3::Hasher::new();
        for (path, value) in flattened(&Table::try_from(self)?) {
            if !is_free::<Self>(&path) {
                hasher.update(format!("{path} = {value}\n").as_bytes());
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// This config with all `changes` applied, in order.
    ///
    /// # Errors
    /// When the old value of a change is not the config's.
    fn changed(&self, changes: &[RunChange]) -> Result<Self, ConfigError> {
        changed(self, changes)
    }

    /// This config, which a resume specifies, with the run's `changes` in all keys that no override
    /// sets and whose values are still those of `began`, the config that the run began with.
    ///
    /// # Errors
    /// The same as [`RootConfig::changed`].
    fn with_changes_of(
        &self,
        began: &Self,
        changes: &[RunChange],
        overrides: &[String],
    ) -> Result<Self, ConfigError> {
        with_changes_of(self, began, changes, overrides)
    }

    /// The differences of this config from `earlier` in keys that a run may change, as changes at
    /// `step`.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    fn changes_at(&self, earlier: &Self, step: u64) -> Result<Vec<RunChange>, ConfigError> {
        changes_at(self, earlier, step)
    }

    /// This config with the values of `began` in all keys that a run may change.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    fn as_begun(&self, began: &Self) -> Result<Self, ConfigError> {
        as_begun(self, began)
    }
}

/// Whether a resumed run may change this key.
fn is_free<C: RootConfig>(path: &KeyPath) -> bool {
    C::FREE_ON_RESUME.iter().any(|free| path.is_in(*free))
}

/// Whether a resumed run may change this key although it alters what is computed.
pub(super) fn may_change<C: RootConfig>(path: &KeyPath) -> bool {
    C::CHANGEABLE.iter().any(|key| path.is(*key))
}
