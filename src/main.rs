//! The `pixtok` program: parse, call, print what went wrong, exit code.

use std::process::ExitCode;

use clap::Parser;
use pixtok::cli::Cli;
use pixtok::commands;

fn main() -> ExitCode {
    match commands::run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            commands::report(&error);
            ExitCode::from(commands::exit_code(&error))
        }
    }
}
