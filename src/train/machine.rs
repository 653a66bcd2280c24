//! Where a run computes, and with what: on equal machines its results are equal bit for bit.

use serde::{Deserialize, Serialize};
use tch::Device;

use crate::torch::{Cpu, cpu_capability, device_name};

/// A device with the software on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `cpu` or `cuda`.
    pub device: String,
    /// The CUDA device's name, or the processor's.
    pub model: String,
    /// Of a CPU: which of its kernels libtorch runs, the processor's instruction sets, and the user's limits on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// Its version.
    pub libtorch: String,
    /// Its version.
    pub pixtok: String,
}

impl Machine {
    /// The one at hand, with `libtorch`'s version.
    #[must_use]
    pub fn here(device: Device, libtorch: String) -> Self {
        let cpu = Cpu::here();
        let cuda = device.is_cuda();
        let mut instructions = vec![];
        if !cuda {
            instructions = cpu.features();
            instructions.insert(0, format!("libtorch's {} kernels", cpu_capability()));
        }
        Self {
            device: if cuda { "cuda" } else { "cpu" }.to_owned(),
            model: if cuda { device_name(device) } else { cpu.model },
            instructions,
            libtorch,
            pixtok: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What differs from `earlier`, other than the kind of device, in words.
    #[must_use]
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let mut words = vec![];
        let mut compare = |what: &str, now: &str, then: &str| {
            if now != then {
                words.push(format!("{what} {now} instead of {then}"));
            }
        };
        if self.device == earlier.device {
            compare(if self.device == "cuda" { "GPU" } else { "processor" }, &self.model, &earlier.model);
            // Most of the two lists is the same.
            let (now, then) = (&self.instructions, &earlier.instructions);
            compare("instructions", &without(now, then), &without(then, now));
        }
        compare("libtorch", &self.libtorch, &earlier.libtorch);
        compare("pixtok", &self.pixtok, &earlier.pixtok);
        words
    }
}

/// Those of `some` that are not among `others`, in words.
fn without(some: &[String], others: &[String]) -> String {
    let own: Vec<&str> = some.iter().filter(|word| !others.contains(word)).map(String::as_str).collect();
    if own.is_empty() { "none of these".to_owned() } else { own.join(", ") }
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
        let words = ["instructions none of these instead of mmx", "libtorch 2.13.0 instead of 2.12.0"];
        assert_eq!(here.differences(&other), words);
        // Another kind of device is a matter of its own.
        let gpu = Machine { device: "cuda".into(), model: "H".into(), instructions: vec![], ..here.clone() };
        assert!(here.differences(&gpu).is_empty());
    }
}
