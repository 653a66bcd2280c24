//! Runs a comparison, from its file to its report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::Device;

use super::job::Job;
use super::jobs::{self, LossWeights};
use super::layout::Layout;
use super::{Plan, Source, SweepError, collect, dry_run, existing, queue};
use crate::checkpoint::{Lock, RunFolder, write_atomic};
use crate::config::Config;
use crate::inference::MeasureOptions;
use crate::run::libtorch::libtorch_version;
use crate::run::{Run, Tell, check_batch, tell_omitted, tell_shared, training_set, validation_set, weights};
use crate::train::Signals;
use pixtok_base::Misuse;
use pixtok_base::paths::{make_folder, mark_output};
use pixtok_images::data::Dataset;
use pixtok_report::DEFINITIONS;
use pixtok_torch::{DeviceChoice, Precision, PrecisionChoice, auto_precision};

/// The options of a comparison.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// The comparison's file.
    pub sweep: PathBuf,
    /// The comparison's folder; by default it is derived from the file's name.
    pub out: Option<PathBuf>,
    /// The number of trainings that run at the same time; the default is one per device.
    pub jobs: Option<u32>,
    /// The devices for the trainings; not empty.
    pub devices: Vec<DeviceChoice>,
    /// CPU threads of libtorch in each training; the default is the number of processors divided by
    /// the number of jobs.
    pub threads: Option<i32>,
    /// What is measured.
    pub measures: MeasureOptions,
}

/// The outcome of a comparison.
#[derive(Debug)]
pub enum Compared {
    /// It finished, with a report on all arms.
    Whole {
        /// The results, and the paths of the files.
        report: String,
        /// If runs failed: how many, and what the same command would do about them.
        failed: Option<String>,
    },
    /// This signal stopped it. The same command continues it.
    Stopped(i32),
}

/// A checked comparison. Nothing on disk has changed yet.
struct Prepared {
    plan: Plan,
    layout: Layout,
    options: CompareOptions,
    /// The images on which all arms are evaluated.
    images: Result<Dataset>,
    jobs: Vec<Job>,
    /// Notes on the images.
    notes: Vec<String>,
}

fn prepare(options: &CompareOptions, tell: Tell) -> Result<Prepared> {
    let mut plan = Plan::read(&options.sweep)?;
    let out = options.out.clone().unwrap_or_else(|| Path::new("checkpoints").join(&plan.name));
    let layout = Layout::new(out);
    options.measures.check_size(plan.base.image_size())?;
    check_new_trainings(&plan, &layout)?;
    let devices = options.devices.iter().map(|choice| choice.resolve()).collect::<Result<Vec<_>, _>>()?;
    settle_precision(&mut plan, &layout, &devices, tell)?;
    let loss_weights = jobs::loss_weights(&plan, &options.measures.lpips_weights)?;
    let options = without_those_of_losses(options, &loss_weights);
    let images = images(&plan, tell);
    check_folder(&layout)?;
    // Without the images it cannot be checked whether earlier trainings used the same ones.
    let found = images.as_ref().ok();
    let jobs = found.map(|images| jobs(&plan, &layout, images, &options, &loss_weights)).transpose()?;
    if let Some(Images { train: Some(train), val }) = found {
        // After other images were refused, since this may read many of them.
        tell_shared(train, val, tell);
    }
    check(&plan, found.map(|images| &images.val), &options, devices[0], tell)?;
    let jobs = jobs.unwrap_or_default();
    let notes = images_notes(&plan, &jobs)?;
    notes.iter().for_each(|text| tell.say(text));
    jobs::tell_diverged(&jobs, tell);
    let images = images.map(|images| images.val);
    Ok(Prepared { plan, layout, options, images, jobs, notes })
}

/// Runs the unfinished jobs, then reports on all arms.
///
/// # Errors
/// Errors in the comparison's file, before anything is trained; errors that stop the comparison as
/// a whole.
pub fn compare(options: &CompareOptions, tell: Tell) -> Result<Compared> {
    let Prepared { plan, layout, options, images, jobs, notes } = prepare(options, tell)?;
    let val_set = images?;
    let out = layout.out();
    make_folder(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let _lock =
        Lock::take(out).context("another comparison works there; wait for it, or give another --out")?;
    mark_output(out).with_context(|| format!("cannot write into {}", out.display()))?;
    let protocol = plan.base.to_toml()?;
    write_atomic(&layout.protocol(), protocol.as_bytes())?;
    let signals = Signals::listen().context("cannot listen for signals")?;
    let outcomes = queue::run(&jobs, &options, &signals, tell)?;
    if let Some(signal) = signals.came() {
        return Ok(Compared::Stopped(signal));
    }
    let failed = outcomes.iter().filter(|outcome| outcome.is_some()).count();
    let during = match validation_set(&plan.base) {
        Ok((_, now)) if now.fingerprint() == val_set.fingerprint() => None,
        Ok(_) => Some(
            "the validation images changed while the comparison ran; the same command evaluates all arms again"
                .to_owned(),
        ),
        Err(error) => Some(format!("the validation images can no longer be read: {error:#}")),
    };
    during.iter().for_each(|text| tell.say(text));
    let notes: Vec<String> = notes.into_iter().chain(during).collect();
    let report = collect::report(&plan, &layout, (&jobs, &outcomes), &val_set, &notes, tell)?;
    Ok(Compared::Whole { report, failed: (failed > 0).then(|| jobs::outlook(&jobs, failed)) })
}

/// Describes what would be run.
///
/// # Errors
/// The same as [`compare`], but the images may be missing.
pub fn describe(options: &CompareOptions, tell: Tell) -> Result<String> {
    let Prepared { plan, images, .. } = prepare(options, tell)?;
    dry_run::words(&plan, &images)
}

/// Refuses arms whose settings a new training must not start with, unless they have already been
/// started here.
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

/// Resolves `auto` to one precision for all arms: that of the earlier comparison in this folder, or
/// bf16 if it is faster on every device, or fp32.
fn settle_precision(plan: &mut Plan, layout: &Layout, devices: &[Device], tell: Tell) -> Result<()> {
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
        tell.note(&format!("training in {precision} ({reason})"));
    } else {
        tell.note(&format!(
            "training in {precision} (the comparison started in it; {auto} would be faster here: {reason})"
        ));
    }
    plan.set_precision(precision);
    Ok(())
}

/// Removes LPIPS weights that only a loss needs from the options, so that no metric is expected for
/// them.
fn without_those_of_losses(options: &CompareOptions, loss_weights: &[LossWeights]) -> CompareOptions {
    let mut options = options.clone();
    if loss_weights.iter().any(Option::is_some) && !options.measures.wants_lpips() {
        options.measures.lpips_weights.clear();
    }
    options
}

fn trains(plan: &Plan) -> bool {
    plan.arms.iter().any(|arm| matches!(arm.source, Source::Trained(_)))
}

/// The images of a comparison.
struct Images {
    /// Those that arms are trained on; absent if none is.
    train: Option<Dataset>,
    /// Those that all arms are evaluated on.
    val: Dataset,
}

fn images(plan: &Plan, tell: Tell) -> Result<Images> {
    let train_set = trains(plan).then(|| training_set(&plan.base)).transpose()?;
    if let Some(train_set) = &train_set {
        check_batch(&plan.base, train_set)?;
    }
    let val_set = validation_set(&plan.base)?.1;
    tell_omitted(train_set.iter().chain([&val_set]), tell);
    Ok(Images { train: train_set, val: val_set })
}

/// Checks weights and existing tokenizers before any training.
fn check(
    plan: &Plan,
    val_set: Option<&Dataset>,
    options: &CompareOptions,
    device: Device,
    tell: Tell,
) -> Result<()> {
    if let Some(val_set) = val_set {
        // On the CPU, so that this process uses no memory of the trainings' devices.
        let images = plan.base.eval.images_of(val_set.len());
        options.measures.measures(images, Device::Cpu, tell)?;
    }
    for arm in &plan.arms {
        let Source::Existing { path, codebook_size } = &arm.source else { continue };
        let fail = |reason: String| SweepError::Arm { name: arm.name.clone(), reason };
        let codes = existing::try_out(path, val_set, &plan.base, device, tell);
        let codes = codes.map_err(|error| fail(format!("{error:#}")))?;
        if codebook_size.is_some() && *codebook_size != codes {
            let (path, wanted) = (path.display(), codebook_size.unwrap_or_default());
            let found = codes.map_or_else(|| "no tokens".to_owned(), |codes| format!("{codes} codes"));
            return Err(fail(format!("codebook_size is {wanted}, and {path} has {found}")).into());
        }
    }
    Ok(())
}

/// The jobs. Refuses earlier trainings with the same names that differ.
fn jobs(
    plan: &Plan,
    layout: &Layout,
    images: &Images,
    options: &CompareOptions,
    loss_weights: &[LossWeights],
) -> Result<Vec<Job>> {
    let identity = identity(&plan.base.to_toml()?, &images.val, &options.measures)?;
    let train_set = images.train.as_ref();
    let machines = queue::machines(options)?;
    let jobs = jobs::list(plan, layout, &identity, &machines, train_set, loss_weights)?;
    jobs.iter().try_for_each(|job| job.check_unchanged(train_set))?;
    Ok(jobs)
}

/// Notes on doubts whether earlier trainings here used the same images.
fn images_notes(plan: &Plan, jobs: &[Job]) -> Result<Vec<String>> {
    let mut doubts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        // Images that certainly differ have been refused already.
        if let Some(doubt) = job.difference()?.and_then(|found| found.doubt(&plan.base.data.train)) {
            doubts.entry(doubt).or_default().push(&job.label);
        }
    }
    let words = |(doubt, labels): (String, Vec<&str>)| {
        format!("since the training of {}: {doubt}", labels.join(", "))
    };
    Ok(doubts.into_iter().map(words).collect())
}

/// Refuses a folder that holds something else.
fn check_folder(layout: &Layout) -> Result<()> {
    let out = layout.out();
    // Hidden files are the lock and leftovers of a killed process.
    let shown = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
    };
    let holds_something = fs::read_dir(out).is_ok_and(|mut entries| entries.any(shown));
    if holds_something && !layout.protocol().exists() {
        let what = if Run::is_one(out) { "a training run" } else { "something else than a comparison" };
        return Err(Misuse(format!("{} holds {what}; give another --out", out.display())).into());
    }
    Ok(())
}

/// Identifies the evaluation: program, definitions of the figures, protocol, images (by name, size
/// and time), metrics and their weights.
fn identity(protocol: &str, val_set: &Dataset, measures: &MeasureOptions) -> Result<String> {
    let mut parts = vec![env!("CARGO_PKG_VERSION").to_owned(), libtorch_version(), protocol.to_owned()];
    parts.push(format!("{DEFINITIONS:?}"));
    parts.push(serde_json::to_string(&val_set.fingerprint())?);
    parts.push(serde_json::to_string(measures)?);
    for path in measures.weight_files()? {
        parts.push(weights::hash(&path)?);
    }
    Ok(parts.join("\0"))
}
