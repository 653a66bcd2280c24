//! The hardware and software that exact results depend on.

use serde::{Deserialize, Serialize};
use strum::Display;
use tch::Device;

use pixtok_torch::{Cpu, cpu_capability, cuda_model};

/// A kind of device, written as `--device` takes it. Different kinds round differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// A device and the software that runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The kind of device.
    pub device: DeviceKind,
    /// The name of the GPU or of the processor.
    pub model: String,
    /// On a CPU: the kernels that libtorch chose, the processor's instruction sets, and the user's
    /// limits on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// The version of libtorch.
    pub libtorch: String,
    /// The version of pixtok.
    pub pixtok: String,
}

impl Machine {
    /// The current machine, with the given version of libtorch.
    #[must_use]
    pub fn here(device: Device, libtorch: String) -> Self {
        let (kind, model, instructions) = if let Device::Cuda(index) = device {
            (DeviceKind::Cuda, cuda_model(index).unwrap_or_else(|| "unknown".to_owned()), vec![])
        } else {
            let cpu = Cpu::here();
            let kernels = format!("libtorch's {} kernels", cpu_capability());
            let instructions = [kernels].into_iter().chain(cpu.features()).collect();
            (DeviceKind::Cpu, cpu.model, instructions)
        };
        Self { device: kind, model, instructions, libtorch, pixtok: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The differences from `earlier`, in words, except for the kind of device.
    #[must_use]
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let mut words = vec![];
        let mut compare = |what: &str, now: &str, then: &str| {
            if now != then {
                words.push(format!("{what} {now} instead of {then}"));
            }
        };
        compare("libtorch", &self.libtorch, &earlier.libtorch);
        compare("pixtok", &self.pixtok, &earlier.pixtok);
        if self.device == earlier.device {
            let what = if self.device == DeviceKind::Cuda { "GPU" } else { "processor" };
            compare(what, &self.model, &earlier.model);
            // The two lists are mostly equal, so only the differences are named.
            let (now, then) = (&self.instructions, &earlier.instructions);
            words.extend(those_without("with", now, then));
            words.extend(those_without("without", then, now));
        }
        words
    }
}

/// Lists the elements of `some` that are not in `others`, after `word`.
fn those_without(word: &str, some: &[String], others: &[String]) -> Option<String> {
    let own: Vec<&str> = some.iter().filter(|one| !others.contains(one)).map(String::as_str).collect();
    (!own.is_empty()).then(|| format!("{word} {}", own.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_both_sides() {
        let here = Machine::here(Device::Cpu, "2.13.0".into());
        assert!(here.instructions[0].contains("kernels"), "{here:?}");
        assert!(here.differences(&here).is_empty());
        let mut other = Machine { libtorch: "2.12.0".into(), ..here.clone() };
        other.instructions.push("mmx".into());
        let words = ["libtorch 2.13.0 instead of 2.12.0", "without mmx"];
        assert_eq!(here.differences(&other), words);
        // The kind of device is compared elsewhere.
        let gpu =
            Machine { device: DeviceKind::Cuda, model: "H".into(), instructions: vec![], ..here.clone() };
        assert!(here.differences(&gpu).is_empty());
    }
}
