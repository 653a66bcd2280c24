//! Tensors on their way between host memory and a device.

use std::ffi::c_int;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use tch::{Device, Tensor};

use super::TorchError;
use super::shim::{check, px_copy_async, px_host_bytes};

/// The memory of a uint8 tensor on the CPU, which is filled before it is used as a tensor.
#[derive(Debug)]
pub struct HostBytes {
    tensor: Tensor,
}

/// A tensor whose rows are out, each as a [`HostRow`].
#[derive(Debug)]
pub struct SplitBytes {
    whole: Arc<Whole>,
}

/// The memory of one row, which one thread at a time has to itself.
#[derive(Debug)]
pub struct HostRow {
    whole: Arc<Whole>,
    /// Of its bytes.
    range: Range<usize>,
}

/// A tensor that its rows keep alive.
struct Whole(Tensor);

impl fmt::Debug for Whole {
    // Not the tensor's own, which reads numbers that another thread may be writing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole")
    }
}

// SAFETY: Through a shared `Whole` only the address of the tensor's memory is asked for, which
// changes nothing. It is taken out by the only owner, and dropped by the last.
unsafe impl Sync for Whole {}

impl HostBytes {
    /// Arbitrary bytes for a tensor of this shape, whose first axis is that of its rows. For a CUDA
    /// device the memory is pinned, so that [`to_device_async`] need not wait.
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

    /// Its rows, in order, to be filled by any threads.
    #[must_use]
    pub fn split(self) -> (SplitBytes, Vec<HostRow>) {
        let (rows, total) = (self.rows(), self.tensor.numel());
        let (whole, bytes) = (Arc::new(Whole(self.tensor)), total.checked_div(rows).unwrap_or(0));
        let row = |row| HostRow { whole: Arc::clone(&whole), range: row * bytes..(row + 1) * bytes };
        let rows = (0..rows).map(row).collect();
        (SplitBytes { whole }, rows)
    }

    fn rows(&self) -> usize {
        self.tensor.size().first().map_or(0, |&rows| rows as usize)
    }

    /// The first `rows` rows of the tensor, without a copy.
    ///
    /// # Errors
    /// If the tensor has fewer rows.
    pub fn into_rows(self, rows: i64) -> Result<Tensor, TorchError> {
        Ok(self.tensor.f_narrow(0, 0, rows)?)
    }
}

impl SplitBytes {
    /// The whole, once every row is back.
    ///
    /// # Errors
    /// When `rows` are not all its own, in order.
    pub fn join(self, rows: Vec<HostRow>) -> Result<HostBytes, TorchError> {
        let lost = || TorchError::Other("the rows of a batch are not all there, in order".to_owned());
        let mut end = 0;
        for HostRow { whole, range } in rows {
            if !Arc::ptr_eq(&whole, &self.whole) || range.start != end {
                return Err(lost());
            }
            end = range.end;
        }
        let Whole(tensor) = Arc::try_unwrap(self.whole).map_err(|_| lost())?;
        if end == tensor.numel() { Ok(HostBytes { tensor }) } else { Err(lost()) }
    }
}

impl AsMut<[u8]> for HostRow {
    fn as_mut(&mut self) -> &mut [u8] {
        if self.range.is_empty() {
            return &mut [];
        }
        let start = self.whole.0.data_ptr().cast::<u8>();
        // SAFETY: the shim made a contiguous uint8 tensor on the CPU, of which the range is a part;
        // what it holds came from foreign code, so any bytes are bytes. The ranges of other rows do
        // not overlap it, and the tensor itself can be reached only once no row is left; the slice
        // keeps this one borrowed.
        unsafe { std::slice::from_raw_parts_mut(start.add(self.range.start), self.range.len()) }
    }
}

/// `tensor`, which is on the CPU, on `device`. To CUDA the copy from pinned memory is only ordered:
/// what uses its result on the device comes after it, and the program goes on. `tensor` may be
/// dropped at once, since libtorch's allocator of pinned memory gives a block out again only when
/// the copies that were ordered from it are done.
pub fn to_device_async(tensor: &Tensor, device: Device) -> Tensor {
    tensor.to_device_(device, tensor.kind(), /* non_blocking */ true, /* copy */ false)
}

/// A contiguous tensor of arbitrary numbers in host memory, with the shape and type of `tensor`. If
/// that is on a CUDA device, the memory is pinned.
pub(super) fn host_memory_for(tensor: &Tensor) -> Result<Tensor, TorchError> {
    let bytes = (tensor.numel() * tensor.kind().elt_size_in_bytes()) as i64;
    let memory = HostBytes::new(&[bytes], tensor.device())?.into_rows(bytes)?;
    Ok(memory.f_view_dtype(tensor.kind())?.f_view(tensor.size().as_slice())?)
}

/// Copies `from` into `to`, which has its shape. A copy from a CUDA device into pinned memory is
/// only ordered: `synchronize` waits for it.
pub(super) fn copy_async(to: &mut Tensor, from: &Tensor) -> Result<(), TorchError> {
    // SAFETY: two live tensors; libtorch checks that their shapes fit.
    check(unsafe { px_copy_async(to.as_mut_ptr(), from.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn what_is_written_is_the_tensor() {
        let (rest, mut rows) = HostBytes::new(&[4, 3, 5, 7], Device::Cpu).unwrap().split();
        // By several threads, in any order.
        std::thread::scope(|scope| {
            for (at, row) in rows.iter_mut().enumerate().rev() {
                scope.spawn(move || {
                    let bytes = row.as_mut().iter_mut().enumerate();
                    bytes.for_each(|(own, byte)| *byte = ((105 * at + own) % 251) as u8);
                });
            }
        });
        let rows = rest.join(rows).unwrap().into_rows(2).unwrap();
        assert_eq!((rows.size(), rows.kind()), (vec![2, 3, 5, 7], Kind::Uint8));
        let same = to_device_async(&rows, Device::Cpu);
        let flat: Vec<u8> = Vec::try_from(same.flatten(0, -1)).unwrap();
        assert!(flat.into_iter().eq((0..210).map(|at| (at % 251) as u8)));
    }

    #[test]
    fn only_all_rows_in_order_are_the_whole() {
        let split = || HostBytes::new(&[3, 2, 5], Device::Cpu).unwrap().split();
        let (rest, mut rows) = split();
        rows.swap(0, 2);
        assert!(rest.join(rows).is_err());
        let (rest, mut rows) = split();
        rows.pop();
        assert!(rest.join(rows).is_err());
        let ((rest, mut rows), (_other, mut others)) = (split(), split());
        std::mem::swap(&mut rows[1], &mut others[1]);
        assert!(rest.join(rows).is_err());
        let (rest, rows) = split();
        assert!(rest.join(rows).is_ok());
    }

    #[test]
    fn nothing_and_too_much_are_told() {
        let (rest, rows) = HostBytes::new(&[0, 3, 5, 7], Device::Cpu).unwrap().split();
        assert!(rows.is_empty() && rest.join(rows).is_ok());
        assert!(HostBytes::new(&[2, 0], Device::Cpu).unwrap().split().1[1].as_mut().is_empty());
        assert!(HostBytes::new(&[2, 3], Device::Cpu).unwrap().into_rows(3).is_err());
        let error = HostBytes::new(&[1 << 50], Device::Cpu).unwrap_err();
        assert!(matches!(error, TorchError::OutOfMemory(_)), "{error}");
    }
}
