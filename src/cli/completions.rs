//! The command that prints completions for a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

pub(super) const COMPLETIONS_HELP: &str = "\
Examples:
  pixtok completions bash > ~/.local/share/bash-completion/completions/pixtok
  pixtok completions zsh > ~/.zfunc/_pixtok
  pixtok completions fish > ~/.config/fish/completions/pixtok.fish";

/// Arguments of `pixtok completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to print completions for
    pub shell: Shell,
}

impl CompletionsArgs {
    /// The completion script for the shell, generated from the types of this module.
    #[must_use]
    pub fn script(&self) -> String {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "pixtok", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}
