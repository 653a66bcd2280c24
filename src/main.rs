//! The `pixtok` program: parse, call, print what went wrong, exit code.

use std::process::ExitCode;

use clap::Parser;
use pixtok::cli::Cli;
use pixtok::commands;
use pixtok::logger::Verbosity;

fn main() -> ExitCode {
    let cli = Cli::parse();
    Verbosity::from_flags(cli.quiet, cli.verbose).choose();
    match commands::run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            commands::report(&error);
            ExitCode::from(commands::exit_code(&error))
        }
    }
}
