//! A page that shows a comparison. It has no scripts and loads nothing from the network. The same
//! input gives the same bytes.

mod curves;
mod files;
mod lengths;
mod panels;
mod pictures;
mod sizes;
mod tables;

use askama::Template;

pub use self::files::{PlotFile, plots};

use self::curves::Figure;
use self::panels::Panel;
use self::pictures::Scene;
use self::tables::{Described, Table};
use super::columns::{absences, columns};
use super::main_table::{MainTable, same_in_details};
use super::markdown::absence_words;
use super::ranking::{Ranking, is_trained_here};
use super::style::Looks;
use super::{Comparison, Exhibit, ReportError, words};
use crate::definition::Definition;
use pixtok_images::picture::Picture;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    comparison: &'a Comparison,
    in_short: Vec<String>,
    /// The width of the longest arm name, in digits, including its marker.
    name_width: usize,
    failures: Vec<words::Failure<'a>>,
    /// The main table, how its differences came about, and what all arms have in common there.
    main: Table,
    note: String,
    same_in_main: String,
    tables: Vec<Table>,
    /// What all arms have in common in the other tables.
    same: String,
    /// How to read the tables.
    reading: String,
    absences: Vec<String>,
    /// The meaning of the mark on columns that are over each evaluation's own images; empty if
    /// there are none.
    own_images: &'static str,
    left_out: Vec<String>,
    notes: Vec<String>,
    sizes: Vec<Panel>,
    lengths: Option<Figure>,
    curves: Vec<Figure>,
    /// Whether the curves belong to one series, so that they are placed side by side.
    single: bool,
    codes: Option<Figure>,
    scenes: Vec<Scene>,
    factor: u32,
    definitions: Vec<&'static Definition>,
    arms: Vec<Described>,
    /// Whether any arm was trained in this comparison, so that it differs from the base config.
    trained: bool,
}

/// Renders the whole page. `exhibits` has one entry for each arm, in the same order; its
/// reconstructions are those of `originals`, which have names, or none.
///
/// # Errors
/// If the number of `exhibits` differs from the number of arms, if reconstructions differ from the
/// originals in number or size, or if a picture's buffer does not have the picture's size.
pub fn html(
    comparison: &Comparison,
    exhibits: &[Exhibit],
    originals: &[(String, Picture)],
) -> Result<String, ReportError> {
    check_exhibits(comparison, exhibits)?;
    let looks = Looks::of(comparison);
    let columns = columns(comparison);
    let (scenes, factor) = pictures::scenes(comparison, exhibits, originals)?;
    let curves = curves::curves(comparison, &looks, exhibits);
    let main = MainTable::of(comparison, &columns, &Ranking::of(comparison));
    let page = Page {
        comparison,
        // Non-breaking spaces keep a spread on the same line as its mean, and a unit at its number.
        in_short: words::in_short(comparison)
            .into_iter()
            .map(|sentence| sentence.replace(" ± ", "\u{a0}±\u{a0}").replace(" dB", "\u{a0}dB"))
            .collect(),
        name_width: 3 + comparison.arms.iter().map(|arm| arm.name.chars().count()).max().unwrap_or(0),
        failures: words::failures(comparison),
        main: tables::main_table(comparison, &looks, &main),
        note: main.note,
        same_in_main: main.same,
        tables: tables::tables(comparison, &looks, &columns),
        same: same_in_details(comparison, &columns),
        reading: words::reading(&columns).join(" "),
        absences: absences(comparison).iter().map(absence_words).collect(),
        own_images: if columns.iter().any(|column| column.of_own_images) { words::OWN_MEANING } else { "" },
        left_out: words::left_out(comparison).iter().map(words::Said::line).collect(),
        notes: words::notes(comparison).iter().map(words::Said::line).collect(),
        sizes: [sizes::quality, sizes::usage, sizes::rate]
            .iter()
            .filter_map(|panel| panel(comparison, &looks))
            .collect(),
        lengths: lengths::lengths(comparison, &looks),
        single: curves.iter().all(|figure| figure.panels.len() == 1),
        curves,
        codes: curves::histograms(comparison, &looks, exhibits),
        scenes,
        factor,
        definitions: columns.iter().map(|column| column.definition).collect(),
        arms: tables::described(comparison, &looks),
        trained: comparison.arms.iter().any(is_trained_here),
    };
    Ok(page.render()?)
}

fn check_exhibits(comparison: &Comparison, exhibits: &[Exhibit]) -> Result<(), ReportError> {
    if exhibits.len() != comparison.arms.len() {
        return Err(ReportError::Exhibits { arms: comparison.arms.len(), exhibits: exhibits.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
