//! `pixtok completions`: what a shell needs to complete our commands and flags.

use anyhow::Result;

use super::print;
use crate::cli::CompletionsArgs;

/// Prints the script of a shell.
pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    print(&args.script())
}
