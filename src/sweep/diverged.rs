//! `diverged.json` in an arm's run folder: its training ended because its numbers were not finite.
//! The same program, settings, images and machine would meet them again.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::write_atomic;
use crate::run::Compute;
use crate::run::libtorch::libtorch_version;
use pixtok_images::data::Fingerprint;
use pixtok_torch::{Cpu, device_name};

/// The name of the file in a run folder.
const FILE: &str = "diverged.json";

/// The content of the file. The settings are those of the run's `config.toml`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Diverged {
    format_version: u32,
    pixtok: String,
    libtorch: String,
    machine: Machine,
    /// Fingerprint of the training images.
    train_set: Option<Fingerprint>,
    /// The failure of the arm, in words.
    failure: String,
}

/// What rounding depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    /// Names as in reports.
    pub device: String,
    pub processor: String,
    pub threads: u32,
}

impl Machine {
    /// The one that a job with these settings runs on.
    pub fn of(compute: Compute) -> Result<Self> {
        Ok(Self {
            device: device_name(compute.device.resolve()?),
            processor: Cpu::here().model,
            threads: compute.threads.unwrap_or_else(tch::get_num_threads).unsigned_abs(),
        })
    }
}

impl Diverged {
    fn now(machine: &Machine, train_set: Option<&Fingerprint>, failure: &str) -> Self {
        Self {
            format_version: 1,
            pixtok: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch_version(),
            machine: machine.clone(),
            train_set: train_set.cloned(),
            failure: failure.to_owned(),
        }
    }
}

/// Records that the training in the folder `run` on these images diverged.
pub(super) fn record(
    run: &Path,
    machine: &Machine,
    train_set: Option<&Fingerprint>,
    failure: &str,
) -> Result<()> {
    let text = serde_json::to_string_pretty(&Diverged::now(machine, train_set, failure))? + "\n";
    Ok(write_atomic(&run.join(FILE), text.as_bytes())?)
}

/// Removes the record, so that the training is tried again.
pub(super) fn forget(run: &Path) -> Result<()> {
    let path = run.join(FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Why the training in the folder `run` failed, if it diverged and would do so again on these images
/// and any of these machines.
pub(super) fn failure(run: &Path, machines: &[Machine], train_set: Option<&Fingerprint>) -> Option<String> {
    let found: Diverged = serde_json::from_str(&fs::read_to_string(run.join(FILE)).ok()?).ok()?;
    let known = machines.contains(&found.machine);
    (known && found == Diverged::now(&found.machine, train_set, &found.failure)).then_some(found.failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(names: &str) -> Fingerprint {
        serde_json::from_value(serde_json::json!({ "names": names, "sizes": "s", "times": "t" })).unwrap()
    }

    #[test]
    fn a_record_holds_for_the_same_program_and_images() {
        let run = tempfile::tempdir().unwrap();
        let machine =
            |device: &str, threads| Machine { device: device.to_owned(), processor: "p".to_owned(), threads };
        let here = [machine("cpu", 2), machine("gpu", 2)];
        let said = |images: &str| failure(run.path(), &here, Some(&print(images)));
        assert_eq!(said("a"), None);
        record(run.path(), &here[0], Some(&print("a")), "loss is NaN").unwrap();
        let elsewhere = |machine| failure(run.path(), &[machine], Some(&print("a")));
        assert_eq!(elsewhere(machine("gpu", 2)), None, "another device rounds in another way");
        assert_eq!(elsewhere(machine("cpu", 1)), None, "and so do other threads");
        assert_eq!(said("a").as_deref(), Some("loss is NaN"));
        assert_eq!(said("b"), None, "an image that made the NaN may be gone");
        let path = run.path().join(FILE);
        let older = fs::read_to_string(&path).unwrap().replace(env!("CARGO_PKG_VERSION"), "0.0.0");
        fs::write(&path, older).unwrap();
        assert_eq!(said("a"), None, "another version may have a remedy");
        forget(run.path()).unwrap();
        assert!(!path.exists());
        forget(run.path()).unwrap();
    }
}
