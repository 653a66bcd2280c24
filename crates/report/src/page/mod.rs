//! A page that shows a comparison. It has no scripts and loads nothing from the network. The same
//! input gives the same bytes.

mod curves;
mod panels;
mod pictures;
mod sizes;
mod tables;

use askama::Template;

use self::curves::Figure;
use self::panels::Panel;
use self::pictures::Scene;
use self::tables::{Described, Table};
use super::columns::{absences, columns};
use super::markdown::absence_words;
use super::style::Looks;
use super::{Comparison, Exhibit, ReportError, words};
use crate::definition::Definition;
use pixtok_images::picture::Picture;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    comparison: &'a Comparison,
    in_short: String,
    /// The width of the longest arm name, in digits, including its marker.
    name_width: usize,
    failures: Vec<words::Failure<'a>>,
    tables: Vec<Table>,
    /// Whether any cell has a deviation, and whether any cell is the best.
    spread: bool,
    ranked: bool,
    absences: Vec<String>,
    /// The meaning of the mark on columns that are over each evaluation's own images; empty if
    /// there are none.
    own_images: &'static str,
    left_out: Vec<String>,
    notes: Vec<String>,
    sizes: Vec<Panel>,
    curves: Vec<Figure>,
    /// Whether the curves belong to one series, so that they are placed side by side.
    single: bool,
    codes: Option<Figure>,
    scenes: Vec<Scene>,
    factor: u32,
    definitions: Vec<&'static Definition>,
    arms: Vec<Described>,
}

/// Renders the whole page. `exhibits` has one entry for each arm, in the same order; its
/// reconstructions are those of `originals`, or none.
///
/// # Errors
/// If the number of `exhibits` differs from the number of arms, if reconstructions differ from the
/// originals in number or size, or if a picture's buffer does not have the picture's size.
pub fn html(
    comparison: &Comparison,
    exhibits: &[Exhibit],
    originals: &[Picture],
) -> Result<String, ReportError> {
    if exhibits.len() != comparison.arms.len() {
        return Err(ReportError::Exhibits { arms: comparison.arms.len(), exhibits: exhibits.len() });
    }
    let looks = Looks::of(comparison);
    let columns = columns(comparison);
    let (scenes, factor) = pictures::scenes(comparison, exhibits, originals)?;
    let curves = curves::curves(comparison, &looks, exhibits);
    let cells = || columns.iter().flat_map(|column| column.cells.iter().flatten());
    let page = Page {
        comparison,
        // Non-breaking spaces keep a spread on the same line as its mean.
        in_short: words::in_short(comparison).replace(" ± ", "\u{a0}±\u{a0}"),
        name_width: 2 + comparison.arms.iter().map(|arm| arm.name.chars().count()).max().unwrap_or(0),
        failures: words::failures(comparison),
        tables: tables::tables(comparison, &looks, &columns),
        spread: cells().any(|cell| cell.deviation.is_some()),
        ranked: cells().any(|cell| cell.best),
        absences: absences(comparison).iter().map(absence_words).collect(),
        own_images: if columns.iter().any(|column| column.of_own_images) { words::OWN_MEANING } else { "" },
        left_out: words::left_out(comparison).iter().map(words::Said::line).collect(),
        notes: words::notes(comparison).iter().map(words::Said::line).collect(),
        sizes: sizes::sizes(comparison, &looks).into_iter().chain(sizes::rate(comparison, &looks)).collect(),
        single: curves.iter().all(|figure| figure.panels.len() == 1),
        curves,
        codes: curves::histograms(comparison, &looks, exhibits),
        scenes,
        factor,
        definitions: columns.iter().map(|column| column.definition).collect(),
        arms: tables::described(comparison, &looks),
    };
    Ok(page.render()?)
}

#[cfg(test)]
mod tests;
