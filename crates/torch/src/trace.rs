//! Ending a failed trace.

use super::shim::{check, px_abandon_trace};

/// Ends a trace that failed. Otherwise it would record everything that this thread computes from
/// then on.
pub fn abandon_trace() {
    // SAFETY: no arguments; without a trace it does nothing.
    let ended = check(unsafe { px_abandon_trace() });
    debug_assert!(ended.is_ok());
}
