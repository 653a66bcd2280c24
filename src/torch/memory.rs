//! When memory ran out, and how freed memory is reused.

use std::ffi::c_int;

use super::TorchError;
use super::shim::{check, message_of, px_keep_freed_memory, px_memory_ran_out, px_use_one_heap};

/// What libraries below libtorch's allocators say when they get no memory, and what those say on a
/// thread of theirs.
const OTHER_WORDS: [&str; 5] = [
    "std::bad_alloc",
    "_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "size calculation overflowed",
    "DefaultCPUAllocator: can't allocate memory",
];

/// Forgets earlier failures, which another error must not be taken for.
pub(super) fn forget_refusals() {
    let _ = refusal();
}

/// Whether the error `message`, which libtorch has just reported on this thread, means that memory
/// ran out: what was asked for, in words.
pub(super) fn memory_ran_out(message: &str) -> Option<String> {
    match refusal() {
        Some(0) => Some(match message.split_once("ried to allocate ") {
            Some((_, asked)) => {
                format!("{} at once on the CUDA device", asked.split(". ").next().unwrap_or(asked))
            }
            None => "on the CUDA device".to_owned(),
        }),
        Some(bytes) => Some(format!("{bytes} bytes at once")),
        None if OTHER_WORDS.iter().any(|words| message.contains(words)) => {
            Some(message.lines().next().unwrap_or_default().trim().to_owned())
        }
        None => None,
    }
}

/// The bytes that libtorch's allocators refused since they were asked last; 0 where CUDA's does not
/// tell.
fn refusal() -> Option<usize> {
    let (mut ran_out, mut bytes): (c_int, usize) = (0, 0);
    // SAFETY: both pointers outlive the call. A failure to ask CUDA is dropped: to make an error of
    // it would ask again.
    let _ = message_of(unsafe { px_memory_ran_out(&raw mut ran_out, &raw mut bytes) });
    (ran_out != 0).then_some(bytes)
}

/// Lets this process keep the memory that tensors leave for those to come. For programs that make
/// tensors of the same few sizes over and over, on the CPU: it spares them the system's empty
/// pages, and costs what the largest moment takes.
///
/// # Errors
/// When the shim refuses.
pub fn keep_freed_memory() -> Result<(), TorchError> {
    // SAFETY: no arguments; sets two numbers of the C library's allocator.
    check(unsafe { px_keep_freed_memory() })
}

/// Lets all threads of this process share one heap. For a training, where one thread makes batches
/// and another frees them; threads that do nothing but decode large pictures would wait for each
/// other.
///
/// # Errors
/// When the shim refuses.
pub fn use_one_heap() -> Result<(), TorchError> {
    // SAFETY: no arguments; sets a number of the C library's allocator.
    check(unsafe { px_use_one_heap() })
}
