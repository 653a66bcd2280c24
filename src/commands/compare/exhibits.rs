//! What the page of a comparison shows beside the figures: curves, counts of codes, pictures. What cannot be read is left
//! out with a note.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::job::Job;
use super::{layout, note};
use crate::data::{ImageFolder, Split};
use crate::picture::{DecodeOptions, Picture, read};
use crate::report::{Curve, Exhibit};

/// What the curves show, as the trainer logs it.
const CURVES: [&str; 3] = ["loss/total", "val/psnr_db", "val/usage"];

/// The jobs of an arm, each with why it failed if it did.
type Own<'a> = Vec<(&'a Job, &'a Option<String>)>;

/// One exhibit for each arm, and the originals of their pictures.
pub(super) fn exhibits(arms: &[Own]) -> (Vec<Exhibit>, Vec<Picture>) {
    let originals = arms.iter().find_map(|own| of_arm(own, "originals")).unwrap_or_default();
    let exhibits = arms.iter().map(|own| exhibit(own, &originals)).collect();
    (exhibits, without_names(originals))
}

fn exhibit(own: &Own, originals: &[(String, Picture)]) -> Exhibit {
    // An arm that was evaluated on other images, or at another size, has no place in the grid of pictures.
    let size = |picture: &Picture| (picture.width, picture.height);
    let fits = |shown: &Vec<(String, Picture)>| {
        shown.len() == originals.len()
            && shown.iter().zip(originals).all(|(a, b)| a.0 == b.0 && size(&a.1) == size(&b.1))
    };
    let counts = first_done(own)
        .and_then(|job| readable(code_counts(&layout::evaluation(&job.folder).join("code_counts.csv"))));
    Exhibit {
        // Those of a failed training too: they show how it failed.
        curves: own.iter().filter_map(|(job, _)| readable(curves(&job.folder))).collect(),
        code_counts: counts.unwrap_or_default(),
        reconstructions: of_arm(own, "reconstructions").filter(fits).map(without_names).unwrap_or_default(),
    }
}

fn first_done<'a>(own: &Own<'a>) -> Option<&'a Job> {
    own.iter().find(|(_, failure)| failure.is_none()).map(|(job, _)| *job)
}

/// The pictures in a folder of an arm's first evaluation.
fn of_arm(own: &Own, folder: &str) -> Option<Vec<(String, Picture)>> {
    readable(pictures(&layout::evaluation(&first_done(own)?.folder).join(folder)))
}

fn readable<T>(read: Result<T>) -> Option<T> {
    read.map_err(|error| note(&format!("left out of the page: {error:#}"))).ok()
}

fn without_names(pictures: Vec<(String, Picture)>) -> Vec<Picture> {
    pictures.into_iter().map(|(_, picture)| picture).collect()
}

fn curves(run: &Path) -> Result<Vec<Curve>> {
    CURVES.into_iter().map(|name| Ok(Curve { name: name.to_owned(), points: logged(run, name)? })).collect()
}

/// `(step, value)` of every row of a run's `metrics.jsonl` that has the name; none for what was not trained here.
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

/// In the order of their names.
fn pictures(folder: &Path) -> Result<Vec<(String, Picture)>> {
    let files = ImageFolder::open(folder, Split::All)?;
    let picture =
        |i| Ok((files.name(i).into_owned(), read(&files.path(i), &DecodeOptions::default())?.release()));
    (0..files.len()).map(picture).collect()
}
