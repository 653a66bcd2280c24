//! What the user should know on the way to a result.

use crate::logger::Verbosity;

/// Takes it as it comes up, one sentence each. Nothing in the library prints.
#[derive(Clone, Copy)]
pub struct Tell<'a>(&'a (dyn Fn(&str) + Sync));

impl<'a> Tell<'a> {
    /// To whatever takes the sentences.
    #[must_use]
    pub fn to(sink: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self(sink)
    }

    /// What is told at any verbosity: warnings, and what is passed over.
    pub fn say(self, text: &str) {
        (self.0)(text);
    }

    /// What else the user should know, unless only warnings are wanted.
    pub fn note(self, text: &str) {
        if Verbosity::chosen() > Verbosity::Quiet {
            self.say(text);
        }
    }

    /// What is told only to those who ask for details.
    pub fn detail(self, text: impl FnOnce() -> String) {
        if Verbosity::chosen() == Verbosity::Verbose {
            self.say(&text());
        }
    }
}
