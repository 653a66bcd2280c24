//! `pixtok compare`: tokenizers on equal terms.
//!
//! `layout` says what lies where in the comparison's folder, `job` trains and evaluates one arm with one seed in
//! processes of their own, `queue` runs the jobs, `collect` makes the results of what they left.

mod child;
mod collect;
mod job;
mod layout;
mod queue;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tch::Device;

pub(super) use child::follow_parent;

use super::{measures, note, print, subject, train};
use crate::checkpoint::{Lock, write_atomic};
use crate::cli::CompareArgs;
use crate::data::Dataset;
use crate::sweep::{Plan, PlannedArm, Source, SweepError};
use crate::torch::DeviceChoice;
use crate::train::Signals;
use layout::Layout;

/// Runs what is not finished, then reports on all; the exit code is 1 when an arm failed.
pub(super) fn run(args: &CompareArgs) -> Result<u8> {
    let plan = Plan::read(&args.sweep)?;
    if args.dry_run {
        return print(&describe(&plan)?).map(|()| 0);
    }
    let val_set = check_images(&plan)?;
    measures::measures(&args.measures, plan.base.eval.images_of(val_set.len()), Device::Cpu)?;
    for arm in &plan.arms {
        check_existing(arm, &val_set)?;
    }
    let devices = resolved(&args.devices)?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("checkpoints").join(&plan.name));
    fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let _lock = Lock::take(&out)?;
    let layout = Layout::new(out);
    write_atomic(&layout.protocol(), plan.base.to_toml()?.as_bytes())?;
    let signals = Signals::listen().context("cannot listen for signals")?;
    let jobs = job::jobs(&plan, &layout)?;
    let outcomes = queue::run(&jobs, args, &signals)?;
    if let Some(signal) = signals.came() {
        note(&format!("stopped by signal {signal}; the same command goes on from here"));
        return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    let failed = outcomes.iter().filter(|outcome| outcome.is_some()).count();
    let threads = queue::threads(args).unwrap_or_else(|| tch::get_num_threads().unsigned_abs());
    let environment = collect::environment(&devices, threads);
    let written = collect::report(&plan, &layout, &jobs, &outcomes, environment)?;
    print(&written)?;
    if failed > 0 {
        note(&format!("{failed} of {} runs failed; the same command tries them again", jobs.len()));
    }
    Ok(u8::from(failed > 0))
}

/// The devices that are meant, each once, in words.
fn resolved(choices: &[DeviceChoice]) -> Result<String> {
    let mut names: Vec<String> = vec![];
    for choice in choices {
        let name = match choice.resolve()? {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names.join(", "))
}

/// Before any training: are the images there? Returns those that are evaluated.
fn check_images(plan: &Plan) -> Result<Dataset> {
    let trained = plan.arms.iter().any(|arm| matches!(arm.source, Source::Trained(_)));
    if trained {
        train::check_batch(&plan.base, &train::training_set(&plan.base)?)?;
    }
    Ok(train::validation_set(&plan.base)?.1)
}

/// Before any training: can what is taken as it is be opened?
fn check_existing(arm: &PlannedArm, val_set: &Dataset) -> Result<()> {
    let Source::Existing { path, codebook_size } = &arm.source else { return Ok(()) };
    let fail = |reason: String| SweepError::Arm { name: arm.name.clone(), reason };
    let codes = subject::try_out(path, val_set).map_err(|error| fail(format!("{error:#}")))?;
    if codebook_size.is_some() && *codebook_size != codes {
        let (path, wanted) = (path.display(), codebook_size.unwrap_or_default());
        let found = codes.map_or_else(|| "no tokens".to_owned(), |codes| format!("{codes} codes"));
        return Err(fail(format!("codebook_size is {wanted}, and {path} has {found}")).into());
    }
    Ok(())
}

/// What would be run.
fn describe(plan: &Plan) -> Result<String> {
    let mut text = format!("# the base, with what the sweep changes for all\n{}\n", plan.base.to_toml()?);
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let trained = plan.arms.iter().filter(|arm| matches!(arm.source, Source::Trained(_))).count();
    let _ = writeln!(
        text,
        "# {} arms, {trained} of them trained with each of the seeds {seeds}: {} trainings of {} steps",
        plan.arms.len(),
        trained * plan.seeds.len(),
        plan.base.train.steps
    );
    for arm in &plan.arms {
        match &arm.source {
            Source::Existing { path, .. } => {
                let _ = writeln!(text, "# {}: {} as it is", arm.name, path.display());
            }
            Source::Trained(config) => {
                let (codebooks, size) = config.quantizer.settings().codes();
                let several = if codebooks > 1 { format!("{codebooks} × ") } else { String::new() };
                let changes: Vec<String> =
                    config.changes(&plan.base)?.iter().map(ToString::to_string).collect();
                let _ = writeln!(
                    text,
                    "# {}: {several}{size} codes; {}",
                    arm.name,
                    collect::or_base(&changes).join("; ")
                );
            }
        }
    }
    Ok(text)
}
