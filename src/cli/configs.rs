//! The command that lists the configs that come with pixtok.

use clap::Args;

pub(super) const CONFIGS_HELP: &str = "\
Examples:
  pixtok configs
  pixtok configs quickstart-fsq
  pixtok configs quickstart-fsq > mine.toml
  pixtok train quickstart-fsq --data ~/pictures

The configs and their photographs are in the clone that pixtok was built from. In a command a file
or folder of the same name comes first.";

/// Arguments of `pixtok configs`.
#[derive(Debug, Args)]
pub struct ConfigsArgs {
    /// Print the file of this config, to read it or to start from it [default: list all]
    pub name: Option<String>,
}
