//! What the exact resumption of any training depends on, besides its counters.

use serde::{Deserialize, Serialize};

use super::{DeviceKind, Machine, StateError};

/// The settings, threads and machine of a training since its last start or resume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exactness {
    /// Hash of all settings that must not change: see `RootConfig::exact_digest`.
    pub config: String,
    /// libtorch's thread count; a different one rounds sums differently.
    pub threads: i32,
    /// Hardware and software.
    pub machine: Machine,
}

impl Exactness {
    /// Refuses to go on from a checkpoint that was saved under `then` if that rounds differently,
    /// unless that is accepted. Returns notes for the user.
    ///
    /// # Errors
    /// [`StateError::Inexact`].
    pub fn check(&self, then: &Self, accept_inexact: bool) -> Result<Vec<String>, StateError> {
        let mut notes = vec![];
        for (saved, now, remedy) in self.rounding(then) {
            if !accept_inexact {
                return Err(StateError::Inexact { saved, now, remedy });
            }
            notes.push(format!("going on with {now} instead of {saved}: not bit for bit"));
        }
        let elsewhere = self.machine.differences(&then.machine);
        if !elsewhere.is_empty() {
            notes.push(format!(
                "another machine or version: {}. Results may differ in the last bits from an uninterrupted run",
                elsewhere.join("; ")
            ));
        }
        Ok(notes)
    }

    /// What rounds differently: the value then, the value now, and the flag that makes them equal.
    fn rounding(&self, then: &Self) -> Vec<(String, String, String)> {
        let (now, earlier) = (self.machine.device, then.machine.device);
        let mut found = vec![];
        // On CUDA these threads only load images.
        if self.threads != then.threads && (now, earlier) != (DeviceKind::Cuda, DeviceKind::Cuda) {
            let threads = |count: i32| format!("{count} threads");
            found.push((threads(then.threads), threads(self.threads), format!("--threads {}", then.threads)));
        }
        if now != earlier {
            found.push((earlier.to_string(), now.to_string(), format!("--device {earlier}")));
        }
        found
    }
}
