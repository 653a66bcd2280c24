//! One command per file: parse, call, print. This file calls them and turns errors into exit codes.

mod codebook;
mod compare;
mod completions;
mod configs;
mod decode;
mod doctor;
mod encode;
mod eval;
mod exit_code;
mod export;
pub(crate) mod inspect;
mod merge;
mod options;
mod prepare;
mod progress;
mod reconstruct;
mod train;
mod work;

use std::env;
use std::io::{self, Write as _};

use anyhow::{Context, Result};

pub use exit_code::exit_code;

use crate::cli::Command;
use crate::run::Tell;
use crate::world::Launch;
use pixtok_torch::catching;

/// Runs one command and returns its exit code.
///
/// # Errors
/// Whatever stopped the command; [`exit_code`] gives the code.
pub fn run(command: Command) -> Result<u8> {
    // Memory can run out wherever a tensor is made.
    catching(|| match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args).map(|()| 0),
        Command::Compare(args) => compare::run(args),
        Command::Reconstruct(args) => reconstruct::run(args).map(|()| 0),
        Command::Prepare(args) => prepare::run(args).map(|()| 0),
        Command::Encode(args) => encode::run(args),
        Command::Decode(args) => decode::run(args).map(|()| 0),
        Command::Inspect(args) => inspect::run(&args).map(|()| 0),
        Command::Merge(args) => merge::run(&args).map(|()| 0),
        Command::Export(args) => export::run(args).map(|()| 0),
        Command::Codebook(args) => codebook::run(args).map(|()| 0),
        Command::Doctor(args) => doctor::run(&args).map(|()| 0),
        Command::Configs(args) => configs::run(&args).map(|()| 0),
        Command::Completions(args) => completions::run(&args).map(|()| 0),
        Command::Work => work::run(),
    })?
}

/// Prints an error with its causes in one sentence on standard error.
pub fn report(error: &anyhow::Error) {
    // If standard error is closed, there is nothing left to do.
    let _ = writeln!(io::stderr().lock(), "error: {error:#}");
}

/// The launcher's name, the rank of this process and the number of processes, if a launcher started
/// several.
fn launched() -> Option<(&'static str, u32, u32)> {
    let launch = Launch::find(|name| env::var(name).ok())?;
    let (rank, size) = launch.numbers()?;
    (size > 1).then_some((launch.launcher, rank, size))
}

/// Prints a result on standard output.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Prints messages for the user, and progress, on standard error.
fn tell() -> Tell<'static> {
    Tell::to(&progress::line).with_progress(&progress::begin)
}
