//! The tables of the page, ready to be rendered.

use super::super::columns::{Cell, Column, Spread, number};
use super::super::groups::Group;
use super::super::main_table::MainTable;
use super::super::markdown::arrow;
use super::super::style::{Look, Looks};
use super::super::{Arm, Comparison, words};
use super::panels::key;

/// A table with a row for each arm.
pub(super) struct Table {
    pub title: &'static str,
    pub heads: Vec<Head>,
    pub blocks: Vec<Block>,
}

/// Rows that belong together.
pub(super) struct Block {
    /// What they have in common; may be empty.
    pub title: String,
    /// Whether a rule separates them from the rows above.
    pub apart: bool,
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
    /// The deviation with its sign, or the range; may be empty.
    pub spread: String,
    /// The width of the widest spread of the column in digits, which keeps the means aligned; 0 if
    /// there is none.
    pub width: f64,
    pub best: bool,
}

/// The table that answers the comparison's question.
pub(super) fn main_table(comparison: &Comparison, looks: &Looks, table: &MainTable) -> Table {
    let heads = table.columns.iter().map(|column| Head {
        name: Breakable(column.name.split_inclusive('_').collect()),
        arrow: arrow(column.better),
        mark: if column.of_own_images { words::OWN_MARK } else { "" },
        meaning: column.meaning,
    });
    let mut rows = keyed(comparison, looks);
    fill(&mut rows, table.columns.iter().map(|column| &column.cells[..]));
    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let blocks = table.blocks.iter().map(|block| Block {
        title: block.title.clone(),
        apart: block.apart,
        rows: block
            .arms
            .iter()
            .filter_map(|&arm| Some(Row { begins: false, ..rows.get_mut(arm)?.take()? }))
            .collect(),
    });
    Table { title: "All arms", heads: heads.collect(), blocks: blocks.collect() }
}

/// The narrow tables of single groups of figures that have at least one column.
pub(super) fn tables(comparison: &Comparison, looks: &Looks, columns: &[Column]) -> Vec<Table> {
    let of = |group: Group| -> Vec<&Column> {
        group.of(columns).into_iter().filter(|column| column.same.is_none()).collect()
    };
    let shown = Group::ALL.iter().map(|&group| (group, of(group))).filter(|(_, columns)| !columns.is_empty());
    shown.map(|(group, columns)| table(comparison, looks, group.title(), &columns)).collect()
}

fn table(comparison: &Comparison, looks: &Looks, title: &'static str, columns: &[&Column]) -> Table {
    let heads = columns.iter().map(|column| Head {
        name: Breakable(column.definition.name.split_inclusive('_').collect()),
        arrow: arrow(column.definition.better),
        mark: if column.of_own_images { words::OWN_MARK } else { "" },
        meaning: column.definition.text,
    });
    let mut rows = keyed(comparison, looks);
    fill(&mut rows, columns.iter().map(|column| &column.cells[..]));
    let blocks = vec![Block { title: String::new(), apart: false, rows }];
    Table { title, heads: heads.collect(), blocks }
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

/// Appends columns to rows.
fn fill<'a>(rows: &mut [Row], columns: impl Iterator<Item = &'a [Option<Cell>]>) {
    for column in columns {
        for (row, cell) in rows.iter_mut().zip(printed(column)) {
            row.cells.push(cell);
        }
    }
}

fn printed(column: &[Option<Cell>]) -> Vec<Option<PrintedFigure>> {
    let spread = |cell: &Cell| cell.spread.as_ref().map(Spread::words).unwrap_or_default();
    // Points, commas and spaces are about half as wide as a digit.
    let digits = |text: String| text.chars().map(|c| if ".,() ".contains(c) { 0.5 } else { 1.0 }).sum();
    let width = column.iter().flatten().map(|cell| digits(spread(cell))).fold(0.0, f64::max);
    let show =
        |cell: &Cell| PrintedFigure { mean: cell.mean.clone(), spread: spread(cell), width, best: cell.best };
    column.iter().map(|cell| cell.as_ref().map(show)).collect()
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
