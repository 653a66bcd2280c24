//! Runs a comparison, from what is given to its report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tch::Device;

use super::existing::{Trial, Tried};
use super::job::Job;
use super::jobs::{self, LossWeights};
use super::layout::Layout;
use super::plan::Changes;
use super::problems::Problems;
use super::subject::Subject;
use super::{Plan, Source, SweepError, collect, dry_run, given, queue, speeds};
use crate::checkpoint::{Lock, RunFolder, write_atomic};
use crate::config::{Config, shipped};
use crate::evaluate::check_samples;
use crate::inference::{MeasureOptions, TrainingSearch};
use crate::model::Tokenizer;
use crate::run::libtorch::libtorch_version;
use crate::run::{Run, Tell, check_batch, tell_omitted, tell_overlap, training_set, validation_set, weights};
use crate::train::Signals;
use pixtok_base::Misuse;
use pixtok_base::paths::{make_folder, mark_output};
use pixtok_images::data::Dataset;
use pixtok_report::DEFINITIONS;
use pixtok_torch::{DeviceChoice, Precision, PrecisionChoice, auto_precision};

/// The options of a comparison.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// What is compared: the file of a sweep, whose arms are trained, or tokenizers as they are.
    pub subjects: Vec<PathBuf>,
    /// The trainings and images.
    pub changes: Changes,
    /// The config, or the run, that states how images are prepared for tokenizers that are compared
    /// as they are; absent: the first run among them.
    pub protocol: Option<PathBuf>,
    /// The names of the images on the report's pictures; empty: those of the base's `eval.samples`,
    /// or some with much detail.
    pub images: Vec<String>,
    /// The comparison's folder; by default it is derived from the file's name or the arms' names.
    pub out: Option<PathBuf>,
    /// The number of jobs that run at the same time; the default is one per device.
    pub jobs: Option<u32>,
    /// The devices for the jobs; not empty.
    pub devices: Vec<DeviceChoice>,
    /// CPU threads of libtorch in each job; the default is the number of processors divided by the
    /// number of jobs.
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
    images: Result<Arc<Dataset>>,
    jobs: Vec<Job>,
    /// Notes on the images.
    notes: Vec<String>,
    /// Doubts about each arm's foreign pair.
    doubts: Vec<Vec<String>>,
}

/// Plans the comparison of what is given.
fn plan(options: &CompareOptions) -> Result<Plan> {
    let CompareOptions { subjects, changes, protocol, .. } = options;
    let images = changes.data.iter().chain(&changes.val_data);
    if let Some(path) = images.into_iter().find(|path| path.to_str().is_none()) {
        return Err(Misuse(format!("{} is not a UTF-8 path; rename it", path.display())).into());
    }
    if changes.data.is_none() && (changes.pick.split.is_some() || changes.pick.image_column.is_some()) {
        let words = "--split and --image-column choose among the images of --data; give it too";
        return Err(Misuse(words.to_owned()).into());
    }
    let [path] = &subjects[..] else { return given::plan(subjects, changes, protocol.as_deref()) };
    let path = &shipped::comparison(path).map_err(|error| {
        Misuse(format!(
            "{error}; to compare tokenizers as they are, give run folders, model folders, adapters (.toml) and \
             folders of reconstructions"
        ))
    })?;
    match Subject::at(path)? {
        Subject::Sweep => {
            if let Some(protocol) = protocol {
                return Err(Misuse(format!(
                    "--protocol is {}, but {} is a sweep, whose base states how images are prepared; leave it out, \
                     or change the base with --set, for instance --set data.image_size=64",
                    protocol.display(),
                    path.display()
                ))
                .into());
            }
            Ok(Plan::read(path, changes)?)
        }
        Subject::Config => {
            let path = path.display();
            Err(Misuse(format!(
                "{path} is a training config; train it with `pixtok train {path}`, or name it as the base of a sweep, \
                 a file with base = \"…\" and arms (configs/compare has some)"
            ))
            .into())
        }
        Subject::Adapter | Subject::Folder => given::plan(subjects, changes, protocol.as_deref()),
    }
}

/// Checks everything that the comparison needs. The images may be missing for a dry run.
fn prepare(options: &CompareOptions, dry_run: bool, tell: Tell) -> Result<Prepared> {
    let mut plan = plan(options)?;
    if !options.images.is_empty() {
        plan.base.eval.samples.clone_from(&options.images);
    }
    let out = options.out.clone().unwrap_or_else(|| Path::new("checkpoints").join(&plan.folder));
    let layout = Layout::new(out);
    check_folder(&layout)?;
    let devices = options.devices.iter().map(|choice| choice.resolve()).collect::<Result<Vec<_>, _>>()?;
    let mut problems = Problems::default();
    problems.keep(options.measures.check_size(plan.base.image_size()));
    check_new_trainings(&plan, &layout, &mut problems);
    let loss_weights = jobs::loss_weights(&plan, &options.measures.lpips_weights, &mut problems);
    let options = without_those_of_losses(options, &loss_weights);
    let images = images(&plan, tell);
    let found = images.as_ref().ok();
    problems.keep(check_weights(&plan, found, &options, tell));
    problems.keep(found.map_or(Ok(()), |found| check_samples(&found.val, &plan.base.eval)));
    let tried = try_out(&plan, found, devices[0], &mut problems, tell);
    problems.keep(check_prefixes(&plan, &tried, &options.measures.prefixes));
    problems.finish(images.as_ref().err().filter(|_| !dry_run))?;
    settle_precision(&mut plan, &layout, &devices, tell)?;
    // Without the images it cannot be checked whether earlier trainings used the same ones.
    let jobs = found.map(|found| jobs(&plan, &layout, found, &options, &loss_weights, &tried)).transpose()?;
    let mut jobs = jobs.unwrap_or_default();
    if let Some(found) = found {
        // After other images were refused, since this may read many of them.
        search_training_images(&plan, found, &tried, &mut jobs, tell);
    }
    let notes = images_notes(&plan, &jobs)?.into_iter().chain(preparation_notes(&plan, &tried));
    let notes: Vec<String> = plan.remarks.iter().cloned().chain(notes).collect();
    notes.iter().for_each(|text| tell.say(text));
    jobs::tell_diverged(&jobs, tell);
    let images = images.map(|images| images.val);
    let doubts = tried.into_iter().map(|tried| tried.map(|tried| tried.doubts).unwrap_or_default()).collect();
    Ok(Prepared { plan, layout, options, images, jobs, notes, doubts })
}

/// Runs the unfinished jobs, measures the speeds of all arms, and reports on them.
///
/// # Errors
/// Errors in what is given, before anything is trained or measured; errors that stop the comparison
/// as a whole.
pub fn compare(options: &CompareOptions, tell: Tell) -> Result<Compared> {
    let named = options.out.is_some();
    let Prepared { plan, layout, options, images, jobs, notes, .. } = prepare(options, false, tell)?;
    let val_set = images?;
    let out = layout.out();
    if !named {
        tell.note(&format!("results: in {} (--out chooses another folder)", out.display()));
    }
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
    let slow = speeds::measure(&jobs, &outcomes, &layout, &options, &signals, tell)?;
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
    let late: Vec<String> = slow.into_iter().chain(during).collect();
    late.iter().for_each(|text| tell.say(text));
    let notes: Vec<String> = notes.into_iter().chain(late).collect();
    let report = collect::report(&plan, &layout, (&jobs, &outcomes), &val_set, &notes, tell)?;
    Ok(Compared::Whole { report, failed: (failed > 0).then(|| jobs::outlook(&jobs, failed)) })
}

/// Describes what would be run.
///
/// # Errors
/// The same as [`compare`], but the images may be missing.
pub fn describe(options: &CompareOptions, tell: Tell) -> Result<String> {
    let Prepared { plan, layout, images, doubts, .. } = prepare(options, true, tell)?;
    dry_run::words(&plan, &images, &doubts, layout.out())
}

/// Refuses arms whose settings a new training must not start with, unless they have already been
/// started here.
fn check_new_trainings(plan: &Plan, layout: &Layout, problems: &mut Problems) {
    for arm in &plan.arms {
        let Source::Trained(config) = &arm.source else { continue };
        let begun = |seed: &u64| {
            let run = RunFolder::open(&layout.run(&arm.name, Some(*seed)));
            run.and_then(|run| run.checkpoints()).is_ok_and(|steps| !steps.is_empty())
        };
        if let (Err(error), false) = (config.check_new_training(), plan.seeds.iter().all(begun)) {
            let reason = error.to_string();
            problems.keep(Err::<(), _>(SweepError::Arm { name: arm.name.clone(), reason }));
        }
    }
}

/// Resolves `auto` to one precision for all arms: that of the earlier comparison in this folder, or
/// bf16 if it is faster on every device, or fp32.
fn settle_precision(plan: &mut Plan, layout: &Layout, devices: &[Device], tell: Tell) -> Result<()> {
    if plan.base.train.precision != PrecisionChoice::Auto || !plan.trains() {
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

/// The images of a comparison.
struct Images {
    /// Those that arms are trained on; absent if none is.
    train: Option<Dataset>,
    /// Those that all arms are evaluated on.
    val: Arc<Dataset>,
}

fn images(plan: &Plan, tell: Tell) -> Result<Images> {
    let train_set = plan.trains().then(|| training_set(&plan.base)).transpose()?;
    if let Some(train_set) = &train_set {
        check_batch(&plan.base, train_set)?;
    }
    let val_set = validation_set(&plan.base)?.1;
    tell_omitted(train_set.iter().chain([&val_set]), tell);
    Ok(Images { train: train_set, val: Arc::new(val_set) })
}

/// Checks the weights of the metrics.
fn check_weights(plan: &Plan, found: Option<&Images>, options: &CompareOptions, tell: Tell) -> Result<()> {
    // How many images there are elsewhere is not known; there may be enough of them.
    let images = found.map_or(usize::MAX, |images| plan.base.eval.images_of(images.val.len()));
    // On the CPU, so that this process uses no memory of the trainings' devices.
    options.measures.measures(images, Device::Cpu, tell)?;
    Ok(())
}

/// Tries all existing tokenizers. Returns what was found, for each arm that exists and works.
fn try_out(
    plan: &Plan,
    found: Option<&Images>,
    device: Device,
    problems: &mut Problems,
    tell: Tell,
) -> Vec<Option<Tried>> {
    let mut trial = Trial::new(plan, found.map(|images| &images.val), device, tell);
    let mut tried = vec![];
    for arm in &plan.arms {
        let Source::Existing { path, codebook_size } = &arm.source else {
            tried.push(None);
            continue;
        };
        let fail = |reason: String| SweepError::Arm { name: arm.name.clone(), reason };
        let what = trial.of(path).map_err(|error| fail(format!("{error:#}")));
        let what = what.and_then(|what| match (*codebook_size, what.codes) {
            (Some(wanted), codes) if Some(wanted) != codes => {
                let path = path.display();
                let codes = codes.map_or_else(|| "no tokens".to_owned(), |codes| format!("{codes} codes"));
                Err(fail(format!("codebook_size is {wanted}, and {path} has {codes}")))
            }
            _ => Ok(what),
        });
        tried.push(problems.keep(what));
    }
    tried
}

/// Refuses a prefix that no arm has. What only some arms have is measured for those.
fn check_prefixes(plan: &Plan, tried: &[Option<Tried>], lengths: &[u32]) -> Result<()> {
    let mut most = 0;
    for (arm, tried) in plan.arms.iter().zip(tried) {
        let whole = match (&arm.source, tried) {
            (Source::Trained(config), _) => {
                Tokenizer::prefixes_of(config.model.settings(), &config.quantizer, &config.data)?
            }
            (Source::Existing { .. }, Some(tried)) => tried.prefixes,
            // It is refused for another reason.
            (Source::Existing { .. }, None) => return Ok(()),
        };
        most = most.max(whole.map_or(0, |whole| whole.of));
    }
    let Some(length) = lengths.iter().find(|length| !(1..=most).contains(*length)) else { return Ok(()) };
    let words = match most {
        0 => "every arm decodes an image only from all of its tokens; leave it out (prefixes are for \
              networks that were trained with model.tail_drop, and for residual quantizers)"
            .to_owned(),
        most => format!("no arm has as many tokens or stages; give numbers from 1 to {most}"),
    };
    Err(Misuse(format!("--prefix {length}: {words}")).into())
}

/// The jobs. Refuses earlier trainings with the same names that differ.
fn jobs(
    plan: &Plan,
    layout: &Layout,
    images: &Images,
    options: &CompareOptions,
    loss_weights: &[LossWeights],
    tried: &[Option<Tried>],
) -> Result<Vec<Job>> {
    let identity = identity(&plan.base.to_toml()?, &images.val, &options.measures)?;
    let train_set = images.train.as_ref();
    let machines = queue::machines(options)?;
    let jobs = jobs::list(plan, layout, &identity, &machines, train_set, loss_weights, tried)?;
    let mut problems = Problems::default();
    for job in &jobs {
        problems.keep(job.check_unchanged(train_set));
    }
    problems.finish(None)?;
    Ok(jobs)
}

/// Searches the evaluated images among all training images, once for those of all trained arms, and
/// notes in each job what was found.
fn search_training_images(
    plan: &Plan,
    images: &Images,
    tried: &[Option<Tried>],
    jobs: &mut [Job],
    tell: Tell,
) {
    let mut search = TrainingSearch::new(&images.val, plan.base.eval.bound());
    if let Some(train_set) = &images.train {
        tell_overlap(&search.among(&plan.base, train_set), search.total(), tell);
    }
    for job in jobs {
        let notes = match (&job.config, &tried[job.arm]) {
            (Some(config), _) => search.notes_of(config, None, tell),
            (None, Some(Tried { trained: Some((config, then)), .. })) => {
                search.notes_of(config, then.as_ref(), tell)
            }
            (None, _) => vec![],
        };
        job.note_training_images(notes);
    }
}

/// Notes on the arms whose own preparation of images is not the one that is used for all.
fn preparation_notes(plan: &Plan, tried: &[Option<Tried>]) -> impl Iterator<Item = String> {
    plan.arms.iter().zip(tried).filter_map(move |(arm, tried)| {
        let words = tried.as_ref()?.preparation.as_ref()?;
        Some(format!(
            "{} would prepare images differently from {}, whose preparation is used for all: {words}",
            arm.name,
            plan.recipe.path.display()
        ))
    })
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
