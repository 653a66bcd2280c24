//! `pixtok compare`: compares tokenizers on equal terms.

use anyhow::Result;

use super::{launched, print, tell};
use crate::cli::CompareArgs;
use crate::sweep::{self, Changes, CompareOptions, Compared};
use pixtok_base::Misuse;

/// Runs everything that is not finished and reports on all arms, or describes what would be run.
/// The exit code is 1 if an arm failed.
pub(super) fn run(args: CompareArgs) -> Result<u8> {
    if let Some((launcher, _, size)) = launched() {
        return Err(Misuse(format!(
            "{launcher} started {size} processes, and each would run the whole comparison; start `pixtok \
             compare` without a launcher: --devices spreads its arms over devices"
        ))
        .into());
    }
    let dry_run = args.dry_run;
    let options = options(args);
    if dry_run {
        return print(&sweep::describe(&options, tell())?).map(|()| 0);
    }
    match sweep::compare(&options, tell())? {
        Compared::Stopped(signal) => {
            tell().note(&format!("stopped by signal {signal}; the same command goes on from here"));
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
        Compared::Whole { report, failed } => {
            print(&report)?;
            failed.iter().for_each(|text| tell().say(text));
            Ok(u8::from(failed.is_some()))
        }
    }
}

fn options(args: CompareArgs) -> CompareOptions {
    let changes = Changes {
        overrides: args.overrides,
        seeds: args.seeds,
        data: args.data,
        val_data: args.val_data,
        pick: args.pick.into(),
    };
    CompareOptions {
        subjects: args.subjects,
        changes,
        protocol: args.protocol,
        images: args.images,
        out: args.out,
        jobs: args.jobs,
        devices: args.devices,
        threads: args.threads,
        measures: args.measures.into(),
    }
}
