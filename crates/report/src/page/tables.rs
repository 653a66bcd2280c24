//! The tables of the page, ready to be rendered.

use super::super::columns::{Cell, Column, number};
use super::super::groups::Group;
use super::super::markdown::arrow;
use super::super::style::{Look, Looks};
use super::super::{Arm, Comparison, words};
use super::panels::key;

/// A narrow table of one group of figures, with a row for each arm.
pub(super) struct Table {
    pub title: &'static str,
    pub heads: Vec<Head>,
    pub rows: Vec<Row>,
}

/// The head of a column.
pub(super) struct Head {
    pub name: Breakable,
    /// An arrow that shows which direction is better.
    pub arrow: &'static str,
    /// The mark of a column over each evaluation's own images; may be empty.
    pub mark: &'static str,
    pub meaning: &'static str,
}

/// A name that may be broken after its underscores. All pieces but the last end with one.
pub(super) struct Breakable(pub Vec<&'static str>);

/// The row of an arm.
pub(super) struct Row {
    pub key: String,
    pub name: String,
    /// Whether a new series begins with this row.
    pub begins: bool,
    /// One cell per column; `None` if the arm lacks the figure.
    pub cells: Vec<Option<PrintedFigure>>,
}

/// The content of a cell.
pub(super) struct PrintedFigure {
    pub mean: String,
    /// The deviation with its sign; may be empty.
    pub spread: String,
    /// The width of the widest deviation of the column in digits, which keeps the means aligned; 0
    /// if there is none.
    pub width: f64,
    pub best: bool,
}

/// The tables that have at least one column.
pub(super) fn tables(comparison: &Comparison, looks: &Looks, columns: &[Column]) -> Vec<Table> {
    let shown =
        Group::ALL.iter().map(|group| (group, group.of(columns))).filter(|(_, columns)| !columns.is_empty());
    shown.map(|(group, columns)| table(comparison, looks, group.title(), &columns)).collect()
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

/// One row for each arm, still without cells.
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

fn cells(column: &Column) -> Vec<Option<PrintedFigure>> {
    let spread =
        |deviation: &Option<String>| deviation.as_ref().map(|value| format!("± {value}")).unwrap_or_default();
    // A point is half as wide as a digit.
    let digits = |text: String| text.chars().map(|c| if c == '.' { 0.5 } else { 1.0 }).sum();
    let widths = column.cells.iter().flatten().map(|cell| digits(spread(&cell.deviation)));
    let width = widths.fold(0.0, f64::max);
    let show = |cell: &Cell| PrintedFigure {
        mean: cell.mean.clone(),
        spread: spread(&cell.deviation),
        width,
        best: cell.best,
    };
    column.cells.iter().map(|cell| cell.as_ref().map(show)).collect()
}

/// A description of an arm: what it is, not how well it does.
pub(super) struct Described {
    pub key: String,
    pub name: String,
    pub series: String,
    pub codebook_size: String,
    pub parameters: String,
    pub runs: usize,
    pub differences: Vec<String>,
}

/// A description of every arm, with its differences from the base config.
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
