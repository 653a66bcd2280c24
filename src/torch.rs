//! The safe face of `csrc/shim.cpp`: what tch does not bind. The only file with `unsafe` in it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::Once;
use std::{cell::Cell, fmt};

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn px_free(message: *mut c_char);
    fn px_load_cuda() -> *mut c_char;
    fn px_autocast(cuda: c_int, enabled: c_int, previous: *mut c_int) -> *mut c_char;
    fn px_autocast_enter() -> *mut c_char;
    fn px_autocast_leave() -> *mut c_char;
    fn px_allow_tf32(allow: c_int, previous: *mut c_int) -> *mut c_char;
    fn px_deterministic(on: c_int) -> *mut c_char;
    fn px_fused_adamw(
        params: *mut *mut C_tensor,
        grads: *mut *mut C_tensor,
        first: *mut *mut C_tensor,
        second: *mut *mut C_tensor,
        steps: *mut *mut C_tensor,
        n: c_int,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        found_inf: *mut C_tensor,
    ) -> *mut c_char;
    fn px_clip_grad_norm(
        grads: *mut *mut C_tensor,
        n: c_int,
        max_norm: f64,
        total: *mut *mut C_tensor,
    ) -> *mut c_char;
}

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

fn check(message: *mut c_char) -> Result<(), TorchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a C string that it made with strdup and that is ours to free.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the same pointer, not used after.
    unsafe { px_free(message) };
    Err(TorchError::from_message(&text))
}

/// A device as the user writes it: `cpu`, `cuda`, `cuda:N` or `auto` (the first CUDA device, else the CPU).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA when a usable one is there.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
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
                .ok_or_else(|| format!("\"{text}\" is no device; use cpu, cuda, cuda:N or auto")),
        }
    }
}

impl DeviceChoice {
    /// Finds the device.
    ///
    /// # Errors
    /// [`TorchError::NoDevice`] when CUDA is asked for and absent, with what is missing and how to mend it.
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
                    "cuda:{index} was asked for and {count} CUDA device(s) can be seen; check `nvidia-smi` and \
                     CUDA_VISIBLE_DEVICES, or use --device cpu"
                )))
            }
        }
    }
}

/// How many CUDA devices there are. Loads libtorch's CUDA half first: any CUDA query before that would make
/// libtorch keep its stub for the life of the process.
///
/// # Errors
/// When this libtorch has no CUDA half; the message says how to get one.
pub fn cuda_devices() -> Result<usize, String> {
    // SAFETY: no arguments; the shim catches every exception.
    check(unsafe { px_load_cuda() }).map_err(|error| {
        format!(
            "CUDA was asked for and this libtorch has no CUDA part ({error}); run `just setup cuda`, or use \
             --device cpu"
        )
    })?;
    Ok(usize::try_from(Cuda::device_count()).unwrap_or(0))
}

/// The number format of matrix products and convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32 throughout.
    Fp32,
    /// bfloat16 under autocast; parameters, losses and the quantizer stay float32.
    #[default]
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("\"{text}\" is no precision; use fp32 or bf16")),
        }
    }
}

/// Sets this thread's autocast state for both device types until dropped.
struct AutocastState {
    previous: [c_int; 2],
}

impl AutocastState {
    fn set(enabled: bool) -> Self {
        let mut previous = [0; 2];
        for (cuda, old) in previous.iter_mut().enumerate() {
            // SAFETY: `old` outlives the call. Setting a flag cannot fail for the two device types named.
            let set = check(unsafe { px_autocast(cuda as c_int, c_int::from(enabled), old) });
            debug_assert!(set.is_ok());
        }
        Self { previous }
    }
}

impl Drop for AutocastState {
    fn drop(&mut self) {
        let mut ignored = 0;
        for (cuda, old) in self.previous.iter().enumerate() {
            // SAFETY: as in `set`.
            let restored = check(unsafe { px_autocast(cuda as c_int, *old, &raw mut ignored) });
            debug_assert!(restored.is_ok());
        }
    }
}

/// Runs `body` with autocast as `precision` says. Not for nesting.
pub fn with_precision<T>(precision: Precision, body: impl FnOnce() -> T) -> T {
    struct Region;
    impl Drop for Region {
        fn drop(&mut self) {
            // SAFETY: no arguments; drops the cached bf16 weights.
            let left = check(unsafe { px_autocast_leave() });
            debug_assert!(left.is_ok());
        }
    }
    // SAFETY: no arguments; a counter.
    let entered = check(unsafe { px_autocast_enter() });
    debug_assert!(entered.is_ok());
    let _region = Region;
    let _state = AutocastState::set(precision == Precision::Bf16);
    body()
}

/// Runs `body` in full float32: no autocast, no TF32.
pub fn in_full_precision<T>(body: impl FnOnce() -> T) -> T {
    struct Tf32 {
        previous: c_int,
    }
    impl Drop for Tf32 {
        fn drop(&mut self) {
            let mut ignored = 0;
            // SAFETY: the pointer outlives the call.
            let restored = check(unsafe { px_allow_tf32(self.previous, &raw mut ignored) });
            debug_assert!(restored.is_ok());
        }
    }
    let mut tf32 = Tf32 { previous: 0 };
    // SAFETY: the pointer outlives the call.
    let set = check(unsafe { px_allow_tf32(0, &raw mut tf32.previous) });
    debug_assert!(set.is_ok());
    let _state = AutocastState::set(false);
    body()
}

/// Deterministic kernels on (and cuDNN's benchmark off), or the fastest ones.
///
/// # Errors
/// When libtorch refuses.
pub fn set_deterministic(on: bool) -> Result<(), TorchError> {
    // SAFETY: plain flag.
    check(unsafe { px_deterministic(c_int::from(on)) })
}

/// What [`fused_adamw`] works on, one entry per parameter, all on one device.
#[derive(Debug)]
pub struct AdamwTensors<'a> {
    /// Parameters, changed in place.
    pub params: &'a [Tensor],
    /// Their gradients.
    pub grads: &'a [Tensor],
    /// First moments, changed in place.
    pub first: &'a [Tensor],
    /// Second moments, changed in place.
    pub second: &'a [Tensor],
    /// Steps taken, float scalars, changed in place.
    pub steps: &'a [Tensor],
}

/// Hyperparameters of one AdamW step (Loshchilov & Hutter 2019, arXiv 1711.05101).
#[derive(Debug, Clone, Copy)]
pub struct AdamwStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

/// One AdamW step over all parameters in one fused call; skipped on the device where `found_inf` (a float scalar)
/// is not 0.
///
/// # Errors
/// When the lists differ in length or libtorch refuses (shapes, devices).
pub fn fused_adamw(
    tensors: &AdamwTensors<'_>,
    step: AdamwStep,
    found_inf: Option<&Tensor>,
) -> Result<(), TorchError> {
    let n = tensors.params.len();
    let lengths = [tensors.grads.len(), tensors.first.len(), tensors.second.len(), tensors.steps.len()];
    if lengths.iter().any(|&length| length != n) {
        return Err(TorchError::Other(format!("AdamW over {n} parameters got lists of {lengths:?} tensors")));
    }
    let (mut p, mut g) = (pointers(tensors.params), pointers(tensors.grads));
    let (mut m, mut v, mut s) = (pointers(tensors.first), pointers(tensors.second), pointers(tensors.steps));
    // SAFETY: each array holds n live tensors, which the borrows keep alive through the call.
    check(unsafe {
        px_fused_adamw(
            p.as_mut_ptr(),
            g.as_mut_ptr(),
            m.as_mut_ptr(),
            v.as_mut_ptr(),
            s.as_mut_ptr(),
            n as c_int,
            step.lr,
            step.betas.0,
            step.betas.1,
            step.weight_decay,
            step.eps,
            found_inf.map_or(std::ptr::null_mut(), |tensor| tensor.as_ptr().cast_mut()),
        )
    })
}

/// The l2 norm over all gradients together (a float scalar, left on the device); when `max_norm` > 0 the gradients
/// are scaled in place by min(1, max_norm / (norm + 1e-6)), as `torch.nn.utils.clip_grad_norm_` does.
///
/// # Errors
/// When libtorch refuses.
pub fn clip_grad_norm(grads: &[Tensor], max_norm: f64) -> Result<Tensor, TorchError> {
    let mut pointers = pointers(grads);
    let mut total = std::ptr::null_mut();
    // SAFETY: the array holds live tensors; `total` receives a new tensor when the call succeeds.
    check(unsafe {
        px_clip_grad_norm(pointers.as_mut_ptr(), grads.len() as c_int, max_norm, &raw mut total)
    })?;
    // SAFETY: success means that `total` points to a tensor that is ours.
    Ok(unsafe { Tensor::from_ptr(total) })
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
    use tch::Kind;

    fn product_kind() -> Kind {
        let x = Tensor::ones([3, 3], (Kind::Float, Device::Cpu));
        x.matmul(&x).kind()
    }

    #[test]
    fn precision_holds_inside_and_ends_after() {
        assert_eq!(product_kind(), Kind::Float);
        with_precision(Precision::Bf16, || {
            assert_eq!(product_kind(), Kind::BFloat16);
            in_full_precision(|| assert_eq!(product_kind(), Kind::Float));
            assert_eq!(product_kind(), Kind::BFloat16);
        });
        assert_eq!(product_kind(), Kind::Float);
    }

    #[test]
    fn found_inf_skips_the_step() {
        let tensor = || [Tensor::ones([2, 3], (Kind::Float, Device::Cpu))];
        let (params, grads, first, second) = (tensor(), tensor(), tensor(), tensor());
        let steps = [Tensor::zeros([], (Kind::Float, Device::Cpu))];
        let tensors =
            AdamwTensors { params: &params, grads: &grads, first: &first, second: &second, steps: &steps };
        let step = AdamwStep { lr: 0.1, betas: (0.9, 0.95), weight_decay: 0.0, eps: 1e-8 };
        fused_adamw(&tensors, step, Some(&Tensor::from(1f32))).unwrap();
        assert_eq!(params[0], Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
        assert_eq!(f64::try_from(&steps[0]).unwrap(), 0.0);
        fused_adamw(&tensors, step, Some(&Tensor::from(0f32))).unwrap();
        assert_ne!(params[0], Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
        assert_eq!(f64::try_from(&steps[0]).unwrap(), 1.0);
    }

    #[test]
    fn memory_exhausted_is_told_apart() {
        let error = catching(|| Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(matches!(error, TorchError::OutOfMemory(_)), "{error:?}");
        let error = catching(|| Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3])).unwrap_err();
        assert!(matches!(error, TorchError::Other(_)), "{error:?}");
    }

    #[test]
    fn devices_parse() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("gpu".parse::<DeviceChoice>().unwrap_err().contains("cuda:N"));
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }
}
