//! How much the program prints on standard error: one setting for the whole process.

use std::sync::OnceLock;

static CHOSEN: OnceLock<Verbosity> = OnceLock::new();

/// What is printed on standard error besides errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Warnings, and what is skipped.
    Quiet,
    /// Also notes and progress.
    #[default]
    Normal,
    /// Also versions, device, threads and kernels.
    Verbose,
}

impl Verbosity {
    /// The verbosity that `--quiet` and `--verbose` choose.
    #[must_use]
    pub fn from_flags(quiet: bool, verbose: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Verbose,
            (false, false) => Self::Normal,
        }
    }

    /// The flag that passes this verbosity to another process.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Quiet => Some("--quiet"),
            Self::Normal => None,
            Self::Verbose => Some("--verbose"),
        }
    }

    /// Sets the verbosity of this process. Only the first call has an effect.
    pub fn choose(self) {
        // Only the program calls this, once.
        let _ = CHOSEN.set(self);
    }

    /// The verbosity of this process.
    #[must_use]
    pub fn chosen() -> Self {
        CHOSEN.get().copied().unwrap_or_default()
    }
}
