//! Choosing a device, and loading libtorch's CUDA library for it.

use std::fmt;
use std::str::FromStr;

use tch::{Cuda, Device};

use super::TorchError;
use super::shim::{check, message_of, px_compute_capability, px_cuda_model, px_load_cuda, px_load_nccl};

/// A device as the user writes it: `cpu`, `cuda`, `cuda:N` or `auto` (the first CUDA device,
/// otherwise the CPU).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA if there is a usable device, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("\"{text}\" is not a device; use cpu, cuda, cuda:N or auto")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// The device that the choice stands for on this machine.
    ///
    /// # Errors
    /// [`TorchError::NoDevice`] if CUDA is requested but absent, with what is missing and how to
    /// fix it.
    pub fn resolve(self) -> Result<Device, TorchError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if cuda_devices().is_ok_and(|n| n > 0) { Device::Cuda(0) } else { Device::Cpu }),
            Self::Cuda(index) => {
                let count = cuda_devices().map_err(TorchError::NoDevice)?;
                if index < count {
                    return Ok(Device::Cuda(index));
                }
                Err(TorchError::NoDevice(format!(
                    "cuda:{index} was requested, but {count} CUDA device(s) can be seen; check `nvidia-smi` and \
                     CUDA_VISIBLE_DEVICES, or use --device cpu"
                )))
            }
        }
    }
}

/// The number of CUDA devices. This loads libtorch's CUDA library first: any CUDA query before that
/// would make libtorch keep its stub for the rest of the process.
///
/// # Errors
/// If this libtorch has no CUDA library. The message says how to get it.
pub fn cuda_devices() -> Result<usize, String> {
    // SAFETY: no arguments; the shim catches every exception.
    check(unsafe { px_load_cuda() }).map_err(|error| {
        format!(
            "CUDA was requested, but this libtorch has no CUDA part ({error}); run `just setup cuda`, or use \
             --device cpu"
        )
    })?;
    Ok(usize::try_from(Cuda::device_count()).unwrap_or(0))
}

/// Opens `libpixtok_cuda.so`, through which several processes on GPUs exchange tensors (NCCL). This
/// loads libtorch's CUDA library first.
///
/// # Errors
/// If either library is missing or does not open. The message says how to get it.
pub fn load_nccl() -> Result<(), String> {
    cuda_devices()?;
    // SAFETY: no arguments; the shim catches every exception.
    message_of(unsafe { px_load_nccl() }).map_or(Ok(()), Err)
}

/// The compute capability of a CUDA device, major and minor; `None` if the device does not exist.
pub(super) fn compute_capability(index: usize) -> Option<(i32, i32)> {
    if cuda_devices().unwrap_or(0) <= index {
        return None;
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers outlive the call.
    check(unsafe { px_compute_capability(index.try_into().ok()?, &raw mut major, &raw mut minor) }).ok()?;
    Some((major, minor))
}

/// The manufacturer's name for a CUDA device; `None` if it is unknown.
pub fn cuda_model(index: usize) -> Option<String> {
    if cuda_devices().unwrap_or(0) <= index {
        return None;
    }
    let mut name = [0_u8; 256];
    // SAFETY: writes at most the given number of bytes, the last of them 0.
    check(unsafe { px_cuda_model(index.try_into().ok()?, name.as_mut_ptr().cast(), name.len()) }).ok()?;
    let end = name.iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// The device as the user writes it.
#[must_use]
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Waits until the device has finished all queued work. The CPU has no queue.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("gpu".parse::<DeviceChoice>().unwrap_err().contains("cuda:N"));
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }
}
