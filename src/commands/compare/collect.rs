//! From what the jobs left to the results and the report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::job::{Done, Job};
use super::layout::{self, Layout};
use crate::checkpoint::write_atomic;
use crate::commands::machine::Cpu;
use crate::data::{Dataset, Split};
use crate::picture::{DecodeOptions, Picture, read};
use crate::report::{self, Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Run, Summary};
use crate::sweep::{Plan, PlannedArm, Source};

/// What the curves show, as the trainer logs it.
const CURVES: [&str; 3] = ["loss/total", "val/psnr_db", "val/usage"];
/// How fast it trained, as the trainer logs it.
const SPEED: &str = "speed/images_per_sec";

/// Writes all results; returns in words where they are.
pub(super) fn report(
    plan: &Plan,
    layout: &Layout,
    jobs: &[Job],
    outcomes: &[Option<String>],
) -> Result<String> {
    let (mut arms, mut exhibits, mut originals) = (vec![], vec![], vec![]);
    for (i, planned) in plan.arms.iter().enumerate() {
        let own: Vec<(&Job, &Option<String>)> =
            jobs.iter().zip(outcomes).filter(|(job, _)| job.arm == i).collect();
        arms.push(arm(plan, planned, layout, &own)?);
        let shown = own.iter().find(|(_, failure)| failure.is_none());
        if let Some((job, _)) = shown.filter(|_| originals.is_empty()) {
            originals = pictures(&layout::evaluation(&job.folder).join("originals"))?;
        }
        exhibits.push(exhibit(&own)?);
    }
    // An arm that was evaluated at another size has no place in the grid of pictures.
    let size = |picture: &Picture| (picture.width, picture.height);
    for exhibit in &mut exhibits {
        let shown = &mut exhibit.reconstructions;
        if shown.len() != originals.len() || shown.iter().zip(&originals).any(|(a, b)| size(a) != size(b)) {
            shown.clear();
        }
    }
    let comparison = Comparison {
        format_version: FORMAT_VERSION,
        name: plan.name.clone(),
        protocol: protocol(plan)?,
        environment: environment(jobs),
        base_config: plan.base.to_toml()?,
        arms,
    };
    let markdown = report::markdown(&comparison);
    let json = serde_json::to_string_pretty(&comparison)? + "\n";
    let write = |name: &str, content: &str| write_atomic(&layout.out().join(name), content.as_bytes());
    write("results.json", &json)?;
    write("results.csv", &report::csv(&comparison))?;
    write("results.md", &markdown)?;
    // Last: whatever is wrong with a picture, the figures are there.
    write("report.html", &report::html(&comparison, &exhibits, &originals)?)?;
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
        Source::Existing { path, .. } => vec![format!("taken as it is: {}", path.display())],
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

fn exhibit(own: &[(&Job, &Option<String>)]) -> Result<Exhibit> {
    let mut exhibit = Exhibit::default();
    // Those of a failed training too: they show how it failed.
    for (job, _) in own {
        let curve = |name: &str| -> Result<Curve> {
            Ok(Curve { name: name.to_owned(), points: logged(&job.folder, name)? })
        };
        exhibit.curves.push(CURVES.into_iter().map(curve).collect::<Result<_>>()?);
    }
    if let Some((job, _)) = own.iter().find(|(_, failure)| failure.is_none()) {
        let folder = layout::evaluation(&job.folder);
        exhibit.code_counts = code_counts(&folder.join("code_counts.csv"))?;
        exhibit.reconstructions = pictures(&folder.join("reconstructions"))?;
    }
    Ok(exhibit)
}

/// `(step, value)` of every row of a run's `metrics.jsonl` that has the name; none for what was not trained here.
fn logged(run: &Path, name: &str) -> Result<Vec<(u64, f64)>> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(vec![]);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = text.lines().map(serde_json::from_str::<Map<String, Value>>);
    let mut points = vec![];
    for row in rows {
        let row = row.with_context(|| format!("{} is damaged", path.display()))?;
        if let (Some(step), Some(value)) =
            (row.get("step").and_then(Value::as_u64), row.get(name).and_then(Value::as_f64))
        {
            points.push((step, value));
        }
    }
    Ok(points)
}

/// In descending order.
fn code_counts(path: &Path) -> Result<Vec<i64>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let count = |line: &str| -> Result<i64> {
        let count = line.split_once(',').and_then(|(_, count)| count.parse().ok());
        count.with_context(|| format!("{} is damaged: {line:?}", path.display()))
    };
    let mut counts: Vec<i64> = text.lines().skip(1).map(count).collect::<Result<_>>()?;
    counts.sort_unstable_by(|a, b| b.cmp(a));
    Ok(counts)
}

/// In the order of their names, which is the same for all arms.
fn pictures(folder: &Path) -> Result<Vec<Picture>> {
    let files = Dataset::open(folder, Split::All)?;
    let pictures = (0..files.len()).map(|i| Ok(read(&files.path(i), &DecodeOptions::default())?));
    pictures.collect()
}

/// What is the same for all arms, in words.
fn protocol(plan: &Plan) -> Result<Vec<(String, String)>> {
    let (data, train, eval) = (&plan.base.data, &plan.base.train, &plan.base.eval);
    let (words, val_set) = super::train::validation_set(&plan.base)?;
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let resize = data.resize.map_or_else(String::new, |side| format!(", short side resized to {side}"));
    let rows = [
        ("trained on", data.train.clone()),
        ("evaluated on", format!("{words}, {} images", eval.images_of(val_set.len()))),
        ("images", format!("{} px{resize}, centre crop in evaluation", data.image_size)),
        ("budget", format!("{} steps of {} images, {}", train.steps, train.batch_size, train.precision)),
        (
            "seeds",
            format!("{seeds}; initialisation, order and augmentation of the data follow the seed alone"),
        ),
        ("evaluation", format!("fp32, batches of {}, raw weights of the last checkpoint", eval.batch_size)),
        ("values", "8 bits: round((x + 1)·127.5), clamped to 0 to 255".to_owned()),
    ];
    Ok(rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Versions and machine, as the runs themselves were made: several values where they differ.
fn environment(jobs: &[Job]) -> Vec<(String, String)> {
    let done: Vec<_> = jobs.iter().filter_map(Job::done).collect();
    let values = |of: &dyn Fn(&Done) -> String| {
        let mut values: Vec<String> = done.iter().map(of).collect();
        values.sort();
        values.dedup();
        values.join(", ")
    };
    let threads =
        |done: &Done| done.threads.map_or_else(|| "libtorch's choice".into(), |threads| threads.to_string());
    let rows = [
        ("pixtok", values(&|done| done.pixtok.clone())),
        ("libtorch", values(&|done| done.libtorch.clone())),
        ("processor", Cpu::here().model),
        ("devices", values(&|done| done.device.clone())),
        ("threads", values(&threads)),
    ];
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
