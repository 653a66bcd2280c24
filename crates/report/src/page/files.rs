//! The plots of the page as files, for papers and slides.

use std::fmt::Write as _;

use super::super::plot::{WIDTH, text};
use super::super::style::Looks;
use super::super::{Comparison, Exhibit, ReportError};
use super::panels::Panel;
use super::{check_exhibits, curves, lengths, sizes};

/// The most panels side by side.
const ACROSS: usize = 3;
/// The space between panels, and around them.
const SPACE: f64 = 24.0;
/// The height of the line for a panel's title.
const TITLE: f64 = 22.0;
/// The style of a plot, the same as on the page.
const STYLE: &str = include_str!("../../templates/plot.css");

/// A plot of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct PlotFile {
    /// The name of its file, without the ending `.svg`.
    pub name: &'static str,
    /// The SVG document; absent if this comparison has nothing to plot there.
    pub svg: Option<String>,
}

/// Every plot of the page as an SVG document of its own, with its series side by side.
///
/// # Errors
/// If the number of `exhibits` differs from the number of arms.
pub fn plots(comparison: &Comparison, exhibits: &[Exhibit]) -> Result<Vec<PlotFile>, ReportError> {
    check_exhibits(comparison, exhibits)?;
    let looks = Looks::of(comparison);
    let mut figures = curves::curves(comparison, &looks, exhibits);
    figures.extend(curves::histograms(comparison, &looks, exhibits));
    let mut files: Vec<PlotFile> = curves::FILES
        .into_iter()
        .map(|name| {
            let figure = figures.iter().find(|figure| figure.file == name);
            PlotFile { name, svg: figure.map(|figure| sheet(&figure.panels)) }
        })
        .collect();
    let single = [
        ("psnr-by-codebook-size", sizes::quality(comparison, &looks)),
        ("usage-by-codebook-size", sizes::usage(comparison, &looks)),
        ("rate-distortion", sizes::rate(comparison, &looks)),
    ];
    files.extend(single.map(|(name, panel)| PlotFile { name, svg: panel.map(|panel| sheet(&[panel])) }));
    let by_length = lengths::lengths(comparison, &looks).map(|figure| sheet(&figure.panels));
    files.push(PlotFile { name: lengths::FILE, svg: by_length });
    Ok(files)
}

/// A document of panels, each under its title if there are several.
fn sheet(panels: &[Panel]) -> String {
    let across = panels.len().clamp(1, ACROSS);
    let title = if panels.len() > 1 { TITLE } else { 0.0 };
    let rows: Vec<&[Panel]> = panels.chunks(across).collect();
    let tall = |row: &[Panel]| title + row.iter().map(|panel| panel.height).fold(0.0, f64::max) + SPACE;
    let width = SPACE + across as f64 * (WIDTH + SPACE);
    let height = SPACE + rows.iter().map(|row| tall(row)).sum::<f64>();
    let mut document = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n<style>\n{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut top = SPACE;
    for row in rows {
        for (at, panel) in row.iter().enumerate() {
            let left = SPACE + at as f64 * (WIDTH + SPACE);
            if title > 0.0 {
                let _ = writeln!(
                    document,
                    "<text class=\"plot\" x=\"{left}\" y=\"{}\" font-weight=\"600\">{}</text>",
                    top + 12.0,
                    text(&panel.title)
                );
            }
            let place = format!(
                "<svg x=\"{left}\" y=\"{}\" width=\"{WIDTH}\" height=\"{}\" overflow=\"visible\"",
                top + title,
                panel.height
            );
            // Other programs than browsers know only the older form of a reference.
            let drawing = panel.svg.replacen("<svg", &place, 1).replace("<use href=", "<use xlink:href=");
            document += &drawing;
            document.push('\n');
        }
        top += tall(row);
    }
    document + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;
    use serde_json::json;

    fn files(count: usize) -> Vec<PlotFile> {
        let names: Vec<String> = (0..count).map(|at| format!("a&{at}")).collect();
        let figures: Vec<_> = (0..count).map(|_| [json!({"psnr_db": 27.0, "bits_per_pixel": 0.5})]).collect();
        let arms: Vec<_> =
            names.iter().zip(&figures).map(|(name, figures)| (&name[..], &name[..], &figures[..])).collect();
        let comparison = fixture::comparison(&arms);
        let exhibits: Vec<_> = (0..count).map(|arm| fixture::exhibit(&comparison, arm, &[])).collect();
        plots(&comparison, &exhibits).unwrap()
    }

    #[test]
    fn files_are_documents_of_their_own() {
        for count in [2, 7] {
            let files = files(count);
            let names: Vec<_> = files.iter().map(|file| (file.name, file.svg.is_some())).collect();
            let expected = [
                ("training-loss", true),
                ("validation-psnr", true),
                ("validation-usage", true),
                ("code-frequencies", true),
                ("psnr-by-codebook-size", false),
                ("usage-by-codebook-size", false),
                ("rate-distortion", true),
                ("quality-by-length", false),
            ];
            assert_eq!(names, expected);
            for svg in files.iter().filter_map(|file| file.svg.as_ref()) {
                let document = roxmltree::Document::parse(svg).unwrap();
                assert!(!svg.contains("var(") && !svg.contains("NaN"), "{svg}");
                let ids: Vec<_> = document.descendants().filter_map(|node| node.attribute("id")).collect();
                let uses = svg.matches("<use xlink:href=\"#").count();
                let behind = if count == 7 && !svg.contains("bits per pixel") { 1 } else { 0 };
                assert_eq!((ids.len(), uses), (behind, behind * 6), "{svg}");
            }
        }
    }

    #[test]
    fn nothing_to_plot_makes_no_file() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({})])]);
        assert!(plots(&comparison, &[Exhibit::default()]).unwrap().iter().all(|file| file.svg.is_none()));
        assert!(plots(&comparison, &[]).unwrap_err().to_string().contains("1 arms and 0 exhibits"));
    }
}
