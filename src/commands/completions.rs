//! `pixtok completions`: prints what a shell needs to complete pixtok's commands and flags.

use anyhow::Result;

use super::print;
use crate::cli::CompletionsArgs;

/// Prints the completion script of a shell.
pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    print(&args.script())
}
