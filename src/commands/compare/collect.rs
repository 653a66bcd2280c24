//! From what the jobs left to the results and the report.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Map, json};

use super::exhibits::{self, logged};
use super::job::{Done, Job};
use super::layout::{self, Layout};
use crate::checkpoint::write_atomic;
use crate::report::{self, Arm, Comparison, FORMAT_VERSION, Run, Summary};
use crate::sweep::{Plan, PlannedArm, Source};
use crate::torch::PrecisionChoice;

/// How fast it trained, as the trainer logs it.
const SPEED: &str = "speed/images_per_sec";

/// Writes all results; returns in words where they are.
pub(super) fn report(
    plan: &Plan,
    layout: &Layout,
    jobs: &[Job],
    outcomes: &[Option<String>],
) -> Result<String> {
    let own = |arm: usize| -> Vec<(&Job, &Option<String>)> {
        jobs.iter().zip(outcomes).filter(|(job, _)| job.arm == arm).collect()
    };
    let arms = plan.arms.iter().enumerate().map(|(i, planned)| arm(plan, planned, layout, &own(i)));
    let comparison = Comparison {
        format_version: FORMAT_VERSION,
        name: plan.name.clone(),
        protocol: protocol(plan)?,
        environment: environment(jobs),
        base_config: plan.base.to_toml()?,
        arms: arms.collect::<Result<_>>()?,
    };
    let markdown = report::markdown(&comparison);
    let json = serde_json::to_string_pretty(&comparison)? + "\n";
    let write = |name: &str, content: &[u8]| write_atomic(&layout.out().join(name), content);
    write("results.json", json.as_bytes())?;
    write("results.csv", &report::csv(&comparison)?)?;
    write("results.md", markdown.as_bytes())?;
    // Last: whatever is wrong with a picture or a log, the figures are there.
    let arms: Vec<_> = (0..plan.arms.len()).map(own).collect();
    let (exhibits, originals) = exhibits::exhibits(&arms);
    write("report.html", report::html(&comparison, &exhibits, &originals)?.as_bytes())?;
    let out = layout.out().display();
    Ok(format!("{markdown}\nresults: {out}/results.json, .csv, .md\nreport: {out}/report.html\n"))
}

/// The differences in words, where there may be none.
pub(super) fn or_base(changes: &[String]) -> Vec<String> {
    if changes.is_empty() { vec!["the base as it is".into()] } else { changes.to_vec() }
}

fn arm(plan: &Plan, planned: &PlannedArm, layout: &Layout, own: &[(&Job, &Option<String>)]) -> Result<Arm> {
    let runs: Vec<Run> =
        own.iter().map(|(job, failure)| run(layout, job, failure.as_deref())).collect::<Result<_>>()?;
    let first = |name: &str| runs.iter().find_map(|run| run.figures.get(name)?.as_i64());
    let differences = match &planned.source {
        Source::Trained(config) => config.differences(&plan.base)?,
        Source::Existing { path, .. } => {
            let step = runs.first().and_then(|run| run.figures.get("step")?.as_u64());
            let steps = step.map_or_else(String::new, |step| format!(", trained for {step} steps"));
            vec![format!("taken as it is: {}{steps}", path.display())]
        }
    };
    Ok(Arm {
        name: planned.name.clone(),
        series: planned.series.clone(),
        codebook_size: first("codebook_size"),
        parameters: first("parameters"),
        differences: or_base(&differences),
        summary: Summary::of(&runs),
        runs,
    })
}

fn run(layout: &Layout, job: &Job, failure: Option<&str>) -> Result<Run> {
    let path = job.folder.strip_prefix(layout.out()).unwrap_or(&job.folder).display().to_string();
    let mut run = Run { seed: job.seed, path, figures: Map::new(), failure: failure.map(str::to_owned) };
    if failure.is_some() {
        return Ok(run);
    }
    let file = layout::evaluation(&job.folder).join("figures.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    run.figures = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
    // Where it lay is said by `path`, for folders of any name.
    run.figures.remove("tokenizer");
    let mut speeds: Vec<f64> = logged(&job.folder, SPEED)?.into_iter().map(|(_, value)| value).collect();
    speeds.sort_by(f64::total_cmp);
    if let Some(median) = speeds.get(speeds.len() / 2) {
        run.figures.insert("train_images_per_sec".into(), json!(median));
    }
    Ok(run)
}

/// What is the same for all arms, in words.
fn protocol(plan: &Plan) -> Result<Vec<(String, String)>> {
    let (data, train, eval) = (&plan.base.data, &plan.base.train, &plan.base.eval);
    let (words, val_set) = super::train::validation_set(&plan.base)?;
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    // Still `auto` if the comparison trains nothing.
    let precision = match train.precision {
        PrecisionChoice::Auto => String::new(),
        precision => format!(", {precision}"),
    };
    let resize = data.resize.map_or_else(String::new, |side| format!(", short side resized to {side}"));
    let rows = [
        ("trained on", data.train.clone()),
        ("evaluated on", format!("{words}, {} images", eval.images_of(val_set.len()))),
        ("images", format!("{} px{resize}, centre crop in evaluation", data.image_size)),
        ("budget", format!("{} steps of {} images{precision}", train.steps, train.batch_size)),
        (
            "seeds",
            format!("{seeds}; initialisation, order and augmentation of the data follow the seed alone"),
        ),
        ("evaluation", format!("fp32, batches of {}, raw weights of the last checkpoint", eval.batch_size)),
        ("values", "8 bits: round((x + 1)·127.5), clamped to 0 to 255".to_owned()),
    ];
    let mut rows: Vec<_> = rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let existing = plan.arms.iter().filter(|arm| matches!(arm.source, Source::Existing { .. }));
    let names: Vec<&str> = existing.map(|arm| arm.name.as_str()).collect();
    if !names.is_empty() {
        let words =
            format!("{}: with a training of their own; evaluation alone is the same", names.join(", "));
        rows.insert(0, ("taken as they are".to_owned(), words));
    }
    Ok(rows)
}

/// Versions and machine, as the runs themselves were made: several values where they differ.
fn environment(jobs: &[Job]) -> Vec<(String, String)> {
    let done: Vec<_> = jobs.iter().filter_map(Job::current).collect();
    let values = |of: &dyn Fn(&Done) -> String| {
        let mut values: Vec<String> = done.iter().map(of).collect();
        values.sort();
        values.dedup();
        values.join(", ")
    };
    let rows = [
        ("pixtok", values(&|done| done.pixtok.clone())),
        ("libtorch", values(&|done| done.libtorch.clone())),
        ("processor", values(&|done| done.processor.clone())),
        ("devices", values(&|done| done.device.clone())),
        ("threads", values(&|done| done.threads.to_string())),
    ];
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
