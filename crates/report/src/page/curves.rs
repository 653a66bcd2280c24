//! Plots of the values that were logged during training, and of code frequencies.

use std::collections::{BTreeMap, BTreeSet};

use super::super::columns::number;
use super::super::plot::Axis;
use super::super::style::Looks;
use super::super::{Comparison, Exhibit};
use super::panels::{Line, Panel, Setting, missing, panels};
use super::sizes::own_images;

/// The largest number of points of a line. More than the pixels of a plot would only make the page
/// larger.
const MOST_POINTS: u64 = 160;

/// Plots that belong together.
pub(super) struct Figure {
    pub title: String,
    /// The caption; may be empty.
    pub caption: String,
    pub panels: Vec<Panel>,
    /// The arms that are not in the plots; empty if all are.
    pub missing: String,
    /// The name of its file, without ending.
    pub file: &'static str,
}

/// A logged value that is plotted if it exists.
struct PlottedValue {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    digits: usize,
    file: &'static str,
}

const SHOWN: [PlottedValue; 3] = [
    PlottedValue { name: "loss/total", title: "Training loss", unit: "", digits: 4, file: FILES[0] },
    PlottedValue { name: "val/psnr_db", title: "Validation PSNR", unit: "dB", digits: 2, file: FILES[1] },
    PlottedValue {
        name: "val/usage",
        title: "Validation codebook usage",
        unit: "share of codes",
        digits: 4,
        file: FILES[2],
    },
];

/// The names of the figures' files, in the order of the page.
pub(super) const FILES: [&str; 4] =
    ["training-loss", "validation-psnr", "validation-usage", "code-frequencies"];

/// Plots of the logged values over steps.
pub(super) fn curves(comparison: &Comparison, looks: &Looks, exhibits: &[Exhibit]) -> Vec<Figure> {
    let figures =
        SHOWN.iter().enumerate().filter_map(|(at, shown)| figure(comparison, looks, exhibits, shown, at));
    let mut figures: Vec<Figure> = figures.collect();
    // The first caption explains how to read the lines; the others need not repeat it.
    if let Some((first, others)) = figures.split_first_mut() {
        others
            .iter_mut()
            .filter(|other| other.caption == first.caption)
            .for_each(|other| other.caption.clear());
    }
    figures
}

fn figure(
    comparison: &Comparison,
    looks: &Looks,
    exhibits: &[Exhibit],
    shown: &PlottedValue,
    at: usize,
) -> Option<Figure> {
    let lines: Vec<Line> =
        exhibits.iter().enumerate().filter_map(|(arm, exhibit)| line(exhibit, arm, shown)).collect();
    let values = || {
        let bands = lines.iter().flat_map(|line| &line.band).flat_map(|&(_, low, high)| [low, high]);
        lines.iter().flat_map(|line| &line.points).map(|point| point.1).chain(bands)
    };
    // A loss with an entropy term may be negative, which has no logarithm.
    let logarithmic = shown.name == "loss/total" && values().all(|value| value > 0.0);
    let y = match shown.name {
        "loss/total" if logarithmic => Axis::decades(values()),
        "val/usage" => Axis::linear(values().chain([0.0])),
        _ => Axis::linear(values()),
    }?;
    let x = Axis::from_zero(lines.iter().flat_map(|line| &line.points).map(|point| point.0))?;
    let unit = if logarithmic { "logarithmic" } else { shown.unit };
    let y_title = if unit.is_empty() { shown.name.to_owned() } else { format!("{}, {unit}", shown.name) };
    let words = |line: &Line| {
        let last = line.points.last().map(|&(step, value)| (number(value, shown.digits), number(step, 0)));
        last.map(|(value, step)| format!("{value} at step {step}")).unwrap_or_default()
    };
    let setting = Setting {
        id: &format!("behind-{at}"),
        x: &x,
        y: &y,
        x_title: "step",
        y_title: &y_title,
        words: &words,
    };
    let panels = panels(comparison, looks, &lines, &setting);
    let several = lines.iter().any(|line| !line.band.is_empty());
    let mut caption = String::from(match several {
        true => "Lines are means over seeds, bands reach from the lowest to the highest seed",
        false => "One line for each arm",
    });
    if panels.len() > 1 {
        caption += "; grey are the other series, on the same axes";
    }
    let missing = missing("Not logged", comparison, &lines.iter().map(|line| line.arm).collect());
    let (title, caption) = (shown.title.to_owned(), caption + ".");
    Some(Figure { title, caption, panels, missing, file: shown.file })
}

/// The mean and the range over the runs of an arm. With many steps, they are taken over spans of
/// steps.
fn line(exhibit: &Exhibit, arm: usize, shown: &PlottedValue) -> Option<Line> {
    let curves: Vec<_> =
        exhibit.curves.iter().map(|run| run.iter().find(|curve| curve.name == shown.name)).collect();
    let steps: BTreeSet<u64> =
        curves.iter().flatten().flat_map(|curve| &curve.points).map(|point| point.0).collect();
    let last = *steps.last()?;
    let many = steps.len() as u64 > MOST_POINTS;
    let span = |step: u64| {
        if many {
            (u128::from(step) * u128::from(MOST_POINTS) / u128::from(last.max(1))) as u64
        } else {
            step
        }
    };
    // For each span and run: the sum of steps, the sum of values, and their number.
    let mut spans: BTreeMap<u64, BTreeMap<usize, [f64; 3]>> = BTreeMap::new();
    for (run, curve) in curves.iter().enumerate() {
        let points = curve.iter().flat_map(|curve| &curve.points).filter(|point| point.1.is_finite());
        for &(step, value) in points {
            let sums = spans.entry(span(step)).or_default().entry(run).or_default();
            *sums = [sums[0] + step as f64, sums[1] + value, sums[2] + 1.0];
        }
    }
    let (mut points, mut band) = (vec![], vec![]);
    for runs in spans.values() {
        let means = || runs.values().map(|[_, values, count]| values / count);
        let count = runs.len() as f64;
        let step = runs.values().map(|[steps, _, count]| steps / count).sum::<f64>() / count;
        points.push((step, means().sum::<f64>() / count));
        band.push((step, means().fold(f64::INFINITY, f64::min), means().fold(f64::NEG_INFINITY, f64::max)));
    }
    let band = if curves.iter().flatten().count() > 1 { band } else { vec![] };
    (!points.is_empty()).then_some(Line { arm, points, band })
}

/// Plots of the code frequencies of each arm, from the most to the least frequent code.
pub(super) fn histograms(comparison: &Comparison, looks: &Looks, exhibits: &[Exhibit]) -> Option<Figure> {
    let lines: Vec<Line> =
        exhibits.iter().enumerate().filter_map(|(arm, exhibit)| histogram(exhibit, arm)).collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x, y) =
        (Axis::decades(points().map(|point| point.0))?, Axis::decades(points().map(|point| point.1))?);
    let words = |line: &Line| match (line.points.first(), line.points.last()) {
        (Some(first), Some(last)) => {
            format!(
                "{} codes occur, the most frequent in {} % of tokens",
                number(last.0, 0),
                number(100.0 * first.1, 2)
            )
        }
        _ => String::new(),
    };
    let (x_title, y_title) = ("rank, logarithmic", "share of tokens, logarithmic");
    let panels = panels(
        comparison,
        looks,
        &lines,
        &Setting { id: "behind-codes", x: &x, y: &y, x_title, y_title, words: &words },
    );
    let caption = format!(
        "The codes that occur in the evaluated images, from the most frequent to the rarest, in the first run of each \
         arm. The flatter a line, the more evenly the codes are used. It ends at the number of codes that are used{}.",
        own_images(comparison, "usage"),
    );
    let missing = missing("Without tokens", comparison, &lines.iter().map(|line| line.arm).collect());
    Some(Figure { title: "Code frequencies".to_owned(), caption, panels, missing, file: FILES[3] })
}

/// The line of rank against share, at ranks that are evenly spaced on a logarithmic axis.
fn histogram(exhibit: &Exhibit, arm: usize) -> Option<Line> {
    let counts = &exhibit.code_counts;
    let total: f64 = counts.iter().map(|&count| count as f64).sum();
    let last = counts.len() as f64;
    let ranks: BTreeSet<usize> =
        (0..=MOST_POINTS).map(|at| last.powf(at as f64 / MOST_POINTS as f64).round() as usize).collect();
    let points: Vec<_> = ranks
        .into_iter()
        .filter_map(|rank| Some((rank as f64, *counts.get(rank.checked_sub(1)?)? as f64 / total)))
        .collect();
    (!points.is_empty()).then_some(Line { arm, points, band: vec![] })
}

#[cfg(test)]
mod tests {
    use super::super::super::{Curve, fixture};
    use super::*;
    use serde_json::json;

    fn exhibit(runs: &[&[(u64, f64)]]) -> Exhibit {
        let curve =
            |points: &&[(u64, f64)]| vec![Curve { name: "loss/total".into(), points: points.to_vec() }];
        Exhibit { curves: runs.iter().map(curve).collect(), ..Default::default() }
    }

    #[test]
    fn a_line_is_the_mean_of_the_runs_that_have_the_step() {
        let exhibit = exhibit(&[&[(10, 1.0), (20, 2.0), (30, f64::NAN)], &[(10, 3.0)]]);
        let line = line(&exhibit, 0, &SHOWN[0]).unwrap();
        assert_eq!(line.points, [(10.0, 2.0), (20.0, 2.0)]);
        assert_eq!(line.band, [(10.0, 1.0, 3.0), (20.0, 2.0, 2.0)]);
    }

    #[test]
    fn long_runs_become_means_within_spans() {
        let points: Vec<(u64, f64)> = (1..=10_000).map(|step| (step, (step % 2) as f64)).collect();
        let line = line(&exhibit(&[&points]), 0, &SHOWN[0]).unwrap();
        assert!(line.points.len() as u64 <= MOST_POINTS + 1);
        assert!(line.points[..160].iter().all(|point| (point.1 - 0.5).abs() < 0.02), "{:?}", line.points);
        assert!(line.band.is_empty(), "one seed spans nothing");
    }

    #[test]
    fn ranks_begin_at_the_most_and_end_at_the_last_code() {
        let exhibit = Exhibit { code_counts: (1..=5000).rev().collect(), ..Default::default() };
        let points = histogram(&exhibit, 0).unwrap().points;
        assert_eq!((points[0].0, points.last().unwrap().0), (1.0, 5000.0));
        assert_eq!(points[0].1, 5000.0 / (5000.0 * 5001.0 / 2.0));
        assert!(histogram(&Exhibit::default(), 0).is_none());
    }

    #[test]
    fn a_negative_loss_has_a_linear_axis() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({})]), ("b", "t", &[json!({})])]);
        let looks = Looks::of(&comparison);
        let of =
            |value| curves(&comparison, &looks, &[exhibit(&[&[(10, 1.0), (20, value)]]), Exhibit::default()]);
        assert!(of(0.5)[0].panels[0].svg.contains("loss/total, logarithmic"));
        let figure = &of(-0.5)[0];
        assert!(!figure.panels[0].svg.contains("logarithmic"));
        assert_eq!(figure.missing, "Not logged: b.");
        assert_eq!(figure.panels.len(), 1, "a series without curves has no panel");
    }

    #[test]
    fn few_series_share_a_plot_and_many_have_one_each() {
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|at| format!("s{at}-long")).collect();
            let figures = [json!({})];
            let arms: Vec<_> = names.iter().map(|name| (name.as_str(), &name[..2], &figures[..])).collect();
            let comparison = fixture::comparison(&arms);
            let exhibits: Vec<_> = (0..count).map(|_| exhibit(&[&[(10, 1.0), (20, 0.5)]])).collect();
            curves(&comparison, &Looks::of(&comparison), &exhibits).remove(0).panels
        };
        let few = of(5);
        assert_eq!((few.len(), few[0].title.as_str()), (1, ""));
        assert!(few[0].svg.contains(">s4-long</text>") && !few[0].svg.contains("behind"), "{}", few[0].svg);
        let many = of(6);
        assert_eq!(many.len(), 6);
        assert!(many[0].svg.contains(">long</text>") && many[1].svg.contains("#behind-0"), "{}", many[1].svg);
    }
}
