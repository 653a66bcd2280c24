//! Converts panics of libraries to errors. tch's plain methods report errors as panics, and
//! decoders may panic on hostile files.

use std::cell::RefCell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A panic that was caught.
#[derive(Debug, Clone)]
pub struct Panic {
    /// The message of the panic.
    pub message: String,
    /// The place of the panic, as `file:line:column`.
    pub location: String,
}

thread_local! {
    /// The number of [`catch`] calls that are running in this thread, and the place of the last
    /// panic in one.
    static UNDER_WAY: RefCell<(usize, String)> = const { RefCell::new((0, String::new())) };
}

/// Runs `body` and converts a panic to an error, without printing it. After an error, discard
/// whatever `body` was changing.
///
/// # Errors
/// The panic.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let caught = UNDER_WAY.with_borrow_mut(|(depth, location)| {
                *location = info.location().map(ToString::to_string).unwrap_or_default();
                *depth > 0
            });
            if !caught {
                default(info);
            }
        }));
    });
    UNDER_WAY.with_borrow_mut(|(depth, _)| *depth += 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    UNDER_WAY.with_borrow_mut(|(depth, _)| *depth -= 1);
    outcome.map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        let location = UNDER_WAY.with_borrow(|(_, location)| location.clone());
        Panic { message: message.to_owned(), location }
    })
}

/// Runs `body`, which reads a file that may be hostile, and describes its error or panic in words.
///
/// # Errors
/// The description of the error or the panic.
pub fn in_words<T, E: Display>(body: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch(body) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("its decoder panicked: {}", panic.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value() {
        assert_eq!(catch(|| 3).unwrap(), 3);
        let caught = catch(|| catch(|| panic!("inner {}", 1)).map_err(|_| panic!("outer"))).unwrap_err();
        assert_eq!(caught.message, "outer");
        assert!(caught.location.contains("src/panics.rs:"), "{}", caught.location);
    }

    #[test]
    fn errors_and_panics_become_words() {
        assert_eq!(in_words(|| Ok::<_, String>(3)), Ok(3));
        assert_eq!(in_words(|| Err::<(), _>("no")), Err("no".to_owned()));
        let gave_up = in_words::<(), String>(|| panic!("at once")).unwrap_err();
        assert_eq!(gave_up, "its decoder panicked: at once");
    }
}
