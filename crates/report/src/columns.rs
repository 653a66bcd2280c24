//! The content of a comparison's table before layout: its columns, the text of each cell, the best
//! values, and the reasons for absent values.

use serde_json::Value;

use super::{Comparison, Summary};
use crate::definition::{Better, DEFINITIONS, Definition};

/// The column of a figure that at least one arm has.
pub(super) struct Column {
    pub definition: &'static Definition,
    /// Whether it is over each evaluation's own images, which differ. Then it is not ranked.
    pub of_own_images: bool,
    /// One cell per arm.
    pub cells: Vec<Option<Cell>>,
}

/// The printed figure of an arm.
#[derive(Debug, PartialEq)]
pub(super) struct Cell {
    pub mean: String,
    /// The deviation. Absent with one seed, and if no arm's seeds differ in what is printed (for
    /// example codebook size).
    pub deviation: Option<String>,
    pub best: bool,
}

/// Figures that should have been measured but are absent, for one reason.
#[derive(Debug, PartialEq)]
pub(super) struct Absence {
    pub names: Vec<&'static str>,
    /// The arms without them; empty for all evaluated arms.
    pub arms: Vec<String>,
    pub reason: String,
}

/// The columns that have a value, in the order of the definitions.
pub(super) fn columns(comparison: &Comparison) -> Vec<Column> {
    DEFINITIONS.iter().filter_map(|definition| column(comparison, definition)).collect()
}

/// The statistics of a figure over the seeds of an arm, if it is a number.
pub(super) fn summary(comparison: &Comparison, arm: usize, name: &str) -> Option<Summary> {
    comparison.arms.get(arm)?.summary.get(name).copied().filter(|summary| summary.mean.is_finite())
}

fn column(comparison: &Comparison, definition: &'static Definition) -> Option<Column> {
    let summaries: Vec<_> =
        (0..comparison.arms.len()).map(|arm| summary(comparison, arm, definition.name)).collect();
    let present = || summaries.iter().flatten();
    let sign = match definition.better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
        Better::Neither => 0.0,
    };
    let print = |value: f64| number(value, definition.digits);
    let best = present().map(|summary| summary.mean).max_by(|a, b| (sign * a).total_cmp(&(sign * b)))?;
    // Values that are printed alike are a tie: their remaining digits are not significant.
    let of_own_images = comparison.of_own_images.iter().any(|name| name == definition.name);
    let ranked = definition.better != Better::Neither && present().count() > 1 && !of_own_images;
    let deviations = || present().filter_map(|summary| summary.deviation);
    let spread = deviations().any(|deviation| print(deviation) != print(0.0));
    let cell = |summary: &Summary| {
        let mean = print(summary.mean);
        let best = ranked && mean == print(best);
        Cell { mean, deviation: summary.deviation.filter(|_| spread).map(print), best }
    };
    let cells = summaries.iter().map(|summary| summary.as_ref().map(cell)).collect();
    Some(Column { definition, of_own_images, cells })
}

/// Formats a number with `digits` digits after the point, and commas between thousands.
pub(super) fn number(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}");
    let (whole, fraction) = plain.find('.').map_or((&plain[..], ""), |point| plain.split_at(point));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("−", whole));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// Figures that were requested but are absent: those that are null, or that a `NAME_note` explains.
pub(super) fn absences(comparison: &Comparison) -> Vec<Absence> {
    let mut absences: Vec<Absence> = vec![];
    let evaluated = comparison.arms.iter().filter(|arm| arm.runs.iter().any(|run| !run.figures.is_empty()));
    let evaluated = evaluated.count();
    for definition in DEFINITIONS {
        let mut reasons: Vec<(String, Vec<String>)> = vec![];
        for (at, arm) in comparison.arms.iter().enumerate() {
            let absent = summary(comparison, at, definition.name).is_none();
            let Some(reason) = reason(comparison, at, definition.name).filter(|_| absent) else { continue };
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, arms)) => arms.push(arm.name.clone()),
                None => reasons.push((reason, vec![arm.name.clone()])),
            }
        }
        for (reason, arms) in reasons {
            let arms = if arms.len() == evaluated { vec![] } else { arms };
            match absences.iter_mut().find(|known| known.reason == reason && known.arms == arms) {
                Some(known) => known.names.push(definition.name),
                None => absences.push(Absence { names: vec![definition.name], arms, reason }),
            }
        }
    }
    absences
}

fn reason(comparison: &Comparison, arm: usize, name: &str) -> Option<String> {
    let figures = || comparison.arms[arm].runs.iter().map(|run| &run.figures);
    let note = figures().find_map(|figures| figures.get(&format!("{name}_note"))?.as_str());
    let null = figures().any(|figures| figures.get(name).is_some_and(Value::is_null));
    note.map(str::to_owned).or_else(|| null.then(|| "not measured".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use serde_json::json;

    fn means(column: &Column) -> Vec<&str> {
        column.cells.iter().map(|cell| cell.as_ref().map_or("", |cell| &cell.mean)).collect()
    }

    fn best(column: &Column) -> Vec<bool> {
        column.cells.iter().map(|cell| cell.as_ref().is_some_and(|cell| cell.best)).collect()
    }

    #[test]
    fn the_best_of_a_ranked_column_is_marked_and_ties_share_it() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[json!({"psnr_db": 27.001, "l1": 3.0, "usage": 0.1})]),
            ("b", "s", &[json!({"psnr_db": 27.004, "l1": 2.0, "usage": 0.2})]),
            ("c", "s", &[json!({"psnr_db": 26.0, "l1": 4.0, "usage": 0.3})]),
        ]);
        let columns = columns(&comparison);
        let names: Vec<_> = columns.iter().map(|column| column.definition.name).collect();
        assert_eq!(names, ["psnr_db", "l1", "usage"]);
        assert_eq!(best(&columns[0]), [true, true, false], "what prints alike is a tie");
        assert_eq!(best(&columns[1]), [false, true, false], "lower is better");
        assert_eq!(best(&columns[2]), [false; 3], "usage ranks nothing");
    }

    #[test]
    fn figures_of_sets_that_differ_rank_nothing() {
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[json!({"psnr_db": 27.0, "rfid": 3.0})]),
            ("b", "s", &[json!({"psnr_db": 26.0, "rfid": 2.0})]),
        ]);
        assert_eq!(best(&columns(&comparison)[1]), [false, true]);
        comparison.of_own_images = vec!["rfid".into()];
        let columns = columns(&comparison);
        assert_eq!((best(&columns[0]), columns[0].of_own_images), (vec![true, false], false));
        assert_eq!((best(&columns[1]), columns[1].of_own_images), (vec![false, false], true));
    }

    #[test]
    fn one_arm_is_not_best() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0})])]);
        assert_eq!(best(&columns(&comparison)[0]), [false]);
    }

    #[test]
    fn cells_hold_means_and_deviations() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[json!({"images": 129, "psnr_db": 27.0}), json!({"images": 129, "psnr_db": 28.0})]),
            ("b", "s", &[json!({"images": 129, "psnr_db": 12345.678})]),
        ]);
        let columns = columns(&comparison);
        assert_eq!(columns[0].cells[0].as_ref().unwrap().deviation, None, "no seed differs");
        assert_eq!(means(&columns[1]), ["27.50", "12,345.68"]);
        assert_eq!(columns[1].cells[0].as_ref().unwrap().deviation.as_deref(), Some("0.71"));
        assert_eq!(columns[1].cells[1].as_ref().unwrap().deviation, None);
    }

    #[test]
    fn what_is_no_number_is_absent() {
        let mut comparison = fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0})])]);
        comparison.arms[0].summary.get_mut("psnr_db").unwrap().mean = f64::NAN;
        assert!(columns(&comparison).is_empty());
    }

    #[test]
    fn a_reason_is_said_once() {
        let small = json!({"psnr_db": 27.0, "ms_ssim": null, "ms_ssim_note": "images under 176 px",
            "lpips_alex": null, "lpips_alex_note": "no weights", "lpips_vgg": null, "lpips_vgg_note": "no weights"});
        let foreign =
            json!({"psnr_db": 27.0, "ms_ssim": null, "ms_ssim_note": "images under 176 px", "usage": null});
        let comparison = fixture::comparison(&[
            ("a", "s", &[small.clone(), small]),
            ("b", "s", &[foreign]),
            ("failed", "s", &[]),
        ]);
        let found = absences(&comparison);
        let absence = |names: &[&'static str], arms: &[&str], reason: &str| Absence {
            names: names.to_vec(),
            arms: arms.iter().map(|&arm| arm.to_owned()).collect(),
            reason: reason.to_owned(),
        };
        assert_eq!(found[0], absence(&["ms_ssim"], &[], "images under 176 px"));
        assert_eq!(found[1], absence(&["lpips_alex", "lpips_vgg"], &["a"], "no weights"));
        assert_eq!(found[2], absence(&["usage"], &["b"], "not measured"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn thousands_are_set_apart() {
        let cases =
            [(0.0, 0, "0"), (999.5, 1, "999.5"), (1000.0, 0, "1,000"), (-1_234_567.25, 2, "−1,234,567.25")];
        for (value, digits, text) in cases {
            assert_eq!(number(value, digits), text);
        }
    }
}
