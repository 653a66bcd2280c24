//! Tensors on their way from host memory to a device.

use std::ffi::c_int;

use tch::{Device, Tensor};

use super::TorchError;
use super::shim::{check, px_host_bytes};

/// The memory of a uint8 tensor on the CPU, which is filled before it is used as a tensor.
#[derive(Debug)]
pub struct HostBytes {
    tensor: Tensor,
}

impl HostBytes {
    /// Memory with arbitrary content for a tensor of this shape. [`HostBytes::into_rows`] counts
    /// along the first axis. For a CUDA device the memory is pinned, so that [`to_device_async`]
    /// need not wait.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(shape: &[i64], device: Device) -> Result<Self, TorchError> {
        let mut tensor = std::ptr::null_mut();
        // SAFETY: `shape` is read only during the call; `tensor` receives a new tensor when the
        // call succeeds.
        check(unsafe {
            px_host_bytes(
                shape.as_ptr(),
                shape.len() as c_int,
                c_int::from(device.is_cuda()),
                &raw mut tensor,
            )
        })?;
        // SAFETY: success means that `tensor` points to a tensor that we own.
        Ok(Self { tensor: unsafe { Tensor::from_ptr(tensor) } })
    }

    /// All bytes, row-major.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.tensor.numel();
        if length == 0 {
            return &mut [];
        }
        // SAFETY: the shim made a contiguous uint8 tensor with this many elements on the CPU.
        // Foreign code wrote its content, so every byte is initialised. No other tensor shares the
        // memory: the tensor leaves the struct only by value, and the slice keeps the struct
        // borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.tensor.data_ptr().cast(), length) }
    }

    /// The first `rows` rows of the tensor, without a copy.
    ///
    /// # Errors
    /// If the tensor has fewer rows.
    pub fn into_rows(self, rows: i64) -> Result<Tensor, TorchError> {
        Ok(self.tensor.f_narrow(0, 0, rows)?)
    }
}

/// Copies `tensor`, which is on the CPU, to `device`. A copy from pinned memory to CUDA is only
/// queued: later work on the device waits for it, and the program continues. `tensor` may be
/// dropped at once, because libtorch's allocator of pinned memory reuses a block only after the
/// queued copies from it are done.
pub fn to_device_async(tensor: &Tensor, device: Device) -> Tensor {
    tensor.to_device_(device, tensor.kind(), /* non_blocking */ true, /* copy */ false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn what_is_written_is_the_tensor() {
        let mut bytes = HostBytes::new(&[4, 3, 5, 7], Device::Cpu).unwrap();
        bytes.bytes_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
        let rows = bytes.into_rows(2).unwrap();
        assert_eq!((rows.size(), rows.kind()), (vec![2, 3, 5, 7], Kind::Uint8));
        let same = to_device_async(&rows, Device::Cpu);
        let flat: Vec<u8> = Vec::try_from(same.flatten(0, -1)).unwrap();
        assert!(flat.into_iter().eq((0..210).map(|at| (at % 251) as u8)));
    }

    #[test]
    fn nothing_and_too_much_are_told() {
        assert!(HostBytes::new(&[0, 3, 5, 7], Device::Cpu).unwrap().bytes_mut().is_empty());
        assert!(HostBytes::new(&[2, 3], Device::Cpu).unwrap().into_rows(3).is_err());
        let error = HostBytes::new(&[1 << 50], Device::Cpu).unwrap_err();
        assert!(matches!(error, TorchError::OutOfMemory(_)), "{error}");
    }
}
