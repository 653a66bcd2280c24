//! The precision that a run is trained in when its config says `auto`.

use anyhow::Result;
use tch::Device;

use crate::train;
use pixtok_torch::{Precision, PrecisionChoice, auto_precision};

/// The precision of a training.
pub(super) struct Settled {
    pub precision: Precision,
    /// The config's choice.
    pub chosen: PrecisionChoice,
    /// The reason for the precision, if the user should see one.
    pub reason: Option<String>,
}

/// Writes the precision into `config`, so that the run's own config records it. `auto` becomes the
/// precision of the resumed run with the config `earlier`, or the faster one on `device`.
pub(super) fn settle(
    config: &mut train::Config,
    earlier: Option<&train::Config>,
    device: Device,
) -> Result<Settled> {
    let chosen = config.precision;
    let open = chosen == PrecisionChoice::Auto;
    let precision = match earlier {
        Some(earlier) if open => earlier.precision.resolve(device),
        _ => chosen.resolve(device),
    };
    let (auto, reason) = auto_precision(device);
    let reason = if open && precision == auto {
        Some(reason)
    } else if open {
        Some(format!("the run started in it; {auto} would be faster here: {reason}"))
    } else if precision == Precision::Bf16 && auto == Precision::Fp32 {
        Some(format!("set by train.precision; fp32 would be faster here: {reason}"))
    } else {
        None
    };
    config.precision = precision.into();
    Ok(Settled { precision, chosen, reason })
}

impl Settled {
    /// The precision and the reason, if there is one.
    pub fn words(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} ({reason})", self.precision),
            None => self.precision.to_string(),
        }
    }
}
