//! What this machine offers, what is missing, and how to fix it.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::run::libtorch::{known_version, libtorch};
use pixtok_torch::{Cpu, DeviceChoice, Precision, TorchError, auto_precision, cpu_capability, instructions};

/// Examines the machine. Returns the report and the device that `device` stands for. A missing part
/// is listed in the report and is not an error.
pub fn examine(device: DeviceChoice) -> (Report, Result<Device, TorchError>) {
    let mut report = Report::default();
    let cpu = Cpu::here();
    report.fact("pixtok", env!("CARGO_PKG_VERSION"));
    report.fact("libtorch", libtorch());
    let wanted = pixtok_torch::LIBTORCH;
    if let Some(found) = known_version().filter(|version| !version.starts_with(wanted)) {
        report.remedy(format!(
            "pixtok was built for libtorch {wanted}, but {found} is loaded: run `just setup` again, and check LD_PRELOAD"
        ));
    }
    let (theirs, ours) = (cpu_capability(), instructions().name());
    report.fact("cpu", format!("{} ({})", cpu.model, cpu.vectors()));
    report.fact("kernels", format!("{theirs} in libtorch, {ours} in pixtok"));
    threads(&mut report);
    cuda(&mut report);
    let chosen = device.resolve();
    if let Ok(device) = &chosen {
        report.fact("device", format!("{device:?}").to_lowercase());
        precisions(&mut report, *device);
    }
    if chosen.is_ok() && report.remedies.is_empty() {
        report.fact("missing", "nothing");
    }
    (report, chosen)
}

/// Checks that libtorch computes on `device`.
///
/// # Errors
/// If it does not: libtorch's error.
pub fn check(device: Device) -> Result<()> {
    product(device, Precision::Fp32).with_context(|| format!("libtorch cannot compute on {device:?}"))
}

/// Facts in two columns, followed by remedies.
#[derive(Debug, Default)]
pub struct Report {
    facts: Vec<(&'static str, String)>,
    remedies: Vec<String>,
}

impl Report {
    fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push((name, value.into()));
    }

    fn remedy(&mut self, remedy: impl Into<String>) {
        self.remedies.push(remedy.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.facts {
            writeln!(f, "{name:<9} {value}")?;
        }
        self.remedies.iter().try_for_each(|remedy| writeln!(f, "to fix    {remedy}"))
    }
}

fn threads(report: &mut Report) {
    let processors = available_parallelism().map_or(1, usize::from);
    let (within, between) = (tch::get_num_threads(), tch::get_num_interop_threads());
    // The usual reason why there are fewer threads than processors.
    let asked = std::env::var("OMP_NUM_THREADS")
        .map_or_else(|_| String::new(), |n| format!(" (OMP_NUM_THREADS={n})"));
    report.fact(
        "threads",
        format!("{within} within an operation{asked}, {between} between, {processors} processors"),
    );
}

fn cuda(report: &mut Report) {
    let driver = nvidia_driver();
    // This loads the library first: a CUDA query before that would make every later one fail.
    let devices = pixtok_torch::cuda_devices();
    report.fact(
        "cuda",
        match &devices {
            Ok(count) => format!("library loaded, {count} usable device(s)"),
            Err(_) => "this libtorch has no CUDA part".to_owned(),
        },
    );
    if let Ok(count) = devices {
        nccl(report, count);
    }
    match driver {
        Some(gpus) => {
            gpus.iter().for_each(|gpu| report.fact("gpu", gpu));
            match devices {
                Err(_) => {
                    report.remedy("there is an NVIDIA driver but no CUDA library: run `just setup cuda`")
                }
                Ok(0) => report.remedy(
                    "there is an NVIDIA driver, but libtorch sees no device: check CUDA_VISIBLE_DEVICES and \
                     `nvidia-smi`; this libtorch is made for CUDA 13 (driver 580 or newer)",
                ),
                Ok(_) => {}
            }
        }
        None => report.fact("gpu", "no NVIDIA driver; the CPU is used"),
    }
}

/// Reports whether several processes could use the GPUs. One process does not need the library.
fn nccl(report: &mut Report, devices: usize) {
    match pixtok_torch::load_nccl() {
        Ok(()) => report.fact("nccl", "libpixtok_cuda.so opens (for several processes on GPUs)"),
        Err(error) => {
            report.fact("nccl", "libpixtok_cuda.so does not open (for several processes on GPUs)");
            if devices > 1 {
                report.remedy(error);
            }
        }
    }
}

/// Name, driver version and memory of each GPU; `None` without a driver. The driver's own tool is
/// asked, because tch does not offer the name of a device.
fn nvidia_driver() -> Option<Vec<String>> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let Ok(output) = Command::new("nvidia-smi").args(query).output() else {
        let version = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
        return Some(version.lines().take(1).map(str::to_owned).collect());
    };
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    output.status.success().then_some(lines)
}

/// Reports whether both precisions work, how fast each is in a training convolution, and which of
/// them `auto` chooses.
fn precisions(report: &mut Report, device: Device) {
    let works = [Precision::Fp32, Precision::Bf16].map(|precision| product(device, precision));
    let secs = if works.iter().all(Result::is_ok) { convolution_secs(device).ok() } else { None };
    for (i, (name, works)) in ["fp32", "bf16"].into_iter().zip(&works).enumerate() {
        let words = match (works, secs) {
            (Err(error), _) => error.to_string(),
            (Ok(()), None) => "works".to_owned(),
            (Ok(()), Some(secs)) => format!(
                "works; one training convolution takes {:.1} ms{}",
                secs[i] * 1e3,
                if device == Device::Cpu { " on one thread" } else { "" }
            ),
        };
        report.fact(name, words);
    }
    let (auto, reason) = auto_precision(device);
    report.fact("auto", format!("train.precision = \"auto\" means {auto} here: {reason}"));
    if let Some(advice) = secs.and_then(|[fp32, bf16]| advice(auto, fp32, bf16)) {
        report.fact("advice", advice);
    }
    if works.iter().any(Result::is_err) {
        report.remedy(
            "fp32 and bf16 should both work here (the error is above): remove .venv/pixtok-setup and run `just setup` to reinstall \
             libtorch",
        );
    }
}

/// Advice if the measured times contradict `auto`. A busy machine can distort the measurement, so
/// this is only advice.
fn advice(auto: Precision, fp32: f64, bf16: f64) -> Option<String> {
    const CLEARLY: f64 = 1.5;
    let (other, ratio) = match auto {
        Precision::Fp32 => (Precision::Bf16, fp32 / bf16),
        Precision::Bf16 => (Precision::Fp32, bf16 / fp32),
    };
    (ratio > CLEARLY).then(|| {
        format!("{other} was {ratio:.1} times as fast as {auto} in this measurement; if a second run on an idle machine agrees, use --set train.precision={other}")
    })
}

/// Seconds in fp32 and bf16 for a 3×3 convolution of the quick start's network, forward and
/// backward. It takes the least of several alternating measurements on one thread, to reduce the
/// influence of other programs.
fn convolution_secs(device: Device) -> Result<[f64; 2], TorchError> {
    const TURNS: usize = 6;
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let secs = pixtok_torch::catching(|| {
        // In channels_last, the memory layout of training.
        let images = Tensor::rand([16, 64, 64, 16], (Kind::Float, device))
            .permute([0, 3, 1, 2])
            .set_requires_grad(true);
        let weights = Tensor::rand([16, 16, 3, 3], (Kind::Float, device)).set_requires_grad(true);
        let once = |precision| {
            let begun = Instant::now();
            let features = pixtok_torch::with_precision(precision, || {
                images.conv2d(&weights, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1)
            });
            features.sum(Kind::Float).backward();
            pixtok_torch::synchronize(device);
            begun.elapsed().as_secs_f64()
        };
        let turns = (0..TURNS).map(|_| [once(Precision::Fp32), once(Precision::Bf16)]);
        turns.fold([f64::INFINITY; 2], |least, turn| [least[0].min(turn[0]), least[1].min(turn[1])])
    });
    tch::set_num_threads(threads);
    secs
}

/// Multiplies two small matrices as a training would, and checks the result.
fn product(device: Device, precision: Precision) -> Result<(), TorchError> {
    const SIZE: i64 = 64;
    let (kind, sums) = pixtok_torch::catching(|| {
        let ones = Tensor::ones([SIZE, SIZE], (Kind::Float, device));
        let product = pixtok_torch::with_precision(precision, || ones.matmul(&ones));
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
    fn the_cpu_computes_in_both_precisions() {
        product(Device::Cpu, Precision::Fp32).unwrap();
        product(Device::Cpu, Precision::Bf16).unwrap();
    }

    #[test]
    fn a_measurement_advises_where_it_speaks_against_auto() {
        assert_eq!(advice(Precision::Fp32, 0.01, 0.1), None);
        assert_eq!(advice(Precision::Bf16, 0.01, 0.012), None);
        assert!(advice(Precision::Bf16, 0.01, 0.1).unwrap().contains("fp32 was 10.0 times"));
        assert!(convolution_secs(Device::Cpu).unwrap().iter().all(|&secs| secs > 0.0 && secs.is_finite()));
    }

    #[test]
    fn what_is_missing_comes_last() {
        let mut report = Report::default();
        report.fact("cpu", "fast");
        report.remedy("plug it in");
        assert_eq!(report.to_string(), "cpu       fast\nto fix    plug it in\n");
    }
}
