//! `pixtok doctor`: what this machine offers, what is missing, and how to mend it.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::torch::{self, DeviceChoice, Precision, TorchError};

/// Prints the report on standard output. What is missing is part of the report, not an error, unless the device asked
/// for needs it.
///
/// # Errors
/// When `device` is asked for and absent or cannot compute, and when the report cannot be written.
pub fn run(device: DeviceChoice) -> Result<()> {
    let mut report = Report::default();
    let cpu = Cpu::of(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    report.fact("pixtok", env!("CARGO_PKG_VERSION"));
    report.fact("libtorch", libtorch());
    report.fact("cpu", format!("{} ({})", cpu.model, cpu.capability()));
    threads(&mut report);
    cuda(&mut report);
    let chosen = device.resolve();
    if let Ok(device) = &chosen {
        report.fact("device", format!("{device:?}").to_lowercase());
        precisions(&mut report, *device, &cpu);
    }
    if chosen.is_ok() && report.remedies.is_empty() {
        report.fact("missing", "nothing");
    }
    // Printed before an absent device becomes the error: the report explains it.
    write!(io::stdout().lock(), "{report}").context("cannot print the report")?;
    let chosen = chosen?;
    product(chosen, Precision::Fp32).with_context(|| format!("libtorch cannot compute on {chosen:?}"))
}

/// Facts in a column, then what is to be mended.
#[derive(Default)]
struct Report {
    facts: Vec<(&'static str, String)>,
    remedies: Vec<String>,
}

impl Report {
    fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push((name, value.into()));
    }

    fn mend(&mut self, remedy: impl Into<String>) {
        self.remedies.push(remedy.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.facts {
            writeln!(f, "{name:<9} {value}")?;
        }
        self.remedies.iter().try_for_each(|remedy| writeln!(f, "to mend   {remedy}"))
    }
}

/// What Linux tells about the processor; elsewhere nothing is known, and nothing is wrong with that.
struct Cpu {
    model: String,
    flags: Vec<String>,
}

impl Cpu {
    /// `cpuinfo` is the text of `/proc/cpuinfo`, whose flags line is called `Features` on ARM.
    fn of(cpuinfo: &str) -> Self {
        let field = |names: [&str; 2]| {
            let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim())
        };
        let model = field(["model name", "Model"]).unwrap_or(std::env::consts::ARCH).to_owned();
        let flags = field(["flags", "Features"]).unwrap_or_default();
        Self { model, flags: flags.split_whitespace().map(str::to_owned).collect() }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    /// The widest vector instructions, which set the speed of fp32.
    fn capability(&self) -> &'static str {
        let known = [("avx512f", "AVX-512"), ("avx2", "AVX2"), ("sve", "SVE"), ("asimd", "NEON")];
        known.iter().find(|(flag, _)| self.has(flag)).map_or("vector instructions unknown", |(_, name)| name)
    }

    fn bf16_speed(&self) -> &'static str {
        let known = [("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512"), ("bf16", "ARM")];
        match known.iter().find(|(flag, _)| self.has(flag)) {
            Some((_, "AMX")) => "works, the processor has AMX for it: several times as fast as fp32",
            Some(_) => "works, the processor has instructions for it: about twice as fast as fp32",
            None => "works, without instructions of the processor's for it: fp32 may be as fast",
        }
    }
}

fn threads(report: &mut Report) {
    let processors = available_parallelism().map_or(1, usize::from);
    let (within, between) = (tch::get_num_threads(), tch::get_num_interop_threads());
    // The usual reason for fewer threads than processors.
    let asked = std::env::var("OMP_NUM_THREADS")
        .map_or_else(|_| String::new(), |n| format!(" (OMP_NUM_THREADS={n})"));
    report.fact(
        "threads",
        format!("{within} within an operation{asked}, {between} between, {processors} processors"),
    );
}

fn libtorch() -> String {
    // The file that this process has mapped, not where one ought to be.
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Some(lib) = library_folder(&maps) else { return "loaded, from a place unknown".to_owned() };
    let version = lib.parent().and_then(version_of).unwrap_or_else(|| "of unknown version".to_owned());
    format!("{version} in {}", lib.display())
}

/// The folder of `libtorch_cpu` in the text of `/proc/self/maps`, whose lines end with a path.
fn library_folder(maps: &str) -> Option<PathBuf> {
    let line = maps.lines().find(|line| line.contains("/libtorch_cpu."))?;
    Path::new(&line[line.find('/')?..]).parent().map(Path::to_path_buf)
}

/// The wheel has a `version.py`, the plain archive a `build-version`.
fn version_of(root: &Path) -> Option<String> {
    if let Ok(version) = fs::read_to_string(root.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let python = fs::read_to_string(root.join("version.py")).ok()?;
    let quoted = python.lines().find_map(|line| line.strip_prefix("__version__ = '"))?;
    Some(quoted.trim_end_matches('\'').to_owned())
}

fn cuda(report: &mut Report) {
    let driver = nvidia_driver();
    // Loads the library first: a CUDA query before that would spoil every later one.
    let devices = torch::cuda_devices();
    report.fact(
        "cuda",
        match &devices {
            Ok(count) => format!("library loaded, {count} usable device(s)"),
            Err(_) => "this libtorch has no CUDA part".to_owned(),
        },
    );
    match driver {
        Some(gpus) => {
            gpus.iter().for_each(|gpu| report.fact("gpu", gpu));
            match devices {
                Err(_) => report.mend("there is an NVIDIA driver and no CUDA library: run `just setup cuda`"),
                Ok(0) => report.mend(
                    "there is an NVIDIA driver and libtorch sees no device: check CUDA_VISIBLE_DEVICES and \
                     `nvidia-smi`; this libtorch is made for CUDA 13 (driver 580 or newer)",
                ),
                Ok(_) => {}
            }
        }
        None => report.fact("gpu", "no NVIDIA driver; the CPU is used"),
    }
}

/// Name, driver version and memory of each GPU; `None` without a driver. Asked of the driver's own tool, because tch
/// has no name for a device.
fn nvidia_driver() -> Option<Vec<String>> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let Ok(output) = Command::new("nvidia-smi").args(query).output() else {
        let version = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
        return Some(version.lines().take(1).map(str::to_owned).collect());
    };
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    output.status.success().then_some(lines)
}

fn precisions(report: &mut Report, device: Device, cpu: &Cpu) {
    report.fact(
        "fp32",
        match product(device, Precision::Fp32) {
            Ok(()) => "works".to_owned(),
            Err(error) => error.to_string(),
        },
    );
    match product(device, Precision::Bf16) {
        Ok(()) if device == Device::Cpu => report.fact("bf16", cpu.bf16_speed()),
        Ok(()) => report.fact("bf16", "works"),
        Err(error) => {
            report.fact("bf16", error.to_string());
            report.mend("bf16 does not work here: use --set train.precision=fp32");
        }
    }
}

/// Multiplies two small matrices as training would, and looks at the result.
fn product(device: Device, precision: Precision) -> Result<(), TorchError> {
    const SIZE: i64 = 64;
    let (kind, sums) = torch::catching(|| {
        let ones = Tensor::ones([SIZE, SIZE], (Kind::Float, device));
        let product = torch::with_precision(precision, || ones.matmul(&ones));
        (product.kind(), f64::try_from(product.sum(Kind::Double)))
    })?;
    let expected_kind = match precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    };
    let expected = (SIZE * SIZE * SIZE) as f64;
    match sums {
        Ok(sum) if sum == expected && kind == expected_kind => Ok(()),
        Ok(sum) => Err(TorchError::Other(format!(
            "a {precision} product gave {sum} ({kind:?}) instead of {expected}"
        ))),
        Err(error) => Err(TorchError::Other(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_apart() {
        let intel =
            Cpu::of("processor\t: 0\nmodel name\t: Xeon: a\nflags\t\t: avx2 avx512f amx_bf16 avx512_bf16\n");
        assert_eq!((intel.model.as_str(), intel.capability()), ("Xeon: a", "AVX-512"));
        assert!(intel.bf16_speed().contains("AMX"));
        let arm = Cpu::of("processor\t: 0\nFeatures\t: fp asimd bf16\n");
        assert_eq!(arm.capability(), "NEON");
        assert!(arm.bf16_speed().contains("twice"));
        let unknown = Cpu::of("");
        assert_eq!(unknown.model, std::env::consts::ARCH);
        assert!(unknown.bf16_speed().contains("fp32 may be as fast"));
    }

    #[test]
    fn the_library_is_found_where_it_is_mapped() {
        let maps = "55d0-55d1 r--p 00000000 08:01 12 /usr/bin/x\n\
                    7f00-7f01 r-xp 00000000 08:01 13   /a b/torch/lib/libtorch_cpu.so\n";
        assert_eq!(library_folder(maps), Some(PathBuf::from("/a b/torch/lib")));
        assert_eq!(library_folder(""), None);
    }

    #[test]
    fn the_version_is_read_from_either_file() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(version_of(root.path()), None);
        fs::write(root.path().join("version.py"), "x = 1\n__version__ = '2.13.0+cu130'\n").unwrap();
        assert_eq!(version_of(root.path()).as_deref(), Some("2.13.0+cu130"));
        fs::write(root.path().join("build-version"), "2.13.0+cpu\n").unwrap();
        assert_eq!(version_of(root.path()).as_deref(), Some("2.13.0+cpu"));
    }

    #[test]
    fn the_cpu_computes_in_both_precisions() {
        product(Device::Cpu, Precision::Fp32).unwrap();
        product(Device::Cpu, Precision::Bf16).unwrap();
    }

    #[test]
    fn what_is_missing_comes_last() {
        let mut report = Report::default();
        report.fact("cpu", "fast");
        report.mend("plug it in");
        assert_eq!(report.to_string(), "cpu       fast\nto mend   plug it in\n");
    }
}
