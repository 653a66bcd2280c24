//! Lines as small multiples: a panel for each series, the arms of all others behind it in grey, on the same axes. So
//! twenty arms stay as readable as two.

use super::super::Comparison;
use super::super::plot::{Axis, Canvas, Label, Stroke};
use super::super::style::{Look, Looks};

/// A line of an arm, with the band that its seeds span.
pub(super) struct Line {
    pub arm: usize,
    pub points: Vec<(f64, f64)>,
    /// `(x, lowest, highest)`; empty with one seed.
    pub band: Vec<(f64, f64, f64)>,
}

/// What the lines of all panels have in common.
pub(super) struct Setting<'a> {
    /// Unique on the page.
    pub id: &'a str,
    pub x: &'a Axis,
    pub y: &'a Axis,
    pub x_title: &'a str,
    pub y_title: &'a str,
    /// What a line says, in words.
    pub words: &'a dyn Fn(&Line) -> String,
}

/// One plot of a figure.
pub(super) struct Panel {
    pub title: String,
    /// The mark of what it shows, as SVG; may be empty.
    pub key: String,
    pub svg: String,
    /// How to read it, where the figure's caption does not say; may be empty.
    pub note: String,
}

/// A panel for each series that has a line.
pub(super) fn panels(
    comparison: &Comparison,
    looks: &Looks,
    lines: &[Line],
    setting: &Setting<'_>,
) -> Vec<Panel> {
    let of_series = |arms: &[usize]| -> Vec<&Line> {
        arms.iter().flat_map(|arm| lines.iter().filter(move |line| line.arm == *arm)).collect()
    };
    let shown: Vec<_> = looks.series.iter().map(|series| (series, of_series(&series.arms))).collect();
    let shown: Vec<_> = shown.into_iter().filter(|(_, lines)| !lines.is_empty()).collect();
    let names =
        || shown.iter().map(|(_, lines)| lines.iter().map(|line| short_name(comparison, line.arm)).collect());
    let mut panels: Vec<Panel> = vec![];
    for (series, own) in &shown {
        let mut canvas = Canvas::new(setting.x, setting.y, names());
        canvas.axes(setting.x_title, setting.y_title);
        if shown.len() > 1 {
            // Drawn once and used again by the panels after the first, where the style sheet's rules for a plot's
            // descendants do not reach.
            canvas.element(&if panels.is_empty() {
                let all: String = lines.iter().map(|line| canvas.path(&line.points)).collect();
                format!("<path class=\"behind\" id=\"{}\" d=\"{all}\"/>", setting.id)
            } else {
                format!("<use href=\"#{}\"/>", setting.id)
            });
        }
        let words = draw(&mut canvas, comparison, looks, own, setting);
        let alt = format!("{} against {}, {}. {}", setting.y_title, setting.x_title, series.name, words);
        panels.push(Panel {
            title: series.name.clone(),
            key: key(&series.look),
            svg: canvas.finish(&alt),
            note: String::new(),
        });
    }
    panels
}

/// Draws a series' lines with their labels; returns what they say.
fn draw(
    canvas: &mut Canvas<'_>,
    comparison: &Comparison,
    looks: &Looks,
    lines: &[&Line],
    setting: &Setting<'_>,
) -> String {
    for line in lines {
        canvas.band(&line.band, &looks.arms[line.arm].colour);
    }
    let mut said = vec![];
    let mut labels = vec![];
    for line in lines {
        let look = &looks.arms[line.arm];
        let words = format!("{}: {}", comparison.arms[line.arm].name, (setting.words)(line));
        canvas.line(&line.points, Stroke { colour: &look.colour, dash: look.dash, width: 1.75 }, &words);
        labels.extend(line.points.last().map(|&at| Label {
            at,
            text: short_name(comparison, line.arm).to_owned(),
            colour: look.ink.clone(),
        }));
        said.push(words);
    }
    canvas.labels(&labels);
    said.join("; ")
}

/// An arm's name beside the name of its series, which it need not say again.
pub(super) fn short_name(comparison: &Comparison, arm: usize) -> &str {
    let arm = &comparison.arms[arm];
    let rest =
        arm.name.strip_prefix(&arm.series).and_then(|rest| rest.strip_prefix(['-', '_', ' ', '/', '.']));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(&arm.name)
}

/// The mark that stands for an arm or a series beside its name.
pub(super) fn key(look: &Look) -> String {
    let Look { colour, marker, .. } = look;
    format!(
        "<svg class=\"key\" viewBox=\"-6 -6 12 12\" aria-hidden=\"true\"><path d=\"{marker}\" fill=\"{colour}\"/></svg>"
    )
}
