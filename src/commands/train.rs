//! `pixtok train`: trains a run from a config and flags.

use std::env;

use anyhow::Result;

use super::{print, tell};
use crate::cli::TrainArgs;
use crate::run::{self, TrainOptions};
use crate::train::Outcome;
use crate::world::{Launch, Meeting};
use pixtok_base::Class;

/// Trains, or describes what would be trained. The exit code is 0, or 128 + n after signal n.
pub(super) fn run(args: TrainArgs) -> Result<u8> {
    let (dry_run, print_config) = (args.dry_run, args.print_config);
    let options = options(args);
    let meeting = Launch::meeting_of_process(|name| env::var(name).ok())?;
    match &meeting {
        // One of several processes describes the run for all.
        Some(meeting) if dry_run && meeting.rank > 0 => Ok(0),
        _ if dry_run => describe(&options, print_config),
        meeting => train(&options, meeting.as_ref()),
    }
}

/// Describes the run, and reads its images if that is asked for. The exit code is that of bad
/// images if one of them cannot be used.
fn describe(options: &TrainOptions, print_config: bool) -> Result<u8> {
    let described = run::describe(options, print_config, tell())?;
    print(&described.words)?;
    if !options.check_data {
        return Ok(0);
    }
    let (words, all_fine) = described.check_data(tell())?;
    if print_config {
        // What is printed is a config.
        tell().say(words.trim_end());
    } else {
        print(&words)?;
    }
    Ok(if all_fine { 0 } else { Class::BadData.exit_code() })
}

/// Trains, and says how it ended.
pub(super) fn train(options: &TrainOptions, meeting: Option<&Meeting>) -> Result<u8> {
    // Of several processes the first says how it ended.
    let first = meeting.is_none_or(|meeting| meeting.rank == 0);
    match run::train(options, meeting, tell())? {
        (Outcome::Finished { .. }, _) if !first => Ok(0),
        (Outcome::Finished { checkpoint }, _) => {
            print(&format!("trained: {}\n", checkpoint.display())).map(|()| 0)
        }
        (Outcome::Interrupted { signal, checkpoint }, run) => {
            if first {
                tell().note(&format!(
                    "stopped by signal {signal}; saved {}; go on with: pixtok train --resume {}",
                    checkpoint.display(),
                    run.display()
                ));
            }
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

fn options(args: TrainArgs) -> TrainOptions {
    TrainOptions {
        config: args.config,
        overrides: args.overrides,
        data: args.data,
        val_data: args.val_data,
        pick: args.pick.into(),
        val_split: args.val_split,
        run: args.run,
        resume: args.resume,
        or_resume: args.or_resume,
        restart: args.restart,
        accept_inexact: args.accept_inexact,
        init_from: args.init_from,
        lpips_weights: args.lpips_weights,
        check_data: args.check_data,
        overlap_told: false,
        compute: args.compute.into(),
    }
}
