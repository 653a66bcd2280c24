//! Makes a training's config from its options, whatever its task.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::resume::Earlier;
use super::task::RunTask;
use super::{CONFIG, Compute, Pick, Run, Tell};
use crate::config::{RootConfig, read_config, shipped, timeout_of};
use crate::train;
use pixtok_base::Misuse;

/// The options of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// The config file, or the name of a config that comes with pixtok; not needed with `resume`.
    pub config: Option<PathBuf>,
    /// Replaced values of the config, each as `key=value`.
    pub overrides: Vec<String>,
    /// Training images, instead of `data.train`.
    pub data: Option<PathBuf>,
    /// Validation images, instead of `data.val`.
    pub val_data: Option<PathBuf>,
    /// The selection of training images, instead of `data.split` and `data.image_column`.
    pub pick: Pick,
    /// The split for validation, instead of `data.val_split`.
    pub val_split: Option<String>,
    /// The folder of a new run; absent: named after the config.
    pub run: Option<PathBuf>,
    /// The run to resume.
    pub resume: Option<PathBuf>,
    /// Whether to go on with the run of the folder if there is one already.
    pub or_resume: bool,
    /// Whether to start over a run without a complete checkpoint and discard its logs.
    pub restart: bool,
    /// Whether to go on with a different thread count or kind of device than the run's.
    pub accept_inexact: bool,
    /// The run or model folder to start from.
    pub init_from: Option<PathBuf>,
    /// The weights of the network that the loss needs.
    pub lpips_weights: Option<PathBuf>,
    /// Whether to read every image once before the training.
    pub check_data: bool,
    /// Whether the caller has told which validation images are training images too. Then they are
    /// not searched for again.
    pub overlap_told: bool,
    /// Where and how to compute.
    pub compute: Compute,
}

/// The config file of a training, which may be a shipped one that is given by its name; a resumed
/// run may use its own. For a run folder, the error says how to resume it.
pub(super) fn config_file(options: &TrainOptions) -> Result<PathBuf> {
    let Some(given) = &options.config else {
        return Ok(options.resume.as_deref().map(|run| run.join(CONFIG)).unwrap_or_default());
    };
    if given.is_dir() && Run::is_one(given) {
        let run = given.display();
        return Err(Misuse(format!(
            "{run} is a run folder, not a config; to go on with that run: pixtok train --resume {run}; to \
             start a new run from its config: pixtok train {run}/{CONFIG} --run NEW"
        ))
        .into());
    }
    if given.is_dir() {
        let own = given.to_str().and_then(|name| shipped::named(name).ok());
        let remedy = own.map_or_else(
            || "give a TOML file, or a name that `pixtok configs` lists".to_owned(),
            |own| format!("pixtok's own config of that name is {}", own.path.display()),
        );
        return Err(Misuse(format!("{} is a folder, not a config; {remedy}", given.display())).into());
    }
    Ok(shipped::config(given)?)
}

/// The time-out of a training, `train.timeout_secs`. It is needed before the config is checked, since
/// processes meet before they do anything else.
pub(super) fn timeout(file: &Path, overrides: &[String]) -> Duration {
    let given = timeout_of(file, overrides);
    Duration::from_secs(given.unwrap_or_else(|| train::Config::default().timeout_secs))
}

/// The checked config, with flags and overrides applied, and a note on what the flags changed.
pub(super) fn resolve<R: RunTask>(
    options: &TrainOptions,
    earlier: Option<&Earlier<R>>,
    dry_run: bool,
    tell: Tell,
) -> Result<(R::Config, Option<String>)> {
    let (mut config, notes) = read_config::<R::Config>(&config_file(options)?, &options.overrides)?;
    notes.iter().for_each(|text| tell.note(text));
    let written = config.clone();
    if let Some(earlier) = earlier {
        config = earlier.replayed(&config, &options.overrides)?;
    }
    R::place(&mut config, options, earlier.is_some())?;
    config.check()?;
    R::check_start(&config, options, earlier, dry_run, tell)?;
    let note = if earlier.is_none() { R::note(options, &written, &config) } else { None };
    if let (Some(earlier), Some(run)) = (earlier, &options.run)
        && fs::canonicalize(run).ok() != fs::canonicalize(earlier.path()).ok()
    {
        let (run, path) = (run.display(), earlier.path().display());
        return Err(Misuse(format!("--run is {run}, and --resume {path}; leave --run out")).into());
    }
    Ok((config, note))
}
