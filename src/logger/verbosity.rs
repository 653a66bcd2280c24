//! How much the program says on standard error: one setting for the whole process.

use std::sync::OnceLock;

static CHOSEN: OnceLock<Verbosity> = OnceLock::new();

/// What is said on standard error beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Warnings, and what is passed over.
    Quiet,
    /// Notes and progress too.
    #[default]
    Normal,
    /// Also what the program computes with.
    Verbose,
}

impl Verbosity {
    /// As `--quiet` and `--verbose` say.
    #[must_use]
    pub fn from_flags(quiet: bool, verbose: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Verbose,
            (false, false) => Self::Normal,
        }
    }

    /// The flag that chooses it, for another process.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Quiet => Some("--quiet"),
            Self::Normal => None,
            Self::Verbose => Some("--verbose"),
        }
    }

    /// Makes it the setting of this process. The first call counts.
    pub fn choose(self) {
        // Only the program calls this, once.
        let _ = CHOSEN.set(self);
    }

    /// The setting of this process.
    #[must_use]
    pub fn chosen() -> Self {
        CHOSEN.get().copied().unwrap_or_default()
    }
}
