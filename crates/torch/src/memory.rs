//! Detecting that memory ran out, and reusing freed memory.

use std::ffi::c_int;

use super::TorchError;
use super::shim::{check, message_of, px_keep_freed_memory, px_memory_ran_out, px_use_one_heap};

/// Out-of-memory messages of libraries that are called below libtorch's allocators, and of those
/// allocators on libtorch's own threads.
const OTHER_WORDS: [&str; 5] = [
    "std::bad_alloc",
    "_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "size calculation overflowed",
    "DefaultCPUAllocator: can't allocate memory",
];

/// Forgets earlier failures, so that a later error is not attributed to them.
pub(super) fn forget_refusals() {
    let _ = refusal();
}

/// If the error `message`, which libtorch has just reported on this thread, means that memory ran
/// out: the requested memory, in words.
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

/// The bytes that libtorch's allocators have refused since the last call; 0 if CUDA's allocator
/// does not state the number.
fn refusal() -> Option<usize> {
    let (mut ran_out, mut bytes): (c_int, usize) = (0, 0);
    // SAFETY: both pointers outlive the call. A failure to query CUDA is ignored, because
    // converting it to an error would query CUDA again.
    let _ = message_of(unsafe { px_memory_ran_out(&raw mut ran_out, &raw mut bytes) });
    (ran_out != 0).then_some(bytes)
}

/// Makes this process keep freed tensor memory for later tensors. This is for programs that
/// allocate tensors of the same few sizes over and over on the CPU. It avoids fetching fresh pages
/// from the system, but the process always holds as much memory as its peak needed.
///
/// # Errors
/// If the shim fails.
pub fn keep_freed_memory() -> Result<(), TorchError> {
    // SAFETY: no arguments; sets two numbers of the C library's allocator.
    check(unsafe { px_keep_freed_memory() })
}

/// Makes all threads of this process share one heap. This is for training, where one thread makes
/// batches and another frees them. Do not use it if threads only decode large pictures: they would
/// wait for each other.
///
/// # Errors
/// If the shim fails.
pub fn use_one_heap() -> Result<(), TorchError> {
    // SAFETY: no arguments; sets a number of the C library's allocator.
    check(unsafe { px_use_one_heap() })
}
