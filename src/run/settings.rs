//! Makes a training's config from its options.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::images::{drop_those_of_config, validation_note};
use super::resume::Earlier;
use super::{CONFIG, Compute, Pick, Tell, init};
use crate::config::Config;
use pixtok_base::Misuse;

/// The options of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// The config file; not needed with `resume`.
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
    /// Whether to start over a run without a complete checkpoint and discard its logs.
    pub restart: bool,
    /// Whether to go on with a different thread count or kind of device than the run's.
    pub accept_inexact: bool,
    /// The run or model folder to start from.
    pub init_from: Option<PathBuf>,
    /// The weights of the network that the loss needs.
    pub lpips_weights: Option<PathBuf>,
    /// Whether the caller has told which validation images are training images too. Then they are
    /// not searched for again.
    pub overlap_told: bool,
    /// Where and how to compute.
    pub compute: Compute,
}

/// The checked config, with flags and overrides applied, and a note about the validation images. A
/// resumed run may use its own config file.
pub(super) fn resolve(
    options: &TrainOptions,
    earlier: Option<&Earlier>,
    dry_run: bool,
    tell: Tell,
) -> Result<(Config, Option<String>)> {
    let own = earlier.map(|run| run.path().join(CONFIG));
    let file = options.config.clone().or(own).unwrap_or_default();
    let (mut config, notes) = Config::read(&file, &options.overrides)?;
    notes.iter().for_each(|text| tell.note(text));
    let of_config = config.data.clone();
    if let Some(earlier) = earlier {
        config = earlier.replayed(&config, &options.overrides)?;
    }
    if let Some(folder) = &options.data {
        config.data.train = text_of(folder)?;
        if earlier.is_none() {
            drop_those_of_config(&options.overrides, &mut config.data);
        }
    }
    if let Some(folder) = &options.val_data {
        config.data.val = Some(text_of(folder)?);
        config.data.val_split = None;
    }
    let picked = [
        (&options.pick.split, &mut config.data.split),
        (&options.val_split, &mut config.data.val_split),
        (&options.pick.image_column, &mut config.data.image_column),
    ];
    for (flag, value) in picked {
        if flag.is_some() {
            value.clone_from(flag);
        }
    }
    config.check()?;
    match earlier.filter(|run| run.has_checkpoint()) {
        Some(run) => check_best_metric(&config, run, tell)?,
        None => config.check_new_training()?,
    }
    let note = if earlier.is_none() { validation_note(options, &of_config, &config) } else { None };
    if let (Some(earlier), Some(run)) = (earlier, &options.run)
        && fs::canonicalize(run).ok() != fs::canonicalize(earlier.path()).ok()
    {
        let (run, path) = (run.display(), earlier.path().display());
        return Err(Misuse(format!("--run is {run}, and --resume {path}; leave --run out")).into());
    }
    if earlier.is_none() && options.init_from.is_none() && !dry_run {
        init::from_nothing(&config)?;
    }
    Ok((config, note))
}

/// Refuses a new best metric that the images are too small for. For the run's own metric there is
/// only a warning.
fn check_best_metric(config: &Config, earlier: &Earlier, tell: Tell) -> Result<()> {
    match config.check_best_metric() {
        Err(error) if config.train.best_metric == earlier.config.train.best_metric => {
            tell.say(&format!(
                "warning: {error}; a run that goes on may change it with --set train.best_metric=psnr_db"
            ));
            Ok(())
        }
        checked => Ok(checked?),
    }
}

fn text_of(path: &Path) -> Result<String> {
    let text =
        path.to_str().ok_or_else(|| Misuse(format!("{} is no UTF-8 path; rename it", path.display())))?;
    Ok(text.to_owned())
}
