//! In which precision a run trains, where its config leaves that open.

use std::path::Path;

use anyhow::Result;
use tch::Device;

use crate::commands::{note, open};
use crate::config::Config;
use crate::torch::{Precision, PrecisionChoice, auto_precision};

/// Writes the precision into `config`, so that the run's own config holds it: with `auto` that of the run at `resumed`, if there is
/// one, else what is faster on `device`. Says which and why.
pub(super) fn settle(config: &mut Config, resumed: Option<&Path>, device: Device) -> Result<Precision> {
    let chosen = config.train.precision;
    let precision = match resumed.filter(|run| chosen == PrecisionChoice::Auto && open::is_ours(run)) {
        Some(run) => open::config_of(run)?.train.precision.resolve(device),
        None => chosen.resolve(device),
    };
    let (auto, reason) = auto_precision(device);
    if precision != auto {
        note(&format!("training in {precision}, where auto would be {auto}: {reason}"));
    } else if chosen == PrecisionChoice::Auto {
        note(&format!("training in {precision}: {reason}"));
    }
    config.train.precision = precision.into();
    Ok(precision)
}
