//! `pixtok compare`: tokenizers on equal terms.
//!
//! `layout` says what lies where in the comparison's folder, `jobs` lists what there is to do,
//! `job` trains and evaluates one arm with one seed in processes of their own, `diverged` records
//! which trainings would only fail again, `queue` runs the jobs, `collect` makes the results from
//! their output: `shared` decides over which images, and `exhibits` prepares the page.

mod child;
mod collect;
mod diverged;
mod exhibits;
mod job;
mod jobs;
mod layout;
mod queue;
mod shared;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tch::Device;

pub(super) use child::follow_parent;

use super::libtorch::libtorch_version;
use super::{Misuse, measures, note, note_omitted, open, print, subject, train, weights};
use crate::checkpoint::{Lock, RunFolder, write_atomic};
use crate::cli::CompareArgs;
use crate::config::Config;
use pixtok_images::data::Dataset;
use pixtok_report::DEFINITIONS;
use pixtok_base::paths::{make_folder, mark_output};
use crate::sweep::{Plan, Source, SweepError};
use pixtok_torch::{Precision, PrecisionChoice, auto_precision};
use crate::train::Signals;
use job::Job;
use jobs::LossWeights;
use layout::Layout;

/// Runs what is not finished, then reports on all; the exit code is 1 when an arm failed.
pub(super) fn run(args: &CompareArgs) -> Result<u8> {
    let mut plan = Plan::read(&args.sweep)?;
    let layout = Layout::new(args.out.clone().unwrap_or_else(|| Path::new("checkpoints").join(&plan.name)));
    measures::check_size(&args.measures, plan.base.image_size())?;
    check_new_trainings(&plan, &layout)?;
    let devices = args.devices.iter().map(|choice| choice.resolve()).collect::<Result<Vec<_>, _>>()?;
    settle_precision(&mut plan, &layout, &devices)?;
    let loss_weights = jobs::loss_weights(&plan, &args.measures.lpips_weights)?;
    let args = &without_those_of_losses(args, &loss_weights);
    let images = val_images(&plan);
    check_folder(&layout)?;
    // Without images, nothing tells whether earlier trainings used the same ones.
    let found = images.as_ref().ok();
    let jobs = found.map(|val_set| jobs(&plan, &layout, val_set, args, &loss_weights)).transpose()?;
    check(&plan, images.as_ref().ok(), args, devices[0])?;
    let jobs = jobs.unwrap_or_default();
    let notes = images_notes(&plan, &jobs)?;
    notes.iter().for_each(|text| note(text));
    jobs::note_diverged(&jobs);
    if args.dry_run {
        return print(&describe(&plan, &images)?).map(|()| 0);
    }
    let val_set = images?;
    let out = layout.out();
    make_folder(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let _lock =
        Lock::take(out).context("another comparison works there; wait for it, or give another --out")?;
    mark_output(out).with_context(|| format!("cannot write into {}", out.display()))?;
    let protocol = plan.base.to_toml()?;
    write_atomic(&layout.protocol(), protocol.as_bytes())?;
    let signals = Signals::listen().context("cannot listen for signals")?;
    let outcomes = queue::run(&jobs, args, &signals)?;
    if let Some(signal) = signals.came() {
        note(&format!("stopped by signal {signal}; the same command goes on from here"));
        return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    let failed = outcomes.iter().filter(|outcome| outcome.is_some()).count();
    let during = match train::validation_set(&plan.base) {
        Ok((_, now)) if now.fingerprint() == val_set.fingerprint() => None,
        Ok(_) => Some(
            "the validation images changed while the comparison ran; the same command evaluates all arms again"
                .to_owned(),
        ),
        Err(error) => Some(format!("the validation images can no longer be read: {error:#}")),
    };
    during.iter().for_each(|text| note(text));
    let notes: Vec<String> = notes.into_iter().chain(during).collect();
    print(&collect::report(&plan, &layout, (&jobs, &outcomes), &val_set, &notes)?)?;
    if failed > 0 {
        note(&jobs::outlook(&jobs, failed));
    }
    Ok(u8::from(failed > 0))
}

/// Refuses arms whose settings no new training should begin with, unless they have begun here.
fn check_new_trainings(plan: &Plan, layout: &Layout) -> Result<()> {
    for arm in &plan.arms {
        let Source::Trained(config) = &arm.source else { continue };
        let begun = |seed: &u64| {
            let run = RunFolder::open(&layout.run(&arm.name, Some(*seed)));
            run.and_then(|run| run.checkpoints()).is_ok_and(|steps| !steps.is_empty())
        };
        if let (Err(error), false) = (config.check_new_training(), plan.seeds.iter().all(begun)) {
            return Err(SweepError::Arm { name: arm.name.clone(), reason: error.to_string() }.into());
        }
    }
    Ok(())
}

/// Resolves `auto` to one precision for all arms: that of the earlier comparison in this folder, or bf16 if it is faster on every
/// device, or fp32.
fn settle_precision(plan: &mut Plan, layout: &Layout, devices: &[Device]) -> Result<()> {
    if plan.base.train.precision != PrecisionChoice::Auto || !trains(plan) {
        return Ok(());
    }
    let slow = devices.iter().find(|device| auto_precision(**device).0 == Precision::Fp32);
    let (auto, reason) = auto_precision(*slow.unwrap_or(&devices[0]));
    let earlier = match layout.protocol() {
        file if file.is_file() => Config::read(&file, &[])?.0.train.precision,
        _ => PrecisionChoice::Auto,
    };
    let precision = match earlier {
        PrecisionChoice::Auto => auto,
        earlier => earlier.resolve(devices[0]),
    };
    if precision == auto {
        note(&format!("training in {precision} ({reason})"));
    } else {
        note(&format!(
            "training in {precision} (the comparison started in it; {auto} would be faster here: {reason})"
        ));
    }
    plan.set_precision(precision);
    Ok(())
}

/// Weights of LPIPS that a loss needs may be given without a metric for them.
fn without_those_of_losses(args: &CompareArgs, loss_weights: &[LossWeights]) -> CompareArgs {
    let mut args = args.clone();
    if loss_weights.iter().any(Option::is_some) && !measures::wants_lpips(&args.measures) {
        args.measures.lpips_weights.clear();
    }
    args
}

fn trains(plan: &Plan) -> bool {
    plan.arms.iter().any(|arm| matches!(arm.source, Source::Trained(_)))
}

/// The images that all arms are evaluated on; those that they are trained on are there too.
fn val_images(plan: &Plan) -> Result<Dataset> {
    let train_set = trains(plan).then(|| train::training_set(&plan.base)).transpose()?;
    if let Some(train_set) = &train_set {
        train::check_batch(&plan.base, train_set)?;
    }
    let val_set = train::validation_set(&plan.base)?.1;
    note_omitted(train_set.iter().chain([&val_set]));
    if let Some(train_set) = &train_set {
        train::note_shared(&plan.base, train_set, &val_set);
    }
    Ok(val_set)
}

/// Before any training: are weights and what is taken as it is what they should be?
fn check(plan: &Plan, val_set: Option<&Dataset>, args: &CompareArgs, device: Device) -> Result<()> {
    if let Some(val_set) = val_set {
        // On the CPU: this process keeps no memory of the trainings' devices.
        measures::measures(&args.measures, plan.base.eval.images_of(val_set.len()), Device::Cpu)?;
    }
    for arm in &plan.arms {
        let Source::Existing { path, codebook_size } = &arm.source else { continue };
        let fail = |reason: String| SweepError::Arm { name: arm.name.clone(), reason };
        let codes = subject::try_out(path, val_set, &plan.base, device);
        let codes = codes.map_err(|error| fail(format!("{error:#}")))?;
        if codebook_size.is_some() && *codebook_size != codes {
            let (path, wanted) = (path.display(), codebook_size.unwrap_or_default());
            let found = codes.map_or_else(|| "no tokens".to_owned(), |codes| format!("{codes} codes"));
            return Err(fail(format!("codebook_size is {wanted}, and {path} has {found}")).into());
        }
    }
    Ok(())
}

/// All jobs; refuses earlier trainings of the same names that were others.
fn jobs(
    plan: &Plan,
    layout: &Layout,
    val_set: &Dataset,
    args: &CompareArgs,
    loss_weights: &[LossWeights],
) -> Result<Vec<Job>> {
    let identity = identity(&plan.base.to_toml()?, val_set, args)?;
    let train_set = trains(plan).then(|| train::training_set(&plan.base)).transpose()?;
    let jobs = jobs::list(plan, layout, &identity, train_set.as_ref(), loss_weights)?;
    jobs.iter().try_for_each(|job| job.check_unchanged(train_set.as_ref()))?;
    Ok(jobs)
}

/// Notes on doubts whether earlier trainings here used the same images.
fn images_notes(plan: &Plan, jobs: &[Job]) -> Result<Vec<String>> {
    let mut doubts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        // Other images have been refused.
        if let Some(doubt) = job.difference()?.and_then(|found| found.doubt(&plan.base.data.train)) {
            doubts.entry(doubt).or_default().push(&job.label);
        }
    }
    let words = |(doubt, labels): (String, Vec<&str>)| {
        format!("since the training of {}: {doubt}", labels.join(", "))
    };
    Ok(doubts.into_iter().map(words).collect())
}

/// Refuses a folder that is another's.
fn check_folder(layout: &Layout) -> Result<()> {
    let out = layout.out();
    // Hidden files are the lock and what a kill left of the protocol.
    let shown = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
    };
    let holds_something = fs::read_dir(out).is_ok_and(|mut entries| entries.any(shown));
    if holds_something && !layout.protocol().exists() {
        let what = if open::is_ours(out) { "a training run" } else { "something else than a comparison" };
        return Err(Misuse(format!("{} holds {what}; give another --out", out.display())).into());
    }
    Ok(())
}

/// Identifies the evaluation: program, its definition of each figure, protocol, images (by name,
/// size and time), metrics and their weights.
fn identity(protocol: &str, val_set: &Dataset, args: &CompareArgs) -> Result<String> {
    let mut parts = vec![env!("CARGO_PKG_VERSION").to_owned(), libtorch_version(), protocol.to_owned()];
    parts.push(format!("{DEFINITIONS:?}"));
    parts.push(serde_json::to_string(&val_set.fingerprint())?);
    parts.extend(args.measures.words());
    for path in measures::weight_files(&args.measures)? {
        parts.push(weights::hash(&path)?);
    }
    Ok(parts.join("\0"))
}

/// What would be run.
fn describe(plan: &Plan, images: &Result<Dataset>) -> Result<String> {
    let mut text = format!("# the base, with what the sweep changes for all\n{}\n", plan.base.to_toml()?);
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let trained = plan.arms.iter().filter(|arm| matches!(arm.source, Source::Trained(_))).count();
    let _ = writeln!(
        text,
        "# arms: {}, {trained} of them trained with each of the seeds {seeds}: {} trainings of {} steps",
        plan.arms.len(),
        trained * plan.seeds.len(),
        plan.base.train.steps
    );
    let _ = match images {
        Ok(val_set) => writeln!(text, "# images: {} for evaluation", plan.base.eval.images_of(val_set.len())),
        Err(error) => writeln!(text, "# images: none here: {error:#}"),
    };
    for arm in &plan.arms {
        match &arm.source {
            Source::Existing { path, .. } => {
                let _ = writeln!(text, "# {}: {} as it is", arm.name, path.display());
            }
            Source::Trained(config) => {
                let (codebooks, size) = config.quantizer.settings().codes();
                let several = if codebooks > 1 { format!("{codebooks} × ") } else { String::new() };
                let changes = config.differences(&plan.base)?;
                let _ = writeln!(
                    text,
                    "# {}: {several}{size} codes; {}",
                    arm.name,
                    collect::or_base(&changes).join("; ")
                );
                for advice in config.advice()? {
                    let _ = writeln!(text, "# {}: note: {advice}", arm.name);
                }
            }
        }
    }
    Ok(text)
}
