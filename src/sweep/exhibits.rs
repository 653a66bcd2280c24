//! The exhibits of a comparison's page: curves, code counts and pictures. Unreadable parts are
//! omitted with a note.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::job::Job;
use super::layout;
use crate::run::Tell;
use pixtok_images::data::{ImageFolder, Split};
use pixtok_images::picture::{DecodeOptions, LabelledSheet, Picture, read};
use pixtok_report::{Arm, Curve, Exhibit};

/// The names of the curves in the trainer's log.
const CURVES: [&str; 3] = ["loss/total", "val/psnr_db", "val/usage"];

/// The jobs of an arm, each with its failure, if it failed.
type Own<'a> = Vec<(&'a Job, &'a Option<String>)>;

/// One exhibit for each arm, and the originals of their pictures with their names.
pub(super) fn exhibits(arms: &[Own], tell: Tell) -> (Vec<Exhibit>, Vec<(String, Picture)>) {
    let shown: Vec<Option<Shown>> = arms.iter().map(|own| of_arm(own, tell)).collect();
    let originals = shared_originals(&shown);
    if originals.is_empty() && shown.iter().any(Option::is_some) {
        tell.say("left out of the page: pictures, none of which is in the evaluation of every arm");
    }
    let own_and_shown = arms.iter().zip(shown);
    let exhibits = own_and_shown.map(|(own, shown)| exhibit(own, shown, &originals, tell)).collect();
    (exhibits, originals)
}

/// A sheet with the originals and below them the reconstructions of each arm; `None` without any.
pub(super) fn sheet(arms: &[Arm], exhibits: &[Exhibit], originals: &[(String, Picture)]) -> Option<Picture> {
    let (names, pictures): (Vec<_>, Vec<_>) = originals.iter().cloned().unzip();
    if pictures.is_empty() {
        return None;
    }
    let with_pictures = arms.iter().zip(exhibits).filter(|(_, exhibit)| !exhibit.reconstructions.is_empty());
    let sheet = LabelledSheet::new(names).row("original", pictures);
    let sheet = with_pictures
        .fold(sheet, |sheet, (arm, exhibit)| sheet.row(&arm.name, exhibit.reconstructions.clone()));
    Some(sheet.draw())
}

/// The originals and reconstructions of an arm's first evaluation, by their names.
struct Shown {
    originals: BTreeMap<String, Picture>,
    reconstructions: BTreeMap<String, Picture>,
}

/// The originals that all arms with pictures have, provided that all have one size.
fn shared_originals(shown: &[Option<Shown>]) -> Vec<(String, Picture)> {
    let arms: Vec<&Shown> = shown.iter().flatten().collect();
    let Some(first) = arms.first() else { return vec![] };
    let size = |picture: &Picture| (picture.width, picture.height);
    let in_all = |(name, picture): &(&String, &Picture)| {
        let has = |pictures: &BTreeMap<String, Picture>| {
            pictures.get(*name).is_some_and(|own| size(own) == size(picture))
        };
        arms.iter().all(|shown| has(&shown.originals) && has(&shown.reconstructions))
    };
    let shared = first.originals.iter().filter(in_all);
    shared.map(|(name, picture)| (name.clone(), picture.clone())).collect()
}

fn exhibit(own: &Own, shown: Option<Shown>, originals: &[(String, Picture)], tell: Tell) -> Exhibit {
    let counts = first_done(own).and_then(|job| {
        readable(code_counts(&layout::evaluation(&job.folder).join("code_counts.csv")), tell)
    });
    let reconstructions = shown.map(|mut shown| {
        originals.iter().filter_map(|(name, _)| shown.reconstructions.remove(name)).collect()
    });
    Exhibit {
        // The curves of a failed training are shown too, because they show how it failed.
        curves: own.iter().filter_map(|(job, _)| readable(curves(trained_in(job)), tell)).collect(),
        code_counts: counts.unwrap_or_default(),
        reconstructions: reconstructions.unwrap_or_default(),
    }
}

/// The folder with the log of a job's training. A run that was there already has it in its own.
fn trained_in(job: &Job) -> &Path {
    if job.config.is_some() { &job.folder } else { &job.tokenizer }
}

fn first_done<'a>(own: &Own<'a>) -> Option<&'a Job> {
    own.iter().find(|(_, failure)| failure.is_none()).map(|(job, _)| *job)
}

/// The pictures of an arm's first evaluation.
fn of_arm(own: &Own, tell: Tell) -> Option<Shown> {
    let evaluation = layout::evaluation(&first_done(own)?.folder);
    let read = |folder: &str| readable(pictures(&evaluation.join(folder)), tell);
    Some(Shown { originals: read("originals")?, reconstructions: read("reconstructions")? })
}

fn readable<T>(read: Result<T>, tell: Tell) -> Option<T> {
    read.map_err(|error| tell.say(&format!("left out of the page: {error:#}"))).ok()
}

fn curves(run: &Path) -> Result<Vec<Curve>> {
    CURVES.into_iter().map(|name| Ok(Curve { name: name.to_owned(), points: logged(run, name)? })).collect()
}

/// `(step, value)` of every row of a run's `metrics.jsonl` that has this name; empty for an arm
/// that is not trained here.
pub(super) fn logged(run: &Path, name: &str) -> Result<Vec<(u64, f64)>> {
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

/// The code counts in a file, in descending order.
fn code_counts(path: &Path) -> Result<Vec<i64>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let count = |line: &str| -> Result<i64> {
        let count = line.split(',').nth(1).and_then(|count| count.parse().ok());
        count.with_context(|| format!("{} is damaged: {line:?}", path.display()))
    };
    let mut counts: Vec<i64> = text.lines().skip(1).map(count).collect::<Result<_>>()?;
    counts.sort_unstable_by(|a, b| b.cmp(a));
    Ok(counts)
}

/// The pictures in a folder, by the names of their images. Each file has the name of its image, and
/// `.png` after it.
fn pictures(folder: &Path) -> Result<BTreeMap<String, Picture>> {
    let files = ImageFolder::open(folder, Split::All)?;
    let picture = |i| {
        let name = files.name(i);
        let name = name.strip_suffix(".png").unwrap_or(&name).to_owned();
        Ok((name, read(&files.path(i), &DecodeOptions::default())?.release()))
    };
    (0..files.len()).map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str], width: usize) -> Option<Shown> {
        let picture = |value: usize| Picture { width, height: 1, rgb: vec![value as u8; 3 * width] };
        let pictures = |by: usize| {
            names.iter().enumerate().map(|(i, &name)| (name.to_owned(), picture(i + by))).collect()
        };
        Some(Shown { originals: pictures(0), reconstructions: pictures(100) })
    }

    #[test]
    fn pictures_that_all_arms_have_are_shown() {
        let names = |arms: &[Option<Shown>]| -> Vec<String> {
            shared_originals(arms).into_iter().map(|(name, _)| name).collect()
        };
        // The second arm omitted image b.
        assert_eq!(names(&[shown(&["a", "b", "c"], 2), None, shown(&["a", "c"], 2)]), ["a", "c"]);
        assert!(names(&[shown(&["a"], 2), shown(&["a"], 3)]).is_empty());
        assert!(names(&[None]).is_empty());
    }
}
