//! Few lines share one plot. Many are small multiples: one panel for each series, with the arms of
//! all other series in grey behind it, on the same axes. So twenty arms remain as readable as two.

use std::collections::BTreeSet;

use super::super::Comparison;
use super::super::plot::{Axis, Canvas, Label, Stroke};
use super::super::style::{Look, Looks, Series};

/// Up to so many series, and so many lines, share one plot.
const MOST_SERIES: usize = 5;
const MOST_LINES: usize = 8;

/// The line of an arm, with the band between its lowest and highest seed.
pub(super) struct Line {
    pub arm: usize,
    pub points: Vec<(f64, f64)>,
    /// `(x, lowest, highest)`; empty if there is one seed.
    pub band: Vec<(f64, f64, f64)>,
}

/// The properties that the panels of a figure share.
pub(super) struct Setting<'a> {
    /// An id that is unique on the page.
    pub id: &'a str,
    pub x: &'a Axis,
    pub y: &'a Axis,
    pub x_title: &'a str,
    pub y_title: &'a str,
    /// The description of a line in words.
    pub words: &'a dyn Fn(&Line) -> String,
}

/// One plot of a figure.
pub(super) struct Panel {
    /// The title; empty if the figure's title is enough.
    pub title: String,
    /// The marker of the series as SVG; may be empty.
    pub key: String,
    pub svg: String,
    /// The height in the plot's own units.
    pub height: f64,
    /// How to read the plot, if the figure's caption does not explain it; may be empty.
    pub note: String,
}

/// One panel for all lines if they are few, otherwise one for each series that has a line.
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
    if (2..=MOST_SERIES).contains(&shown.len()) && lines.len() <= MOST_LINES {
        return vec![overlaid(comparison, looks, &shown, setting)];
    }
    let names =
        || shown.iter().map(|(_, lines)| lines.iter().map(|line| short_name(comparison, line.arm)).collect());
    let mut panels: Vec<Panel> = vec![];
    for (series, own) in &shown {
        let mut canvas = Canvas::new(setting.x, setting.y, names());
        canvas.axes(setting.x_title, setting.y_title);
        if shown.len() > 1 {
            // The grey lines are drawn once and reused by the later panels, where style rules for
            // descendants of a plot do not apply.
            canvas.element(&if panels.is_empty() {
                let all: String = lines.iter().map(|line| canvas.path(&line.points)).collect();
                format!("<path class=\"behind\" id=\"{}\" d=\"{all}\"/>", setting.id)
            } else {
                format!("<use href=\"#{}\"/>", setting.id)
            });
        }
        let name = |arm: usize| short_name(comparison, arm);
        let words = draw(&mut canvas, comparison, looks, own, (setting, &name));
        let alt = format!("{} against {}, {}. {}", setting.y_title, setting.x_title, series.name, words);
        panels.push(Panel {
            title: series.name.clone(),
            key: key(&series.look),
            height: canvas.height(),
            svg: canvas.finish(&alt),
            note: String::new(),
        });
    }
    panels
}

/// One panel with the lines of all series, each with its arm's name.
fn overlaid(
    comparison: &Comparison,
    looks: &Looks,
    shown: &[(&Series, Vec<&Line>)],
    setting: &Setting<'_>,
) -> Panel {
    let lines: Vec<&Line> = shown.iter().flat_map(|(_, lines)| lines).copied().collect();
    let name = |arm: usize| comparison.arms[arm].name.as_str();
    let names = lines.iter().map(|line| name(line.arm)).collect();
    let mut canvas = Canvas::new(setting.x, setting.y, [names].into_iter());
    canvas.axes(setting.x_title, setting.y_title);
    let words = draw(&mut canvas, comparison, looks, &lines, (setting, &name));
    let alt = format!("{} against {}. {}", setting.y_title, setting.x_title, words);
    let height = canvas.height();
    Panel { title: String::new(), key: String::new(), svg: canvas.finish(&alt), height, note: String::new() }
}

/// Draws lines and their labels; returns their descriptions.
fn draw<'a>(
    canvas: &mut Canvas<'_>,
    comparison: &Comparison,
    looks: &Looks,
    lines: &[&Line],
    (setting, name): (&Setting<'_>, &dyn Fn(usize) -> &'a str),
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
            text: name(line.arm).to_owned(),
            colour: look.ink.clone(),
        }));
        said.push(words);
    }
    canvas.labels(&labels);
    said.join("; ")
}

/// The name of an arm without the name of its series, for use beside the name of the series.
pub(super) fn short_name(comparison: &Comparison, arm: usize) -> &str {
    let arm = &comparison.arms[arm];
    let rest =
        arm.name.strip_prefix(&arm.series).and_then(|rest| rest.strip_prefix(['-', '_', ' ', '/', '.']));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(&arm.name)
}

/// The marker that identifies an arm or a series beside its name.
pub(super) fn key(look: &Look) -> String {
    let Look { colour, marker, .. } = look;
    format!(
        "<svg class=\"key\" viewBox=\"-6 -6 12 12\" aria-hidden=\"true\"><path d=\"{marker}\" fill=\"{colour}\"/></svg>"
    )
}

/// The sentence below a plot that names the arms that are not in it: `Not logged: a, b.` Empty if all
/// are.
pub(super) fn missing(words: &str, comparison: &Comparison, drawn: &BTreeSet<usize>) -> String {
    let arms = comparison.arms.iter().enumerate().filter(|(at, _)| !drawn.contains(at));
    let names: Vec<&str> = arms.map(|(_, arm)| arm.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("{words}: {}.", names.join(", ")) }
}
