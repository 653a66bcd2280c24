//! What becomes of memory that tensors leave.

use super::TorchError;
use super::shim::{check, px_keep_freed_memory};

/// Lets this process keep the memory that tensors leave for those to come. For programs that make tensors of the same few
/// sizes over and over, as a training on the CPU does: it spares them the system's empty pages, and costs what the largest moment takes.
///
/// # Errors
/// When the shim refuses.
pub fn keep_freed_memory() -> Result<(), TorchError> {
    // SAFETY: no arguments; sets two numbers of the C library's allocator.
    check(unsafe { px_keep_freed_memory() })
}
