//! In which precision a run trains, where its config leaves that open.

use std::path::Path;

use anyhow::Result;
use tch::Device;

use crate::commands::open;
use crate::config::Config;
use crate::torch::{Precision, PrecisionChoice, auto_precision};

/// The precision of a training.
pub(super) struct Settled {
    pub precision: Precision,
    /// What the config said.
    pub chosen: PrecisionChoice,
    /// Why it is this one, where the user should know.
    pub reason: Option<String>,
}

/// Writes the precision into `config`, so that the run's own config holds it: with `auto` that of the run at `resumed`, if there is
/// one, else what is faster on `device`.
pub(super) fn settle(config: &mut Config, resumed: Option<&Path>, device: Device) -> Result<Settled> {
    let chosen = config.train.precision;
    let open = chosen == PrecisionChoice::Auto;
    let precision = match resumed.filter(|run| open && open::is_ours(run)) {
        Some(run) => open::config_of(run)?.train.precision.resolve(device),
        None => chosen.resolve(device),
    };
    let (auto, reason) = auto_precision(device);
    let reason = if open && precision == auto {
        Some(reason)
    } else if open {
        Some(format!("the run began so; {auto} would be faster here: {reason}"))
    } else if precision == Precision::Bf16 && auto == Precision::Fp32 {
        Some(format!("train.precision says so; fp32 would be faster here: {reason}"))
    } else {
        None
    };
    config.train.precision = precision.into();
    Ok(Settled { precision, chosen, reason })
}

impl Settled {
    /// The precision with the reason, if there is one.
    pub fn words(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} ({reason})", self.precision),
            None => self.precision.to_string(),
        }
    }
}
