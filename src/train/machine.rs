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
    /// Of a CPU: which of its kernels libtorch runs, what the processor's instruction sets are, and limits on them.
    pub instructions: Option<String>,
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
        let instructions = (!cuda).then(|| format!("{} kernels, {}", cpu_capability(), cpu.features()));
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
            let none = String::new();
            let (now, then) = (&self.instructions, &earlier.instructions);
            compare("instructions", now.as_ref().unwrap_or(&none), then.as_ref().unwrap_or(&none));
        }
        compare("libtorch", &self.libtorch, &earlier.libtorch);
        compare("pixtok", &self.pixtok, &earlier.pixtok);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_both_sides() {
        let here = Machine::here(Device::Cpu, "2.13.0".into());
        assert!(here.instructions.as_ref().is_some_and(|text| text.contains("kernels")), "{here:?}");
        assert!(here.differences(&here).is_empty());
        let other = Machine { libtorch: "2.12.0".into(), instructions: Some("AVX2".into()), ..here.clone() };
        let words = here.differences(&other);
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].starts_with("instructions ") && words[0].ends_with(" instead of AVX2"), "{words:?}");
        assert_eq!(words[1], "libtorch 2.13.0 instead of 2.12.0");
        // Another kind of device is a matter of its own.
        let gpu = Machine { device: "cuda".into(), model: "H".into(), instructions: None, ..here.clone() };
        assert!(here.differences(&gpu).is_empty());
    }
}
