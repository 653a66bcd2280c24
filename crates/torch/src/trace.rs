//! Whether libtorch writes down what is computed.

use super::shim::{check, px_abandon_trace, px_is_tracing};

/// Whether a trace is being made on this thread. Only libtorch's own functions get into it: what a kernel of ours makes, or
/// a loop over what has a size, would be kept as it was for the traced input.
#[must_use]
pub fn is_tracing() -> bool {
    let mut tracing = 0;
    // SAFETY: the pointer outlives the call.
    let asked = check(unsafe { px_is_tracing(&raw mut tracing) });
    debug_assert!(asked.is_ok());
    tracing != 0
}

/// Ends a trace that failed, which otherwise goes on for all that this thread computes.
pub fn abandon_trace() {
    // SAFETY: no arguments; without a trace it does nothing.
    let ended = check(unsafe { px_abandon_trace() });
    debug_assert!(ended.is_ok());
}
