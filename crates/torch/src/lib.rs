//! The safe interface to `csrc/`: what tch does not bind. Apart from memory maps and inner loops
//! over pixels, this is the only crate with `unsafe`.
#![allow(unsafe_code)]

mod activation;
mod cpu;
mod device;
mod fused;
mod gated;
mod grad;
mod host;
mod memory;
mod nearest;
mod noise;
mod norm;
#[cfg(test)]
mod operators;
mod precision;
mod process_group;
mod random;
mod recompute;
mod rms_norm;
mod shim;
mod spinning;
pub mod tensors;
mod trace;
mod upsample;

pub use activation::leaky_relu;
pub use cpu::{Cpu, cpu_capability, instructions};
pub use device::{DeviceChoice, cuda_devices, cuda_model, device_name, load_nccl, synchronize};
pub use fused::{AdamwStep, AdamwTensors, clip_grad_norm, drop_grads, fused_adamw};
pub use gated::{fuses_gated_silu, gated_silu};
pub use grad::no_grad;
pub use host::{HostBytes, HostRow, SplitBytes, to_device_async};
pub use memory::{keep_freed_memory, use_one_heap};
pub use nearest::nearest;
pub use noise::Noise;
pub use norm::{fuses_norm_silu, norm_silu};
pub use precision::{
    Precision, PrecisionChoice, auto_precision, forbid_tf32, in_full_precision, set_deterministic,
    with_precision, with_tf32, without_autocast,
};
pub use process_group::{BucketSizes, GradientBuckets, Group, PendingSum, Reach, Store};
pub use random::{fill_gaussian, initialise_gaussian, reseed};
pub use recompute::{Shared, recomputed};
pub use rms_norm::rms_norm;
pub use spinning::limit_spinning_when_busy;
pub use trace::abandon_trace;
pub use upsample::upsample_conv;

use memory::{forget_refusals, memory_ran_out};
use pixtok_base::{Class, Classified, panics};

/// The version of libtorch that pixtok is built for.
pub const LIBTORCH: &str = env!("PIXTOK_LIBTORCH");

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// An error that libtorch reported.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TorchError {
    /// The device has not enough memory for a tensor.
    #[error(
        "out of memory ({0}); lower train.batch_size or eval.batch_size (`pixtok eval --batch-size`), raise train.micro_batches (the step in \
         smaller parts), set model.checkpoint_blocks, or lower data.image_size or the model's and codebook's size"
    )]
    OutOfMemory(String),
    /// A requested device does not exist.
    #[error("{0}")]
    NoDevice(String),
    /// Any other error, in libtorch's words.
    #[error("libtorch: {0}")]
    Other(String),
    /// A panic that does not come from libtorch: its message and place.
    #[error("a bug in pixtok: {0} ({1}); please report it")]
    Bug(String, String),
}

impl Classified for TorchError {
    fn class(&self) -> Class {
        match self {
            Self::NoDevice(_) => Class::Misuse,
            Self::OutOfMemory(_) | Self::Other(_) | Self::Bug(..) => Class::Failed,
        }
    }
}

impl TorchError {
    fn from_message(message: &str) -> Self {
        match memory_ran_out(message) {
            Some(asked) => Self::OutOfMemory(asked),
            None => Self::Other(message.lines().next().unwrap_or_default().trim().to_owned()),
        }
    }
}

impl From<tch::TchError> for TorchError {
    fn from(error: tch::TchError) -> Self {
        Self::from_message(&error.to_string())
    }
}

/// Runs `body` and converts a panic of tch to an error. tch's plain methods report libtorch's
/// errors as panics. After an error, discard whatever `body` was changing.
///
/// # Errors
/// [`TorchError::OutOfMemory`] if memory ran out.
pub fn catching<T>(body: impl FnOnce() -> T) -> Result<T, TorchError> {
    forget_refusals();
    panics::catch(body).map_err(|panic| match words_of_libtorch(&panic.message) {
        Some(words) => TorchError::from_message(&words),
        None => TorchError::Bug(panic.message, panic.location),
    })
}

/// libtorch's words in the message of a panic; `None` if the panic did not come from libtorch.
fn words_of_libtorch(message: &str) -> Option<String> {
    // tch panics with the error's Debug form, in which line ends are escaped.
    let (_, words) = message.split_once("Torch(\"")?;
    Some(words.trim_end_matches("\")").replace("\\n", "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn memory_exhausted_is_told_apart() {
        let huge = || Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu));
        let error = catching(huge).unwrap_err();
        assert!(
            matches!(&error, TorchError::OutOfMemory(asked) if asked == "4503599627370496 bytes at once"),
            "{error}"
        );
        let overflow = catching(|| Tensor::zeros([1 << 62, 8], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(matches!(overflow, TorchError::OutOfMemory(_)), "{overflow:?}");
        // An error that only mentions memory does not count, nor one that follows a failure that
        // was already handled elsewhere.
        let words = TorchError::from_message("tried to allocate a name, and the pool is out of memory");
        assert!(matches!(words, TorchError::Other(_)), "{words:?}");
        let _ = Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu)).unwrap_err();
        let error = catching(|| Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3])).unwrap_err();
        assert!(matches!(error, TorchError::Other(_)), "{error:?}");
    }

    #[test]
    fn a_refusal_on_another_thread_is_not_ours() {
        std::thread::spawn(|| Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu)).is_err())
            .join()
            .unwrap();
        let shape = Tensor::zeros([2], (Kind::Float, Device::Cpu)).f_view([3]).unwrap_err();
        assert!(matches!(TorchError::from(shape), TorchError::Other(_)));
    }
}
