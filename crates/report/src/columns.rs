//! The content of a comparison's table before layout: its columns, the text of each cell, the best
//! values, and the reasons for absent values.

use serde_json::Value;

use super::ranking::{Ranking, best, range};
use super::{Comparison, Summary};
use crate::definition::{DEFINITIONS, Definition};

/// The column of a figure that at least one arm has.
pub(super) struct Column {
    pub definition: &'static Definition,
    /// Whether it is over each evaluation's own images, which differ. Then it is not ranked.
    pub of_own_images: bool,
    /// One cell per arm.
    pub cells: Vec<Option<Cell>>,
    /// What all arms that have the figure have in common, if there are several and it does not rank
    /// them. Such a column is not shown; a line below the tables has it.
    pub same: Option<Same>,
}

/// A content that several arms have in common.
#[derive(Debug, PartialEq)]
pub(super) struct Same {
    pub words: String,
    /// Whether no evaluated arm lacks it.
    pub all: bool,
}

/// The printed figure of an arm.
#[derive(Debug, PartialEq)]
pub(super) struct Cell {
    pub mean: String,
    /// Absent with one seed, and if no arm's seeds differ in what is printed (for example codebook
    /// size).
    pub spread: Option<Spread>,
    pub best: bool,
}

/// How far the measurements behind a printed figure lie apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Spread {
    /// The standard deviation over seeds.
    Deviation(String),
    /// The least and the greatest of a speed's measurements.
    Range(String, String),
}

impl Spread {
    /// The spread after its mean: `± 0.71`, or `(930 to 1,020)`.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Deviation(value) => format!("± {value}"),
            Self::Range(least, greatest) => format!("({least} to {greatest})"),
        }
    }
}

impl Cell {
    /// The mean with its spread, in plain text.
    pub(super) fn words(&self) -> String {
        let spread = self.spread.as_ref().map(|spread| format!(" {}", spread.words()));
        format!("{}{}", self.mean, spread.unwrap_or_default())
    }
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
    let ranking = Ranking::of(comparison);
    DEFINITIONS.iter().filter_map(|definition| column(comparison, definition, &ranking)).collect()
}

/// The statistics of a figure over the seeds of an arm, if it is a number.
pub(super) fn summary(comparison: &Comparison, arm: usize, name: &str) -> Option<Summary> {
    comparison.arms.get(arm)?.summary.get(name).copied().filter(|summary| summary.mean.is_finite())
}

fn column(comparison: &Comparison, definition: &'static Definition, ranking: &Ranking) -> Option<Column> {
    let arms = 0..comparison.arms.len();
    let summaries: Vec<_> = arms.clone().map(|arm| summary(comparison, arm, definition.name)).collect();
    if summaries.iter().all(Option::is_none) {
        return None;
    }
    let print = |value: f64| number(value, definition.digits);
    let mut deviations = summaries.iter().flatten().filter_map(|summary| summary.deviation);
    let varies = deviations.any(|deviation| print(deviation) != print(0.0));
    let spread = |arm: usize, summary: &Summary| {
        if let Some((least, greatest)) = range(comparison, arm, definition.name) {
            return Some(Spread::Range(print(least), print(greatest)));
        }
        summary.deviation.filter(|_| varies).map(|deviation| Spread::Deviation(print(deviation)))
    };
    let ahead: Vec<usize> =
        ranking.groups.iter().flat_map(|group| best(comparison, definition, &group.arms)).collect();
    let cell = |arm: usize| {
        let summary = summaries[arm].as_ref()?;
        Some(Cell { mean: print(summary.mean), spread: spread(arm, summary), best: ahead.contains(&arm) })
    };
    let cells: Vec<Option<Cell>> = arms.map(cell).collect();
    let headline = ranking.headline.is_some_and(|headline| headline.name == definition.name);
    let of_own_images = comparison.of_own_images.iter().any(|name| name == definition.name);
    let same = if headline || of_own_images { None } else { same(comparison, &cells) };
    Some(Column { definition, of_own_images, cells, same })
}

/// The content of all cells, if there are several and they are printed alike.
fn same(comparison: &Comparison, cells: &[Option<Cell>]) -> Option<Same> {
    let mut shown = cells.iter().flatten().map(Cell::words);
    let words = shown.next()?;
    let mut others = 0;
    for other in shown {
        others += 1;
        if other != words {
            return None;
        }
    }
    let lacks = |arm: usize| {
        let evaluated = comparison.arms[arm].runs.iter().any(|run| !run.figures.is_empty());
        evaluated && cells[arm].is_none()
    };
    (others > 0).then(|| Same { words, all: !(0..cells.len()).any(lacks) })
}

/// Lists what arms have in common in hidden columns: `images 129, codebook_size 1,000`. With `all`,
/// what no evaluated arm lacks, otherwise the rest. Empty if there is none.
pub(super) fn same_words<'a>(columns: impl Iterator<Item = &'a Column>, all: bool) -> String {
    let said = |column: &Column| {
        let same = column.same.as_ref().filter(|same| same.all == all)?;
        Some(format!("{} {}", column.definition.name, same.words))
    };
    columns.filter_map(said).collect::<Vec<_>>().join(", ")
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

    fn bold(column: &Column) -> Vec<bool> {
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
        assert_eq!(bold(&columns[0]), [true, true, false], "what prints alike is a tie");
        assert_eq!(bold(&columns[1]), [false, true, false], "lower is better");
        assert_eq!(bold(&columns[2]), [false; 3], "usage ranks nothing");
    }

    #[test]
    fn figures_of_sets_that_differ_rank_nothing() {
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[json!({"psnr_db": 27.0, "rfid": 3.0})]),
            ("b", "s", &[json!({"psnr_db": 26.0, "rfid": 2.0})]),
        ]);
        assert_eq!(bold(&columns(&comparison)[1]), [false, true]);
        comparison.of_own_images = vec!["rfid".into()];
        let columns = columns(&comparison);
        assert_eq!((bold(&columns[0]), columns[0].of_own_images), (vec![true, false], false));
        assert_eq!((bold(&columns[1]), columns[1].of_own_images), (vec![false, false], true));
    }

    #[test]
    fn one_arm_is_not_best() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0})])]);
        assert_eq!(bold(&columns(&comparison)[0]), [false]);
    }

    #[test]
    fn cells_hold_means_and_deviations() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[json!({"images": 129, "psnr_db": 27.0}), json!({"images": 129, "psnr_db": 28.0})]),
            ("b", "s", &[json!({"images": 129, "psnr_db": 12345.678})]),
        ]);
        let columns = columns(&comparison);
        assert_eq!(columns[0].cells[0].as_ref().unwrap().spread, None, "no seed differs");
        assert_eq!(means(&columns[1]), ["27.50", "12,345.68"]);
        assert_eq!(columns[1].cells[0].as_ref().unwrap().words(), "27.50 ± 0.71");
        assert_eq!(columns[1].cells[1].as_ref().unwrap().spread, None);
    }

    #[test]
    fn speeds_have_their_range() {
        let figures = json!({"psnr_db": 27.0, "decode_images_per_sec": 990.0,
            "decode_images_least_per_sec": 930.2, "decode_images_greatest_per_sec": 1020.0});
        let columns = columns(&fixture::comparison(&[("a", "s", &[figures])]));
        let words = columns[1].cells[0].as_ref().unwrap().words();
        assert_eq!(words, "990.0 (930.2 to 1,020.0)");
    }

    #[test]
    fn what_is_the_same_for_all_is_said_once() {
        let figures = |rate: Value| json!({"psnr_db": 27.0, "images": 129, "bits_per_pixel": rate});
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(json!(0.5))]),
            ("b", "s", &[figures(json!(0.5))]),
            ("folder", "s", &[figures(Value::Null)]),
            ("failed", "s", &[json!({})]),
        ]);
        let columns = columns(&comparison);
        let hidden: Vec<_> = columns.iter().map(|column| column.same.is_some()).collect();
        assert_eq!(hidden, [true, false, true], "the headline stays");
        assert_eq!(same_words(columns.iter(), true), "images 129");
        assert_eq!(same_words(columns.iter(), false), "bits_per_pixel 0.5000", "one lacks it");
        let alone = fixture::comparison(&[("a", "s", &[figures(json!(0.5))])]);
        assert_eq!(same_words(super::columns(&alone).iter(), true), "", "one arm has nothing in common");
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
