//! The table that answers a comparison's question: one row per arm, ranked among those of its rate.

use std::collections::BTreeSet;

use super::columns::{Cell, Column, number, same_words, summary};
use super::ranking::Ranking;
use super::{Comparison, Interval, Sample, words};
use crate::definition::{Better, Definition};

/// The figures of the table, if there are any, in this order.
const FIGURES: [&str; 9] = [
    "codebooks",
    "codebook_size",
    "bits_per_pixel",
    "psnr_db",
    "ssim",
    "lpips_alex",
    "lpips_vgg",
    "rfid",
    "usage",
];

/// The table before layout.
pub(super) struct MainTable {
    pub columns: Vec<MainColumn>,
    /// The rows, in the order in which they are shown.
    pub blocks: Vec<Block>,
    /// What all arms have in common: `K 1,000, 3 seeds`; may be empty.
    pub same: String,
    /// How the column of differences came about; empty if there is none.
    pub note: String,
}

/// A column.
pub(super) struct MainColumn {
    pub name: &'static str,
    pub better: Better,
    pub of_own_images: bool,
    pub meaning: &'static str,
    /// One cell per arm, in the order of the comparison.
    pub cells: Vec<Option<Cell>>,
}

/// Rows that belong together.
pub(super) struct Block {
    /// What they have in common; empty if there is only one block.
    pub title: String,
    /// Whether its arms are not ranked. A rule separates them from the others.
    pub apart: bool,
    pub arms: Vec<usize>,
}

/// A sentence on what all arms have in common in the tables of details, and one on what those have in
/// common that have it, without what the main table's line says. Empty if there is neither.
pub(super) fn same_in_details(comparison: &Comparison, columns: &[Column]) -> String {
    let others = || {
        columns.iter().filter(|column| {
            let name = column.definition.name;
            name == "codebooks" || !FIGURES.contains(&name)
        })
    };
    let for_all = [words::parameters(comparison), same_words(others(), true)];
    let for_all = for_all.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(", ");
    let said = [("For all arms", for_all), ("For all arms that have it", same_words(others(), false))];
    let said = said.into_iter().filter(|(_, words)| !words.is_empty());
    said.map(|(start, words)| format!("{start}: {words}.")).collect::<Vec<_>>().join(" ")
}

/// The difference of an arm to the best one of its rate.
pub(super) struct ToBest {
    pub value: f64,
    pub interval: Option<Interval>,
}

impl MainTable {
    pub(super) fn of(comparison: &Comparison, columns: &[Column], ranking: &Ranking) -> Self {
        let figures: Vec<&Column> = FIGURES
            .into_iter()
            .filter_map(|name| columns.iter().find(|column| column.definition.name == name))
            .filter(|column| {
                column.definition.name != "codebooks" || column.same.is_none() && has_several(column)
            })
            .collect();
        let for_all = |column: &Column| column.same.as_ref().is_some_and(|same| same.all);
        let mut shown: Vec<MainColumn> =
            figures.iter().filter(|column| !for_all(column)).map(|column| of_figure(column)).collect();
        if let Some(rates) = shown.iter_mut().find(|column| column.name == "bits_per_pixel") {
            let unknown =
                |(arm, cell): &(usize, &mut Option<Cell>)| cell.is_none() && !ranking.without.contains(arm);
            let cells = rates.cells.iter_mut().enumerate().filter(unknown);
            cells.for_each(|(_, cell)| *cell = Some(text("unknown")));
        }
        if let Some(headline) = ranking.headline.filter(|headline| !FIGURES.contains(&headline.name)) {
            let column = columns.iter().find(|column| column.definition.name == headline.name);
            shown.extend(column.map(of_figure));
        }
        let (differences, note) = differences(comparison, ranking);
        // Beside the arm's name, where a narrow screen shows it.
        shown.splice(0..0, differences);
        let mut same = same_words(figures.into_iter(), true).replace("codebook_size", "K");
        match seeds(comparison, ranking) {
            Seeds::Same(count) => {
                let comma = if same.is_empty() { "" } else { ", " };
                same += &format!("{comma}{}", words::seeds(comparison, count));
            }
            Seeds::Differ(column) => shown.push(column),
        }
        Self { columns: shown, blocks: blocks(ranking), same, note }
    }
}

fn has_several(column: &Column) -> bool {
    column.cells.iter().flatten().any(|cell| cell.mean != "1")
}

fn of_figure(column: &Column) -> MainColumn {
    let copy = |cell: &Cell| Cell { mean: cell.mean.clone(), spread: cell.spread.clone(), best: cell.best };
    let cells = column.cells.iter().map(|cell| cell.as_ref().map(copy)).collect();
    let name = match column.definition.name {
        "codebook_size" => "K",
        name => name,
    };
    let Definition { better, text: meaning, .. } = *column.definition;
    MainColumn { name, better, of_own_images: column.of_own_images, meaning, cells }
}

/// A cell of words.
fn text(words: &str) -> Cell {
    Cell { mean: words.to_owned(), spread: None, best: false }
}

/// The number of seeds behind the headline's figure.
enum Seeds {
    Same(usize),
    Differ(MainColumn),
}

fn seeds(comparison: &Comparison, ranking: &Ranking) -> Seeds {
    let count = |arm| Some(summary(comparison, arm, ranking.headline?.name)?.seeds);
    let counts: Vec<Option<usize>> = (0..comparison.arms.len()).map(count).collect();
    let different: BTreeSet<usize> = counts.iter().flatten().copied().collect();
    match (different.len(), different.first()) {
        (1, Some(count)) => Seeds::Same(*count),
        _ => Seeds::Differ(MainColumn {
            name: "n",
            better: Better::Neither,
            of_own_images: false,
            meaning: "number of seeds, or runs",
            cells: counts.into_iter().map(|count| count.map(|count| text(&count.to_string()))).collect(),
        }),
    }
}

fn blocks(ranking: &Ranking) -> Vec<Block> {
    let groups = ranking.groups.iter().map(|group| Block {
        title: rate_words(group.rate),
        apart: false,
        arms: group.arms.clone(),
    });
    let mut blocks: Vec<Block> = groups.collect();
    let apart = |title: &str, arms: &[usize]| {
        (!arms.is_empty()).then(|| Block { title: title.to_owned(), apart: true, arms: arms.to_vec() })
    };
    blocks.extend(apart("not trained here, not ranked", &ranking.foreign));
    blocks.extend(apart("without figures", &ranking.without));
    if let [only] = &mut blocks[..] {
        only.title.clear();
    }
    blocks
}

/// A rate in words: `0.625 bits per pixel`.
pub(super) fn rate_words(rate: Option<f64>) -> String {
    rate.map_or_else(|| "rate unknown".to_owned(), |rate| format!("{} bits per pixel", number(rate, 3)))
}

/// The difference of a ranked arm to the best one of its rate; `None` for the best one itself.
pub(super) fn to_best(comparison: &Comparison, ranking: &Ranking, arm: usize) -> Option<ToBest> {
    let name = ranking.headline?.name;
    let best = *ranking.group_of(arm)?.arms.first()?;
    if best == arm {
        return None;
    }
    let arms = &comparison.arms;
    if let Some(pair) = comparison.difference(name, &arms[arm].name, &arms[best].name) {
        return Some(ToBest { value: pair.difference, interval: pair.interval });
    }
    let value = summary(comparison, arm, name)?.mean - summary(comparison, best, name)?.mean;
    Some(ToBest { value, interval: None })
}

/// The column of differences to the best arm, and how they came about.
fn differences(comparison: &Comparison, ranking: &Ranking) -> (Option<MainColumn>, String) {
    let of_arm = |arm| to_best(comparison, ranking, arm);
    let all: Vec<Option<ToBest>> = (0..comparison.arms.len()).map(of_arm).collect();
    let (Some(headline), true) = (ranking.headline, all.iter().any(Option::is_some)) else {
        return (None, String::new());
    };
    let samples = samples(all.iter().flatten());
    let cell = |(arm, difference): (usize, &Option<ToBest>)| match difference {
        Some(difference) => Some(text(&difference.words(headline.digits, samples.len() > 1))),
        None => {
            let group = ranking.group_of(arm)?;
            (group.arms.len() > 1).then(|| text("best"))
        }
    };
    let column = MainColumn {
        name: "to the best",
        better: Better::Neither,
        of_own_images: false,
        meaning: "difference to the best arm of the same rate, with its 95 % interval",
        cells: all.iter().enumerate().map(cell).collect(),
    };
    let rates = if ranking.groups.len() > 1 { " at its rate" } else { "" };
    let note = format!(
        "To the best: the difference in {} to the best arm{rates}{}.",
        headline.name,
        method(&samples)
    );
    (Some(column), note)
}

impl ToBest {
    /// The difference with its interval: `−0.35 [−0.90, +0.20]`. If `named`, with what the interval is
    /// over.
    fn words(&self, digits: usize, named: bool) -> String {
        let mut words = signed(self.value, digits);
        if let Some(Interval { low, high, over }) = self.interval {
            words += &format!(" [{}, {}]", signed(low, digits), signed(high, digits));
            if named {
                words += &match over {
                    Sample::Seeds(count) => format!(", {count} seeds"),
                    Sample::Images(count) => format!(", {} images", number(count as f64, 0)),
                };
            }
        }
        words
    }
}

/// The different samples of intervals.
pub(super) fn samples<'a>(differences: impl Iterator<Item = &'a ToBest>) -> Vec<Sample> {
    let mut samples: Vec<Sample> = vec![];
    for interval in differences.filter_map(|difference| difference.interval) {
        if !samples.contains(&interval.over) {
            samples.push(interval.over);
        }
    }
    samples
}

/// How intervals over these samples came about; empty without intervals.
fn method(samples: &[Sample]) -> String {
    match samples {
        [] => String::new(),
        [Sample::Seeds(count)] => {
            format!(", and its 95 % interval: Student's t over the differences of {count} seeds")
        }
        [Sample::Images(count)] => format!(
            ", and its 95 % interval: the paired bootstrap over {} images, of one seed; another seed may change more \
             than that",
            number(*count as f64, 0)
        ),
        _ => ", and its 95 % interval: Student's t over the differences of seeds, or with one common seed the paired \
              bootstrap over images, where another seed may change more than that"
            .to_owned(),
    }
}

/// A number with its sign, unless it is printed as 0.
pub(super) fn signed(value: f64, digits: usize) -> String {
    let size = number(value.abs(), digits);
    let zero = size == number(0.0, digits);
    let sign = if zero {
        ""
    } else if value < 0.0 {
        "−"
    } else {
        "+"
    };
    format!("{sign}{size}")
}

#[cfg(test)]
mod tests {
    use super::super::columns::columns;
    use super::super::{Pair, fixture};
    use super::*;
    use serde_json::{Value, json};

    fn table(comparison: &Comparison) -> MainTable {
        MainTable::of(comparison, &columns(comparison), &Ranking::of(comparison))
    }

    fn names(table: &MainTable) -> Vec<&str> {
        table.columns.iter().map(|column| column.name).collect()
    }

    fn printed(table: &MainTable, name: &str) -> Vec<String> {
        let column = table.columns.iter().find(|column| column.name == name).unwrap();
        column.cells.iter().map(|cell| cell.as_ref().map_or(String::new(), Cell::words)).collect()
    }

    fn figures(db: f64, size: i64, rate: f64) -> Value {
        json!({"psnr_db": db, "usage": 0.5, "codebooks": 1, "codebook_size": size, "bits_per_pixel": rate})
    }

    #[test]
    fn columns_that_are_the_same_are_said_once() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0, 1000, 0.625)]),
            ("b", "s", &[figures(26.5, 1000, 0.625)]),
        ]);
        let table = table(&comparison);
        assert_eq!(names(&table), ["to the best", "psnr_db"]);
        assert_eq!(table.same, "K 1,000, bits_per_pixel 0.6250, usage 0.5000, 1 seed");
        let details = same_in_details(&comparison, &columns(&comparison));
        assert_eq!(details, "For all arms: parameters 250,123, codebooks 1.", "nothing is said twice");
        assert_eq!((table.blocks.len(), table.blocks[0].title.as_str()), (1, ""));
        assert_eq!(printed(&table, "to the best"), ["best", "−0.50"]);
        assert_eq!(table.note, "To the best: the difference in psnr_db to the best arm.");
    }

    #[test]
    fn foreign_arms_stand_apart_with_their_rate() {
        let mut comparison = fixture::comparison(&[
            ("folder", "u", &[json!({"psnr_db": 31.0})]),
            ("small", "s", &[figures(26.0, 256, 0.5), figures(26.2, 256, 0.5)]),
            ("large", "s", &[figures(27.0, 1024, 0.625)]),
            ("failed", "s", &[json!({})]),
        ]);
        comparison.arms[0].runs[0].seed = None;
        let table = table(&comparison);
        let blocks: Vec<_> =
            table.blocks.iter().map(|block| (block.title.as_str(), block.apart, &block.arms[..])).collect();
        assert_eq!(
            blocks,
            [
                ("0.500 bits per pixel", false, &[1][..]),
                ("0.625 bits per pixel", false, &[2]),
                ("not trained here, not ranked", true, &[0]),
                ("without figures", true, &[3]),
            ]
        );
        assert_eq!(names(&table), ["K", "bits_per_pixel", "psnr_db", "usage", "n"]);
        assert_eq!(printed(&table, "bits_per_pixel"), ["unknown", "0.5000", "0.6250", ""]);
        assert_eq!(printed(&table, "n"), ["1", "2", "1", ""]);
        assert_eq!(table.same, "");
    }

    #[test]
    fn intervals_say_what_they_are_over() {
        let figures = |db: f64| figures(db, 256, 0.5);
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0), figures(27.2)]),
            ("b", "s", &[figures(26.0), figures(26.4)]),
            ("c", "s", &[figures(25.0)]),
        ]);
        let pair = |arms: [&str; 2], difference, low, high, over| Pair {
            figure: "psnr_db".into(),
            arms: arms.map(str::to_owned),
            difference,
            interval: Some(Interval { low, high, over }),
        };
        comparison.pairs = vec![pair(["a", "b"], 0.9, -0.371, 2.171, Sample::Seeds(2))];
        let only = table(&comparison);
        assert_eq!(printed(&only, "to the best"), ["best", "−0.90 [−2.17, +0.37]", "−2.10"]);
        assert!(only.note.ends_with("Student's t over the differences of 2 seeds."), "{}", only.note);
        comparison.pairs.push(pair(["a", "c"], 2.0, 1.5, 2.5, Sample::Images(1290)));
        let mixed = table(&comparison);
        assert_eq!(printed(&mixed, "to the best")[1], "−0.90 [−2.17, +0.37], 2 seeds");
        assert_eq!(printed(&mixed, "to the best")[2], "−2.00 [−2.50, −1.50], 1,290 images");
        assert!(mixed.note.contains("Student's t") && mixed.note.contains("bootstrap"), "{}", mixed.note);
    }

    #[test]
    fn what_prints_as_zero_has_no_sign() {
        let cases = [(0.004, "0.00"), (-0.004, "0.00"), (0.006, "+0.01"), (-1234.5, "−1,234.50")];
        for (value, words) in cases {
            assert_eq!(signed(value, 2), words);
        }
    }
}
