//! The safe face of `csrc/shim.cpp`: what tch does not bind. The only module with `unsafe` in it.
#![allow(unsafe_code)]

mod device;
mod fused;
mod precision;
mod shim;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

pub use device::{DeviceChoice, cuda_devices};
pub use fused::{AdamwStep, AdamwTensors, clip_grad_norm, fused_adamw};
pub use precision::{Precision, in_full_precision, set_deterministic, with_precision};

/// An error that libtorch reported.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TorchError {
    /// The device (or the CPU's allocator) has no memory left for a tensor.
    #[error("out of memory on the device: {0}")]
    OutOfMemory(String),
    /// A device was asked for that is not there.
    #[error("{0}")]
    NoDevice(String),
    /// Everything else, in libtorch's words.
    #[error("libtorch: {0}")]
    Other(String),
}

impl TorchError {
    fn from_message(message: &str) -> Self {
        // A tch panic shows the error's Debug form, in which line ends are escaped.
        let message = message.replace("\\n", "\n");
        let first = message.lines().next().unwrap_or_default().trim().to_owned();
        if message.contains("out of memory") || message.contains("can't allocate memory") {
            let asked = message.lines().find(|line| line.contains("ried to allocate")).unwrap_or(&first);
            Self::OutOfMemory(asked.trim().to_owned())
        } else {
            Self::Other(first)
        }
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` and turns a panic of tch, which is how its plain methods report libtorch's errors, into an error.
/// What `body` was changing must be given up after an error.
///
/// # Errors
/// [`TorchError::OutOfMemory`] when memory is what ran out.
pub fn catching<T>(body: impl FnOnce() -> T) -> Result<T, TorchError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                default(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    QUIET.set(outer);
    outcome.map_err(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        TorchError::from_message(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn memory_exhausted_is_told_apart() {
        let error = catching(|| Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(matches!(error, TorchError::OutOfMemory(_)), "{error:?}");
        let error = catching(|| Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3])).unwrap_err();
        assert!(matches!(error, TorchError::Other(_)), "{error:?}");
    }
}
