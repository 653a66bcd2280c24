//! Number formats: autocast, full float32, deterministic kernels.

use std::ffi::c_int;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};
use tch::Device;

use super::device::compute_capability;
use super::shim::{
    check, px_allow_tf32, px_autocast, px_autocast_enter, px_autocast_leave, px_deterministic,
};
use super::{Cpu, TorchError};

/// The number format of matrix products and convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_precision)]
pub enum Precision {
    /// float32 throughout.
    Fp32,
    /// bfloat16 under autocast. Parameters, losses and the quantizer stay float32.
    Bf16,
}

fn no_precision(text: &str) -> String {
    format!("\"{text}\" is not a precision; use fp32 or bf16")
}

/// The number format as a config states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum PrecisionChoice {
    /// The faster one on the device, see [`PrecisionChoice::resolve`].
    #[default]
    Auto,
    /// float32.
    Fp32,
    /// bfloat16.
    Bf16,
}

/// The least compute capability with which CUDA devices are fast in bf16.
const BF16_CAPABILITY: (i32, i32) = (8, 0);

impl PrecisionChoice {
    /// The precision on `device`. `Auto` only looks at the device and measures nothing, so a busy
    /// machine cannot change the outcome.
    #[must_use]
    pub fn resolve(self, device: Device) -> Precision {
        match self {
            Self::Auto => auto_precision(device).0,
            Self::Fp32 => Precision::Fp32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self::Fp32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// The precision that [`PrecisionChoice::Auto`] stands for on `device`, and the reason in words.
#[must_use]
pub fn auto_precision(device: Device) -> (Precision, String) {
    let (fast, reason) = match device {
        Device::Cuda(index) => match compute_capability(index) {
            Some(own @ (major, minor)) => {
                let fast = own >= BF16_CAPABILITY;
                let beside = if fast { "bf16 is fast from 8.0 on" } else { "fast bf16 needs 8.0" };
                let name = super::device_name(device);
                (fast, format!("{name} has compute capability {major}.{minor}, and {beside}"))
            }
            // `--dry-run` estimates for CUDA even on machines without it. Of the devices that
            // libtorch supports (7.5 and later), only those below 8.0 lack fast bf16.
            None => (true, "most CUDA devices are faster in bf16".to_owned()),
        },
        _ => Cpu::here().fast_bf16(),
    };
    (if fast { Precision::Bf16 } else { Precision::Fp32 }, reason)
}

/// Sets this thread's autocast state for both device types, and restores it on drop.
struct AutocastState {
    previous: [c_int; 2],
}

impl AutocastState {
    fn set(enabled: bool) -> Self {
        let mut previous = [0; 2];
        for (cuda, old) in previous.iter_mut().enumerate() {
            // SAFETY: `old` outlives the call. Setting the flag cannot fail for these two device
            // types.
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

/// Runs `body` under the autocast that `precision` means. Must not be nested.
pub fn with_precision<T>(precision: Precision, body: impl FnOnce() -> T) -> T {
    struct Region;
    impl Drop for Region {
        fn drop(&mut self) {
            // SAFETY: no arguments; clears the cached bf16 weights.
            let left = check(unsafe { px_autocast_leave() });
            debug_assert!(left.is_ok());
        }
    }
    // SAFETY: no arguments; increments a counter.
    let entered = check(unsafe { px_autocast_enter() });
    debug_assert!(entered.is_ok());
    let _region = Region;
    let _state = AutocastState::set(precision == Precision::Bf16);
    body()
}

/// Runs `body` without autocast.
pub fn without_autocast<T>(body: impl FnOnce() -> T) -> T {
    let _state = AutocastState::set(false);
    body()
}

/// Makes fp32 mean float32 in this process: by default, cuDNN's convolutions round to TF32.
///
/// # Errors
/// If libtorch fails.
pub fn forbid_tf32() -> Result<(), TorchError> {
    let mut ignored = 0;
    // SAFETY: the pointer outlives the call.
    check(unsafe { px_allow_tf32(0, &raw mut ignored) })
}

/// Allows or forbids rounding float32 products and convolutions to TF32, and restores the setting
/// on drop.
struct Tf32 {
    previous: c_int,
}

impl Tf32 {
    fn set(on: bool) -> Self {
        let mut previous = 0;
        // SAFETY: the pointer outlives the call. Setting a flag cannot fail.
        let set = check(unsafe { px_allow_tf32(if on { 3 } else { 0 }, &raw mut previous) });
        debug_assert!(set.is_ok());
        Self { previous }
    }
}

impl Drop for Tf32 {
    fn drop(&mut self) {
        let mut ignored = 0;
        // SAFETY: as in `set`.
        let restored = check(unsafe { px_allow_tf32(self.previous, &raw mut ignored) });
        debug_assert!(restored.is_ok());
    }
}

/// Runs `body` in full float32: no autocast, no TF32.
pub fn in_full_precision<T>(body: impl FnOnce() -> T) -> T {
    let _tf32 = Tf32::set(false);
    let _state = AutocastState::set(false);
    body()
}

/// Runs `body` with TF32 on CUDA allowed or forbidden. [`in_full_precision`] inside it still
/// forbids TF32.
pub fn with_tf32<T>(on: bool, body: impl FnOnce() -> T) -> T {
    let _tf32 = Tf32::set(on);
    body()
}

/// Switches to deterministic kernels (and switches cuDNN's benchmark off), or to the fastest ones.
///
/// # Errors
/// If libtorch fails.
pub fn set_deterministic(on: bool) -> Result<(), TorchError> {
    // SAFETY: sets a flag.
    check(unsafe { px_deterministic(c_int::from(on)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

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
    fn names_are_those_of_configs() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.to_string());
            assert_eq!(PrecisionChoice::from(precision).to_string(), precision.to_string());
        }
        assert_eq!(PrecisionChoice::default().to_string(), "auto");
        assert!("fp16".parse::<Precision>().unwrap_err().ends_with("use fp32 or bf16"));
    }

    #[test]
    fn auto_goes_by_the_device() {
        let (precision, reason) = auto_precision(Device::Cpu);
        assert_eq!(precision == Precision::Bf16, Cpu::here().fast_bf16().0, "{reason}");
        assert_eq!(PrecisionChoice::Auto.resolve(Device::Cpu), precision);
        assert_eq!(PrecisionChoice::Fp32.resolve(Device::Cpu), Precision::Fp32);
        assert_eq!(PrecisionChoice::Bf16.resolve(Device::Cpu), Precision::Bf16);
    }

    #[test]
    fn tf32_is_allowed_inside_alone() {
        let allowed = || Tf32::set(false).previous;
        forbid_tf32().unwrap();
        with_tf32(true, || {
            let inside = Tf32::set(true);
            assert_eq!(inside.previous, 3);
            in_full_precision(|| assert_eq!(allowed(), 0));
        });
        assert_eq!(allowed(), 0);
    }
}
