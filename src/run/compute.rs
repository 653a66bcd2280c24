//! Where a command computes, and which weights it uses.

use std::thread::available_parallelism;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::libtorch::libtorch_version;
use super::{Tell, as_text};
use crate::checkpoint::Which;
use crate::layers::Extension;
use crate::train::Weights;
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_torch::{
    DeviceChoice, Precision, cpu_capability, cuda_devices, device_name, forbid_tf32, instructions,
    limit_spinning_when_busy,
};

/// Where and how to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// The device.
    #[serde(with = "as_text")]
    pub device: DeviceChoice,
    /// Number of libtorch's CPU threads; absent: libtorch's default.
    pub threads: Option<i32>,
}

/// How a trained tokenizer is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// The checkpoint of a run.
    #[serde(with = "as_text")]
    pub checkpoint: Which,
    /// The weights of the checkpoint.
    pub weights: Weights,
    /// The precision of encoder and decoder.
    pub precision: Precision,
    /// What is done with positions at sizes beyond the trained one; absent: what the config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Extension>,
}

impl Compute {
    /// What one of several processes uses. Each of a host takes a CUDA device of its own, as far as
    /// there are enough. Without a thread count of the user's own, processes that may use the same
    /// processors share them.
    #[must_use]
    pub fn shared(self, world: &World) -> Self {
        let device = match self.device {
            DeviceChoice::Auto | DeviceChoice::Cuda(0) if world.size() > 1 => own_device(self.device, world),
            other => other,
        };
        let chosen =
            ["OMP_NUM_THREADS", "MKL_NUM_THREADS"].iter().any(|name| std::env::var_os(name).is_some());
        let sharing = world.on_these_processors() as usize;
        if self.threads.is_some() || chosen || sharing == 1 {
            return Self { device, ..self };
        }
        let each = (available_parallelism().map_or(1, usize::from) / sharing).max(1);
        Self { device, threads: i32::try_from(each).ok() }
    }

    /// Resolves the device and sets the thread count. On the CPU it also limits spinning when the
    /// machine is busy.
    ///
    /// # Errors
    /// When the device does not exist.
    pub fn start(&self, tell: Tell) -> Result<Device> {
        let device = self.device.resolve()?;
        forbid_tf32()?;
        if let Some(threads) = self.threads.or_else(threads_of_quota) {
            tch::set_num_threads(threads);
        }
        if !device.is_cuda() {
            limit_spinning_when_busy();
        }
        tell.detail(|| {
            format!(
                "libtorch {} on {}, {} thread(s); kernels: {} in libtorch, {} in pixtok",
                libtorch_version(),
                device_name(device),
                tch::get_num_threads(),
                cpu_capability(),
                instructions().name()
            )
        });
        Ok(device)
    }
}

/// The CUDA device of this process, if there are any.
fn own_device(choice: DeviceChoice, world: &World) -> DeviceChoice {
    match cuda_devices() {
        Ok(devices) if devices > 0 => DeviceChoice::Cuda(world.local_rank() as usize % devices),
        _ => choice,
    }
}

/// The number of threads that a container's CPU quota allows, if it is lower than libtorch's
/// default, the number of visible processors. `None` if the user has set the thread count or has
/// bound threads to processors: a bound thread sees only its own processors.
fn threads_of_quota() -> Option<i32> {
    let chosen = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY"];
    if chosen.iter().any(|name| std::env::var_os(name).is_some()) {
        return None;
    }
    let processors = i32::try_from(available_parallelism().ok()?.get()).ok()?;
    (processors < tch::get_num_threads()).then_some(processors)
}

impl Default for ModelChoice {
    /// The raw weights of the last checkpoint in float32.
    fn default() -> Self {
        Self { checkpoint: Which::Last, weights: Weights::Raw, precision: Precision::Fp32, positions: None }
    }
}

impl ModelChoice {
    /// Refuses any precision but float32 where there is no choice, for the reason `why`.
    ///
    /// # Errors
    /// [`Misuse`] when the precision is not float32.
    pub fn require_fp32(&self, why: &str) -> Result<()> {
        if self.precision == Precision::Fp32 {
            return Ok(());
        }
        Err(Misuse(format!("--precision is {}; {why}, so leave it out", self.precision)).into())
    }
}
