//! Declarations of the functions in `csrc/`. Each returns null on success, otherwise a message that
//! the caller frees.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::Tensor;
use torch_sys::C_tensor;

use super::TorchError;

/// Computes a block again, from an input that it frees, into a new tensor. If it fails, it returns
/// a number other than 0 and writes a message of at most so many bytes, including the final 0.
pub(super) type ComputeAgain =
    unsafe extern "C" fn(*mut c_void, *mut C_tensor, *mut *mut C_tensor, *mut c_char, usize) -> c_int;

/// Frees what a [`ComputeAgain`] is given first.
pub(super) type DropBlock = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    pub(super) fn px_free(message: *mut c_char);
    pub(super) fn px_keep_freed_memory() -> *mut c_char;
    pub(super) fn px_use_one_heap() -> *mut c_char;
    pub(super) fn px_memory_ran_out(ran_out: *mut c_int, bytes: *mut usize) -> *mut c_char;
    pub(super) fn px_processors(count: *mut c_int) -> *mut c_char;
    pub(super) fn px_hold_idle_threads(count: c_int) -> *mut c_char;
    pub(super) fn px_load_cuda() -> *mut c_char;
    pub(super) fn px_compute_capability(device: c_int, major: *mut c_int, minor: *mut c_int) -> *mut c_char;
    pub(super) fn px_cuda_model(device: c_int, name: *mut c_char, size: usize) -> *mut c_char;
    pub(super) fn px_load_nccl() -> *mut c_char;
    pub(super) fn px_nccl_group(
        store: *mut c_void,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        name: *const c_char,
        backend: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn px_cpu_capability(name: *mut c_char, size: usize) -> *mut c_char;
    pub(super) fn px_autocast(cuda: c_int, enabled: c_int, previous: *mut c_int) -> *mut c_char;
    pub(super) fn px_autocast_enter() -> *mut c_char;
    pub(super) fn px_autocast_leave() -> *mut c_char;
    pub(super) fn px_allow_tf32(bits: c_int, previous: *mut c_int) -> *mut c_char;
    pub(super) fn px_abandon_trace() -> *mut c_char;
    pub(super) fn px_leaky_relu(x: *const C_tensor, slope: f64, out: *mut *mut C_tensor) -> *mut c_char;
    pub(super) fn px_host_bytes(
        shape: *const i64,
        n: c_int,
        pinned: c_int,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_copy_async(to: *mut C_tensor, from: *const C_tensor) -> *mut c_char;
    pub(super) fn px_deterministic(on: c_int) -> *mut c_char;
    pub(super) fn px_fused_adamw(
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
    pub(super) fn px_norm_silu(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        groups: i64,
        eps: f64,
        instructions: c_int,
        y: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_rms_norm(
        x: *const C_tensor,
        weight: *const C_tensor,
        eps: f64,
        instructions: c_int,
        y: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_gated_silu(
        gate: *const C_tensor,
        up: *const C_tensor,
        instructions: c_int,
        y: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_upsample_conv(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        factor: i64,
        y: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_nearest(
        vectors: *const C_tensor,
        weights: *const C_tensor,
        bias: *const C_tensor,
        table_bytes: i64,
        instructions: c_int,
        least: *mut *mut C_tensor,
        chosen: *mut *mut C_tensor,
    ) -> *mut c_char;
    #[cfg(test)]
    pub(super) fn px_kernels(
        name: *const c_char,
        key: *const c_char,
        own: *mut c_int,
        any: *mut c_int,
    ) -> *mut c_char;
    pub(super) fn px_drop_grads(params: *mut *mut C_tensor, n: c_int) -> *mut c_char;
    pub(super) fn px_store(
        host: *const c_char,
        port: c_int,
        serves: c_int,
        timeout_ms: i64,
        store: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn px_store_part(
        whole: *mut c_void,
        prefix: *const c_char,
        part: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn px_store_again(store: *mut c_void, again: *mut *mut c_void) -> *mut c_char;
    pub(super) fn px_store_free(store: *mut c_void);
    pub(super) fn px_store_set(
        store: *mut c_void,
        key: *const c_char,
        value: *const u8,
        size: usize,
    ) -> *mut c_char;
    pub(super) fn px_store_get(
        store: *mut c_void,
        key: *const c_char,
        timeout_ms: i64,
        value: *mut *mut c_char,
        size: *mut usize,
    ) -> *mut c_char;
    pub(super) fn px_store_has(store: *mut c_void, key: *const c_char, has: *mut c_int) -> *mut c_char;
    pub(super) fn px_store_count(store: *mut c_void, key: *const c_char, count: *mut i64) -> *mut c_char;
    pub(super) fn px_group_gloo(
        store: *mut c_void,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        interfaces: *const c_char,
        address: *const c_char,
        group: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn px_use_cuda(device: c_int) -> *mut c_char;
    pub(super) fn px_group_of(backend: *mut c_void) -> *mut c_void;
    pub(super) fn px_all_reduce(group: *mut c_void, tensor: *mut C_tensor) -> *mut c_char;
    pub(super) fn px_all_reduce_start(
        group: *mut c_void,
        tensor: *mut C_tensor,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn px_all_reduce_finish(group: *mut c_void, work: *mut c_void) -> *mut c_char;
    pub(super) fn px_summed(group: *mut c_void, x: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub(super) fn px_all_gather(
        group: *mut c_void,
        tensor: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_broadcast(group: *mut c_void, tensor: *mut C_tensor, root: c_int) -> *mut c_char;
    pub(super) fn px_group_close(group: *mut c_void);
    pub(super) fn px_group_fault(group: *mut c_void) -> *mut c_char;
    pub(super) fn px_gradients(
        group: *mut c_void,
        parameters: *mut *mut C_tensor,
        n: c_int,
        first_bytes: usize,
        bytes: usize,
        bf16: c_int,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn px_gradients_arm(gradients: *mut c_void) -> *mut c_char;
    pub(super) fn px_gradients_finish(gradients: *mut c_void) -> *mut c_char;
    pub(super) fn px_records(records: *mut c_int, next: *mut u64) -> *mut c_char;
    pub(super) fn px_autocast_cache(on: c_int, previous: *mut c_int) -> *mut c_char;
    pub(super) fn px_recomputed(
        x: *const C_tensor,
        inside: *const C_tensor,
        y: *const C_tensor,
        first: u64,
        block: *mut c_void,
        compute_again: ComputeAgain,
        drop_block: DropBlock,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn px_clip_grad_norm(
        grads: *mut *mut C_tensor,
        n: c_int,
        max_norm: f64,
        total: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// The tensor that `call` makes. Panics with the shim's message, in the form that tch's own methods
/// use.
///
/// # Safety
/// On success, `call` must have written a pointer to a tensor that the caller owns.
pub(super) unsafe fn made(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Tensor {
    let mut tensor = std::ptr::null_mut();
    if let Some(text) = message_of(call(&raw mut tensor)) {
        panic!("Torch({text:?})");
    }
    // SAFETY: guaranteed by this function's contract.
    unsafe { Tensor::from_ptr(tensor) }
}

/// Converts the message of a call to an error, and frees the message.
pub(super) fn check(message: *mut c_char) -> Result<(), TorchError> {
    message_of(message).map_or(Ok(()), |text| Err(TorchError::from_message(&text)))
}

/// The message of a call, which is freed; `None` if the call succeeded.
pub(super) fn message_of(message: *mut c_char) -> Option<String> {
    if message.is_null() {
        return None;
    }
    // SAFETY: the shim returns null or a C string from strdup, which we must free.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the same pointer, which is not used afterwards.
    unsafe { px_free(message) };
    Some(text)
}
