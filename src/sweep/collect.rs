//! Collects the results of the jobs into the results file and the report.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, json};

use super::exhibits::{self, logged};
use super::job::{Done, Job};
use super::layout::{self, Layout};
use super::pairs::pairs;
use super::shared::{Evaluated, share_images};
use super::{Plan, PlannedArm, Source};
use crate::checkpoint::write_atomic;
use crate::config::Difference;
use crate::evaluate::Scores;
use crate::run::{Tell, words_of_validation};
use pixtok_base::paths::make_folder;
use pixtok_images::data::Dataset;
use pixtok_report::{Arm, Comparison, FORMAT_VERSION, PlotFile, Run, Summary};
use pixtok_torch::PrecisionChoice;

/// The training speed in the trainer's log.
const SPEED: &str = "speed/images_per_sec";
/// The rows of the protocol that are about trainings.
const OF_TRAININGS: [&str; 3] = ["trained on", "budget", "seeds"];

/// Writes all results of the evaluations on `val_set`, with `notes` on the images. Returns a
/// message that says where they are.
pub(super) fn report(
    plan: &Plan,
    layout: &Layout,
    (jobs, outcomes): (&[Job], &[Option<String>]),
    val_set: &Dataset,
    notes: &[String],
    tell: Tell,
) -> Result<String> {
    let all = jobs.iter().zip(outcomes).map(|(job, failure)| evaluated(layout, job, failure.as_deref()));
    let mut all = all.collect::<Result<Vec<_>>>()?;
    let own = share_images(&mut all);
    let names: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
    let pairs = pairs(&names, &all, &own);
    let arms = plan.arms.iter().enumerate().map(|(i, planned)| {
        arm(plan, planned, all.extract_if(.., |one| one.arm == i).map(|one| one.run).collect())
    });
    let comparison = Comparison {
        format_version: FORMAT_VERSION,
        name: plan.name.clone(),
        protocol: protocol(plan, val_set, notes),
        environment: environment(jobs),
        base_config: plan.base.to_toml()?,
        arms: arms.collect::<Result<_>>()?,
        of_own_images: own.into_iter().map(str::to_owned).collect(),
        pairs,
    };
    let markdown = pixtok_report::markdown(&comparison);
    let json = serde_json::to_string_pretty(&comparison)? + "\n";
    let write = |name: &str, content: &[u8]| write_atomic(&layout.out().join(name), content);
    write("results.json", json.as_bytes())?;
    write("results.csv", &pixtok_report::csv(&comparison)?)?;
    write("results.md", markdown.as_bytes())?;
    write("results.tex", pixtok_report::latex(&comparison).as_bytes())?;
    write("summary.csv", &pixtok_report::summary_csv(&comparison)?)?;
    // Pictures and logs are read last. If one of them is unreadable, the figures are already
    // written.
    let own = |arm: usize| -> Vec<(&Job, &Option<String>)> {
        jobs.iter().zip(outcomes).filter(|(job, _)| job.arm == arm).collect()
    };
    let arms: Vec<_> = (0..plan.arms.len()).map(own).collect();
    let (exhibits, originals) = exhibits::exhibits(&arms, tell);
    if let Some(sheet) = exhibits::sheet(&comparison.arms, &exhibits, &originals) {
        write("pictures.png", &sheet.to_png()?)?;
    }
    write_plots(&layout.plots(), &pixtok_report::plots(&comparison, &exhibits)?)?;
    write("report.html", pixtok_report::html(&comparison, &exhibits, &originals)?.as_bytes())?;
    let out = layout.out().display();
    Ok(format!(
        "{markdown}\nresults: {out}/results.json, .csv, .md, .tex, summary.csv\nreport: {out}/report.html, pictures.png, plots/\n"
    ))
}

/// Writes the plots, and removes those of an earlier report that this one does not have.
fn write_plots(folder: &Path, plots: &[PlotFile]) -> Result<()> {
    make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for plot in plots {
        let path = folder.join(plot.name).with_extension("svg");
        match &plot.svg {
            Some(svg) => write_atomic(&path, svg.as_bytes())?,
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            },
        }
    }
    Ok(())
}

/// The differences from the base in words, where there may be none.
pub(super) fn in_words(differences: &[Difference]) -> Vec<String> {
    if differences.is_empty() {
        return vec!["the base as it is".into()];
    }
    differences.iter().map(ToString::to_string).collect()
}

fn arm(plan: &Plan, planned: &PlannedArm, runs: Vec<Run>) -> Result<Arm> {
    let first = |name: &str| runs.iter().find_map(|run| run.figures.get(name)?.as_i64());
    let differences = match &planned.source {
        Source::Trained(config) => in_words(&config.differences(&plan.base)?),
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
        differences,
        summary: Summary::of(&runs),
        runs,
    })
}

/// Reads the results of a job.
fn evaluated(layout: &Layout, job: &Job, failure: Option<&str>) -> Result<Evaluated> {
    let path = job.folder.strip_prefix(layout.out()).unwrap_or(&job.folder).display().to_string();
    let failure = failure.map(str::to_owned);
    let mut run = Run { seed: job.seed, path, figures: Map::new(), failure, left_out: vec![], notes: vec![] };
    if run.failure.is_some() {
        return Ok(Evaluated { arm: job.arm, run, scores: None });
    }
    let read = |name: &str| -> Result<(String, Vec<u8>)> {
        let file = layout::evaluation(&job.folder).join(name);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((format!("{} is damaged", file.display()), bytes))
    };
    let (damaged, text) = read("figures.json")?;
    run.figures = serde_json::from_slice(&text).context(damaged.clone())?;
    // `path` states where it was, for folders of any name.
    run.figures.remove("tokenizer");
    // Empty lists are omitted from the JSON.
    let mut list = |name: &str| run.figures.remove(name).unwrap_or_else(|| json!([]));
    let (left_out, notes) = (list("left_out"), list("notes"));
    run.left_out = serde_json::from_value(left_out).context(damaged.clone())?;
    run.notes = serde_json::from_value(notes).context(damaged)?;
    let mut speeds: Vec<f64> = logged(&job.folder, SPEED)?.into_iter().map(|(_, value)| value).collect();
    speeds.sort_by(f64::total_cmp);
    if let Some(median) = speeds.get(speeds.len() / 2) {
        run.figures.insert("train_images_per_sec".into(), json!(median));
    }
    let (damaged, table) = read("per_image.csv")?;
    let scores = Scores::from_csv(&table).context(damaged)?;
    Ok(Evaluated { arm: job.arm, run, scores: Some(scores) })
}

/// The conditions that are equal for all arms, in words, and the notes.
fn protocol(plan: &Plan, val_set: &Dataset, notes: &[String]) -> Vec<(String, String)> {
    let (data, train, eval) = (&plan.base.data, &plan.base.train, &plan.base.eval);
    let words = words_of_validation(&plan.base);
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    // The precision is still `auto` if the comparison trains nothing.
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
    // Where nothing is trained, the base states only how images are prepared and measured.
    let applies = |(name, _): &(&str, String)| plan.trains() || !OF_TRAININGS.contains(name);
    let rows = rows.into_iter().filter(applies);
    let mut rows: Vec<_> = rows.map(|(name, value)| (name.to_owned(), value)).collect();
    let existing = plan.arms.iter().filter(|arm| matches!(arm.source, Source::Existing { .. }));
    let names: Vec<&str> = existing.map(|arm| arm.name.as_str()).collect();
    if !names.is_empty() {
        let words =
            format!("{}: with a training of their own; evaluation alone is the same", names.join(", "));
        rows.insert(0, ("taken as they are".to_owned(), words));
    }
    rows.extend(notes.iter().map(|note| ("note".to_owned(), note.clone())));
    rows
}

/// Versions and machine of the runs; several values if the runs differ.
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
