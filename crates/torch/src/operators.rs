//! Tests that each operator has the kernels that it should have.

use std::ffi::CString;

use tch::Device;

use super::shim::{check, px_kernels};
use super::{fuses_gated_silu, fuses_norm_silu};

const LAYERS: [&str; 3] = ["AutogradCPU", "CompositeImplicitAutograd", "Tracer"];

/// Dispatch keys for which each operator has its own kernel.
const OPERATORS: [(&str, &[&str]); 5] = [
    ("pixtok::norm_silu", &LAYERS),
    ("pixtok::rms_norm", &LAYERS),
    ("pixtok::gated_silu", &LAYERS),
    ("pixtok::upsample_conv", &LAYERS),
    ("pixtok::nearest", &["AutocastCPU", "AutocastCUDA", "CPU", "CompositeExplicitAutograd", "Tracer"]),
];

/// Whether the dispatcher has a kernel for exactly this key, and whether a call with this key finds
/// any kernel.
fn kernels(name: &str, key: &str) -> (bool, bool) {
    let (name, key) = (CString::new(name).unwrap(), CString::new(key).unwrap());
    let (mut own, mut any) = (0, 0);
    // SAFETY: two C strings and two pointers that outlive the call.
    check(unsafe { px_kernels(name.as_ptr(), key.as_ptr(), &raw mut own, &raw mut any) }).unwrap();
    (own != 0, any != 0)
}

#[test]
fn each_operator_is_registered_for_every_device_and_state() {
    for (name, own) in OPERATORS {
        for key in own {
            assert!(kernels(name, key).0, "{name} has no kernel for {key}");
        }
        for key in ["CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "AutocastCPU", "AutocastCUDA", "Tracer"] {
            assert!(kernels(name, key).1, "a call of {name} with {key} fails");
        }
    }
}

#[test]
fn what_is_said_to_be_fused_has_a_kernel_with_its_derivative() {
    for (device, key) in [(Device::Cpu, "AutogradCPU"), (Device::Cuda(0), "AutogradCUDA")] {
        assert_eq!(fuses_norm_silu(device), kernels("pixtok::norm_silu", key).0, "{device:?}");
        assert_eq!(fuses_gated_silu(device), kernels("pixtok::gated_silu", key).0, "{device:?}");
    }
}
