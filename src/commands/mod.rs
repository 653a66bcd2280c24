//! One verb per file; this one calls them and turns errors into exit codes.

mod codebook;
mod compare;
mod completions;
mod decode;
mod doctor;
mod encode;
mod eval;
mod exit_code;
mod export;
mod inspect;
mod libtorch;
mod measures;
mod merge;
mod names;
mod open;
mod prepare;
mod reconstruct;
mod subject;
mod train;
mod usable;
mod weights;
mod write;

use std::io::{self, Write as _};

use anyhow::{Context, Result};

pub use exit_code::{Misuse, exit_code};

use crate::cli::Command;
use crate::logger::Verbosity;
use pixtok_images::data::Dataset;
use pixtok_torch::catching;

/// Runs one command; the exit code of one that ended as it should.
///
/// # Errors
/// Whatever stopped it; [`exit_code`] has the code.
pub fn run(command: Command) -> Result<u8> {
    compare::follow_parent();
    // Memory can run out wherever a tensor is made.
    catching(|| match command {
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args).map(|()| 0),
        Command::Compare(args) => compare::run(&args),
        Command::Reconstruct(args) => reconstruct::run(&args).map(|()| 0),
        Command::Prepare(args) => prepare::run(&args).map(|()| 0),
        Command::Encode(args) => encode::run(&args),
        Command::Decode(args) => decode::run(&args).map(|()| 0),
        Command::Inspect(args) => inspect::run(&args).map(|()| 0),
        Command::Merge(args) => merge::run(&args).map(|()| 0),
        Command::Export(args) => export::run(&args).map(|()| 0),
        Command::Codebook(args) => codebook::run(&args).map(|()| 0),
        Command::Doctor(args) => doctor::run(args.device).map(|()| 0),
        Command::Completions(args) => completions::run(&args).map(|()| 0),
    })?
}

/// Prints an error with its causes in one sentence on standard error.
pub fn report(error: &anyhow::Error) {
    // Nothing is left to do when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "error: {error:#}");
}

/// Prints a result on standard output.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Prints once what is passed over in each of these data sets.
fn note_omitted<'a>(sets: impl IntoIterator<Item = &'a Dataset>) {
    let mut said: Vec<&String> = vec![];
    for text in sets.into_iter().flat_map(Dataset::notes) {
        if !said.contains(&text) {
            say(text);
            said.push(text);
        }
    }
}

/// Prints on standard error what is said at any verbosity: warnings, and what is passed over.
fn say(text: &str) {
    // As in `report`.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints what else the user should know, unless `--quiet` is given.
fn note(text: &str) {
    if Verbosity::chosen() > Verbosity::Quiet {
        say(text);
    }
}

/// Prints what only `--verbose` asks for.
fn detail(text: impl FnOnce() -> String) {
    if Verbosity::chosen() == Verbosity::Verbose {
        say(&text());
    }
}
