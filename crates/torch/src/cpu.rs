//! The processor of this machine, and the instructions that libtorch uses on it.

use std::ffi::c_int;
use std::fs;
use std::sync::LazyLock;

use pixtok_pixels::Instructions;

use super::shim::{check, px_cpu_capability};

/// What Linux reports about the processor. On other systems nothing is known.
#[derive(Debug)]
pub struct Cpu {
    /// The manufacturer's name.
    pub model: String,
    /// `GenuineIntel`, `AuthenticAMD`; empty if unknown.
    vendor: String,
    flags: Vec<String>,
    /// The variable with which the user limits the instruction sets of oneDNN, and its value.
    onednn_limit: Option<(&'static str, String)>,
}

/// Values of that variable which exclude oneDNN's bf16 kernels for `avx512_bf16` and `amx_bf16`.
const LIMITS_WITHOUT_BF16: [&str; 7] =
    ["SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"];

impl Cpu {
    /// The processor of this machine.
    #[must_use]
    pub fn here() -> Self {
        let names = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"];
        let limit = names.into_iter().find_map(|name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some((name, value))
        });
        Self::of(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default(), limit)
    }

    /// Parses the text of `/proc/cpuinfo`, whose line of flags is called `Features` on ARM.
    fn of(cpuinfo: &str, onednn_limit: Option<(&'static str, String)>) -> Self {
        let field = |names: [&str; 2]| {
            let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim())
        };
        let model = field(["model name", "Model"]).unwrap_or(std::env::consts::ARCH).to_owned();
        let flags = field(["flags", "Features"]).unwrap_or_default();
        Self {
            model,
            vendor: field(["vendor_id", "CPU implementer"]).unwrap_or_default().to_owned(),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            onednn_limit: onednn_limit.map(|(name, value)| (name, value.to_uppercase())),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    /// The instruction sets that determine how libtorch's libraries round, sorted, and the limits
    /// that the user has set on them.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        let known = self.flags.iter().filter(|flag| {
            let flag = flag.as_str();
            flag == "fma"
                || ["avx", "amx", "asimd", "sve", "bf16", "i8mm"].iter().any(|set| flag.starts_with(set))
        });
        let limits = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"];
        let limits = limits.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        let mut words: Vec<String> = known.cloned().collect();
        // The order of the flags differs between kernel versions.
        words.sort_unstable();
        words.extend(limits);
        words
    }

    /// The widest vector instructions, which determine the speed of fp32.
    #[must_use]
    pub fn vectors(&self) -> &'static str {
        let known = [("avx512f", "AVX-512"), ("avx2", "AVX2"), ("sve", "SVE"), ("asimd", "NEON")];
        known.iter().find(|(flag, _)| self.has(flag)).map_or("vector instructions unknown", |(_, name)| name)
    }

    /// Whether training in bf16 is faster than in float32 here, and the reason in words. Without
    /// these instructions a bf16 convolution takes ten times as long as a float32 one. On Intel's
    /// processors avx512_bf16 without amx_bf16 is slower too (`docs/performance.md`). ARM's are not
    /// measured yet.
    #[must_use]
    pub fn fast_bf16(&self) -> (bool, String) {
        if self.flags.is_empty() {
            return (false, "this system does not report the processor's instruction sets".to_owned());
        }
        let Some(flag) = ["amx_bf16", "avx512_bf16"].into_iter().find(|flag| self.has(flag)) else {
            return (false, "the processor has neither avx512_bf16 nor amx_bf16".to_owned());
        };
        let without_amx = flag == "avx512_bf16";
        match &self.onednn_limit {
            Some((name, limit)) if LIMITS_WITHOUT_BF16.contains(&limit.as_str()) => {
                (false, format!("{name}={limit} rules out the processor's {flag}"))
            }
            _ if without_amx && self.vendor == "GenuineIntel" => {
                (false, "on Intel's processors avx512_bf16 without amx_bf16 is slower".to_owned())
            }
            _ => (true, format!("the processor has {flag}")),
        }
    }
}

/// The set of kernels that libtorch uses on this CPU: `DEFAULT`, `AVX2` or `AVX512`, or another
/// name on other architectures. ATEN_CPU_CAPABILITY lowers it.
#[must_use]
pub fn cpu_capability() -> String {
    let mut name = [0_u8; 32];
    // SAFETY: writes at most the given number of bytes, the last of them 0.
    let written = check(unsafe { px_cpu_capability(name.as_mut_ptr().cast(), name.len()) });
    debug_assert!(written.is_ok());
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// The version of our kernels that matches libtorch's, even if the processor supports a wider one.
#[must_use]
pub fn instructions() -> Instructions {
    static CHOSEN: LazyLock<Instructions> = LazyLock::new(|| Instructions::named(&cpu_capability()));
    *CHOSEN
}

/// The index of the version, as the kernels in `csrc/` take it.
pub(super) fn index_of(instructions: Instructions) -> c_int {
    instructions.index() as c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_apart() {
        let flags = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: a\n\
                     flags\t\t: avx2 avx512f amx_bf16 avx512_bf16\n";
        let intel = Cpu::of(flags, None);
        assert_eq!((intel.model.as_str(), intel.vectors()), ("Xeon: a", "AVX-512"));
        assert_eq!(intel.fast_bf16(), (true, "the processor has amx_bf16".into()));
        let limit = |value: &str| Some(("ONEDNN_MAX_CPU_ISA", value.to_owned()));
        let limited = Cpu::of(flags, limit("avx2")).fast_bf16();
        assert!(!limited.0 && limited.1.contains("ONEDNN_MAX_CPU_ISA=AVX2"), "{limited:?}");
        assert!(Cpu::of(flags, limit("AVX512_CORE_BF16")).fast_bf16().0);
        let without_amx = flags.replace("amx_bf16 ", "");
        assert!(!Cpu::of(&without_amx, None).fast_bf16().0);
        let amd = Cpu::of(&without_amx.replace("GenuineIntel", "AuthenticAMD"), None);
        assert_eq!(amd.fast_bf16(), (true, "the processor has avx512_bf16".into()));
        let arm = Cpu::of("processor\t: 0\nFeatures\t: fp asimd bf16\n", None);
        assert_eq!((arm.vectors(), arm.fast_bf16().0), ("NEON", false));
        let old = Cpu::of("flags : avx2 fma\n", None);
        assert_eq!((old.vectors(), old.fast_bf16().0), ("AVX2", false));
        assert_eq!(Cpu::of("", None).model, std::env::consts::ARCH);
    }

    #[test]
    fn libtorch_names_its_kernels() {
        let name = cpu_capability();
        assert!(
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()),
            "{name}"
        );
    }
}
