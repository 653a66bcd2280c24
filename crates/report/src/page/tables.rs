//! The tables of the page, ready to be filled in.

use super::super::columns::{Cell, Column, number};
use super::super::groups::GROUPS;
use super::super::markdown::arrow;
use super::super::style::{Look, Looks};
use super::super::{Arm, Comparison, words};
use super::panels::key;

/// A narrow table of one group of figures, a row for each arm.
pub(super) struct Table {
    pub title: &'static str,
    pub heads: Vec<Head>,
    pub rows: Vec<Row>,
}

/// Above a column.
pub(super) struct Head {
    pub name: Breakable,
    /// Which direction is better.
    pub arrow: &'static str,
    /// The mark of a column over each evaluation's own images; may be empty.
    pub mark: &'static str,
    pub meaning: &'static str,
}

/// A name that may be broken after its underscores: the pieces, all but the last with theirs.
pub(super) struct Breakable(pub Vec<&'static str>);

/// An arm.
pub(super) struct Row {
    pub key: String,
    pub name: String,
    /// Whether another series begins here.
    pub begins: bool,
    /// `None` where the arm has no such figure.
    pub cells: Vec<Option<Shown>>,
}

/// A figure.
pub(super) struct Shown {
    pub mean: String,
    /// With its sign; empty where there is none.
    pub spread: String,
    /// Width of the widest spread of the column in digits, so that the means stay below each other; 0 for none.
    pub width: f64,
    pub best: bool,
}

/// The tables that have a column.
pub(super) fn tables(comparison: &Comparison, looks: &Looks, columns: &[Column]) -> Vec<Table> {
    let shown =
        GROUPS.iter().map(|group| (group, group.of(columns))).filter(|(_, columns)| !columns.is_empty());
    shown.map(|(group, columns)| table(comparison, looks, group.title, &columns)).collect()
}

fn table(comparison: &Comparison, looks: &Looks, title: &'static str, columns: &[&Column]) -> Table {
    let heads = columns.iter().map(|column| Head {
        name: Breakable(column.definition.name.split_inclusive('_').collect()),
        arrow: arrow(column.definition.better),
        mark: if column.of_own_images { words::OWN_MARK } else { "" },
        meaning: column.definition.text,
    });
    let cells: Vec<_> = columns.iter().map(|column| cells(column)).collect();
    let mut rows: Vec<Row> = keyed(comparison, looks);
    for column in cells {
        for (row, cell) in rows.iter_mut().zip(column) {
            row.cells.push(cell);
        }
    }
    Table { title, heads: heads.collect(), rows }
}

/// A row for each arm, without cells.
fn keyed(comparison: &Comparison, looks: &Looks) -> Vec<Row> {
    let arms = &comparison.arms;
    let row = |(at, look): (usize, &Look)| Row {
        key: key(look),
        name: arms[at].name.clone(),
        begins: at > 0 && arms[at].series != arms[at - 1].series,
        cells: vec![],
    };
    looks.arms.iter().enumerate().map(row).collect()
}

fn cells(column: &Column) -> Vec<Option<Shown>> {
    let spread =
        |deviation: &Option<String>| deviation.as_ref().map(|value| format!("± {value}")).unwrap_or_default();
    // A point is half as wide as a digit.
    let digits = |text: String| text.chars().map(|c| if c == '.' { 0.5 } else { 1.0 }).sum();
    let widths = column.cells.iter().flatten().map(|cell| digits(spread(&cell.deviation)));
    let width = widths.fold(0.0, f64::max);
    let show = |cell: &Cell| Shown {
        mean: cell.mean.clone(),
        spread: spread(&cell.deviation),
        width,
        best: cell.best,
    };
    column.cells.iter().map(|cell| cell.as_ref().map(show)).collect()
}

/// An arm as such: what it is, not how well it does.
pub(super) struct Described {
    pub key: String,
    pub name: String,
    pub series: String,
    pub codebook_size: String,
    pub parameters: String,
    pub runs: usize,
    pub differences: Vec<String>,
}

/// Every arm with its differences from the base config.
pub(super) fn described(comparison: &Comparison, looks: &Looks) -> Vec<Described> {
    let count = |value: Option<i64>| value.map_or_else(|| "—".to_owned(), |value| number(value as f64, 0));
    let describe = |(arm, look): (&Arm, &Look)| Described {
        key: key(look),
        name: arm.name.clone(),
        series: arm.series.clone(),
        codebook_size: count(arm.codebook_size),
        parameters: count(arm.parameters),
        runs: arm.runs.len(),
        differences: arm.differences.clone(),
    };
    comparison.arms.iter().zip(&looks.arms).map(describe).collect()
}
