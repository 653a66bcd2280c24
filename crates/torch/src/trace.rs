//! The end of a trace that failed.

use super::shim::{check, px_abandon_trace};

/// Ends a trace that failed, which otherwise goes on for all that this thread computes.
pub fn abandon_trace() {
    // SAFETY: no arguments; without a trace it does nothing.
    let ended = check(unsafe { px_abandon_trace() });
    debug_assert!(ended.is_ok());
}
