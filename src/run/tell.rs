//! Messages for the user while a result is computed.

use crate::logger::Verbosity;

/// Takes messages as they come up, one sentence each. Nothing in the library prints.
#[derive(Clone, Copy)]
pub struct Tell<'a>(&'a (dyn Fn(&str) + Sync));

impl<'a> Tell<'a> {
    /// Passes the messages to `sink`.
    #[must_use]
    pub fn to(sink: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self(sink)
    }

    /// Tells a message at any verbosity: a warning, or what is skipped.
    pub fn say(self, text: &str) {
        (self.0)(text);
    }

    /// Tells a note, unless only warnings are wanted.
    pub fn note(self, text: &str) {
        if Verbosity::chosen() > Verbosity::Quiet {
            self.say(text);
        }
    }

    /// Tells a detail, only if details are wanted.
    pub fn detail(self, text: impl FnOnce() -> String) {
        if Verbosity::chosen() == Verbosity::Verbose {
            self.say(&text());
        }
    }
}
