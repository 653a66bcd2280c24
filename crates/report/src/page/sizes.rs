//! Plots of quality and codebook use against codebook size and rate.

use std::collections::BTreeMap;

use super::super::columns::{number, summary};
use super::super::plot::{Axis, Canvas, Label, Stroke};
use super::super::style::{Look, Looks};
use super::super::{Arm, Comparison};
use super::panels::{Panel, missing};
use crate::definition::definition;

/// The mean of an arm over its seeds.
struct Point {
    arm: usize,
    at: (f64, f64),
}

/// The plot of psnr_db against codebook size, if a series has several sizes.
pub(super) fn quality(comparison: &Comparison, looks: &Looks) -> Option<Panel> {
    size_panel(comparison, looks, "psnr_db", "Quality against codebook size")
}

/// The plot of usage against codebook size, if a series has several sizes.
pub(super) fn usage(comparison: &Comparison, looks: &Looks) -> Option<Panel> {
    size_panel(comparison, looks, "usage", "Usage against codebook size")
}

fn size_panel(comparison: &Comparison, looks: &Looks, figure: &str, title: &str) -> Option<Panel> {
    let size = |arm: usize| comparison.arms[arm].codebook_size.map(|size| size as f64);
    let points = series_points(looks, &|arm| Some((size(arm)?, summary(comparison, arm, figure)?.mean)));
    let seed = |(arm, value)| Some(Point { arm, at: (size(arm)?, value) });
    let seeds: Vec<Point> = seed_values(comparison, figure).into_iter().filter_map(seed).collect();
    let sizes = || points.iter().flatten().map(|point| point.at.0);
    let several = |points: &Vec<Point>| points.iter().any(|point| point.at.0 != points[0].at.0);
    if !points.iter().any(several) {
        return None;
    }
    let even = if figure == "usage" { expected_usage(comparison) } else { vec![] };
    let values =
        points.iter().flatten().chain(&seeds).map(|point| point.at.1).chain(even.iter().map(|at| at.1));
    let values: Vec<f64> = if figure == "usage" { values.chain([0.0]).collect() } else { values.collect() };
    let (x, y) = (Axis::powers_of_two(sizes())?, Axis::linear(values.into_iter())?);
    let mut canvas = canvas(&x, &y, looks, &points);
    let unit = if figure == "usage" { "share of codes" } else { "dB" };
    let y_title = format!("{}, {unit}", if figure == "psnr_db" { "PSNR" } else { figure });
    canvas.axes("codebook size K", &y_title);
    canvas.line(
        &even,
        Stroke { colour: "#767676", dash: "4 3", width: 1.2 },
        "usage of as many tokens drawn evenly",
    );
    for Point { arm, at } in &seeds {
        let Look { marker, colour, .. } = looks.series_of(*arm);
        let attributes = format!("class=\"seed\" stroke=\"{colour}\"");
        canvas.marker(*at, marker, &attributes, &words(comparison, *arm, at, figure));
    }
    let said = draw(&mut canvas, comparison, looks, &points, figure);
    let height = canvas.height();
    let svg = canvas.finish(&format!("{title}, means over seeds. {said}"));
    let mut note = String::from("Filled marks are means over seeds");
    if !seeds.is_empty() {
        note += ", hollow ones single seeds";
    }
    if !even.is_empty() {
        note += "; the grey dashes are usage_expected_uniform, that of as many tokens drawn evenly";
    }
    note += &own_images(comparison, figure);
    let drawn = points.iter().flatten().map(|point| point.arm).collect();
    let note = noted(note + ".", &missing("Without a codebook or this figure", comparison, &drawn));
    Some(Panel { title: title.to_owned(), key: String::new(), svg, height, note })
}

/// A note with the arms that are missing.
fn noted(note: String, missing: &str) -> String {
    if missing.is_empty() { note } else { format!("{note} {missing}") }
}

/// The end of a sentence if a figure is over each evaluation's own images, otherwise empty.
pub(super) fn own_images(comparison: &Comparison, figure: &str) -> String {
    let own = comparison.of_own_images.iter().any(|name| name == figure);
    if own { "; over each evaluation's own images, which differ".to_owned() } else { String::new() }
}

/// The plot of bits per pixel against psnr_db. The bits are those of a token file under zstd, and
/// those that the codebook size gives.
pub(super) fn rate(comparison: &Comparison, looks: &Looks) -> Option<Panel> {
    let at = |arm: usize, rate: &str| {
        Some((summary(comparison, arm, rate)?.mean, summary(comparison, arm, "psnr_db")?.mean))
    };
    let nominal = |arm: usize| at(arm, "bits_per_pixel");
    let compressed = |arm: usize| at(arm, "bits_per_pixel_zstd");
    // Without a compressed rate, the nominal rate is shown instead.
    let points = series_points(looks, &|arm| compressed(arm).or_else(|| nominal(arm)));
    let nominals: Vec<Point> =
        (0..comparison.arms.len()).filter_map(|arm| Some(Point { arm, at: nominal(arm)? })).collect();
    let all = || points.iter().flatten().chain(&nominals).map(|point| point.at);
    let (x, y) = (Axis::linear(all().map(|at| at.0))?, Axis::linear(all().map(|at| at.1))?);
    let mut canvas = canvas(&x, &y, looks, &points);
    canvas.axes("bits per pixel", "PSNR, dB");
    for Point { arm, at } in &nominals {
        let Look { marker, colour, .. } = looks.series_of(*arm);
        if let Some(end) = compressed(*arm) {
            canvas.line(&[*at, end], Stroke { colour, dash: "1.5 2", width: 1.0 }, "");
            let words = format!(
                "{}: {} bits per pixel by its codebook's size",
                comparison.arms[*arm].name,
                number(at.0, 4)
            );
            canvas.marker(*at, marker, &format!("class=\"hollow\" stroke=\"{colour}\""), &words);
        }
    }
    let said = draw(&mut canvas, comparison, looks, &points, "bits_per_pixel");
    let height = canvas.height();
    let svg = canvas.finish(&format!("Rate against distortion, means over seeds. {said}"));
    let note = if nominals.iter().any(|point| compressed(point.arm).is_some()) {
        "Filled marks: bits per pixel of all tokens in a file under zstd; hollow marks: as the codebook's size says"
    } else {
        "Bits per pixel as the codebook's size says"
    };
    let note = format!("{note}{}.", own_images(comparison, "bits_per_pixel_zstd"));
    let drawn = points.iter().flatten().map(|point| point.arm).collect();
    let note = noted(note, &missing("Of unknown rate, or without psnr_db", comparison, &drawn));
    Some(Panel { title: "Rate against distortion".to_owned(), key: String::new(), svg, height, note })
}

/// One list of points per series, in the order of its arms.
fn series_points(looks: &Looks, at: &dyn Fn(usize) -> Option<(f64, f64)>) -> Vec<Vec<Point>> {
    let points = |arms: &[usize]| arms.iter().filter_map(|&arm| Some(Point { arm, at: at(arm)? })).collect();
    looks.series.iter().map(|series| points(&series.arms)).collect()
}

/// `(arm, value)` of each seed, for arms with several seeds.
fn seed_values(comparison: &Comparison, figure: &str) -> Vec<(usize, f64)> {
    let of_arm = |(at, arm): (usize, &Arm)| {
        let values = arm.runs.iter().filter_map(|run| run.figures.get(figure)?.as_f64());
        let values: Vec<_> = values.map(|value| (at, value)).collect();
        if values.len() > 1 { values } else { vec![] }
    };
    comparison.arms.iter().enumerate().flat_map(of_arm).collect()
}

/// Codebook size against `usage_expected_uniform`; the mean if arms of one size have different
/// numbers of tokens.
fn expected_usage(comparison: &Comparison) -> Vec<(f64, f64)> {
    let mut by_size: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (at, arm) in comparison.arms.iter().enumerate() {
        if let (Some(size), Some(usage)) =
            (arm.codebook_size, summary(comparison, at, "usage_expected_uniform"))
        {
            by_size.entry(size).or_default().push(usage.mean);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    by_size.into_iter().map(|(size, values)| (size as f64, mean(&values))).collect()
}

/// A canvas with space for the names of the series that have points.
fn canvas<'a>(x: &'a Axis, y: &'a Axis, looks: &Looks, points: &[Vec<Point>]) -> Canvas<'a> {
    let named = looks.series.iter().zip(points).filter(|(_, points)| !points.is_empty());
    Canvas::new(x, y, [named.map(|(series, _)| series.name.as_str()).collect()].into_iter())
}

/// Draws each series as a line through its means, with its name; returns the points in words.
fn draw(
    canvas: &mut Canvas<'_>,
    comparison: &Comparison,
    looks: &Looks,
    points: &[Vec<Point>],
    figure: &str,
) -> String {
    let (mut labels, mut said) = (vec![], vec![]);
    for (series, points) in looks.series.iter().zip(points) {
        let Look { colour, ink, marker, dash } = &series.look;
        let label = |last: &Point| Label { at: last.at, text: series.name.clone(), colour: ink.clone() };
        labels.extend(points.last().map(label));
        let joined: Vec<_> = points.iter().map(|point| point.at).collect();
        if joined.len() > 1 {
            canvas.line(&joined, Stroke { colour, dash, width: 1.5 }, &series.name);
        }
        for Point { arm, at } in points {
            let words = words(comparison, *arm, at, figure);
            canvas.marker(*at, marker, &format!("fill=\"{colour}\""), &words);
            said.push(words);
        }
    }
    canvas.labels(&labels);
    said.join("; ")
}

/// Describes a point: `fsq-10bit: K 1,000, psnr_db 26.77`.
fn words(comparison: &Comparison, arm: usize, at: &(f64, f64), figure: &str) -> String {
    let name = &comparison.arms[arm].name;
    let print =
        |name: &str, value: f64| number(value, definition(name).map_or(4, |definition| definition.digits));
    match figure {
        "bits_per_pixel" => {
            format!("{name}: {} bits per pixel, psnr_db {}", print(figure, at.0), print("psnr_db", at.1))
        }
        _ => format!("{name}: K {}, {figure} {}", number(at.0, 0), print(figure, at.1)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;
    use serde_json::{Value, json};

    fn figures(size: i64, db: f64) -> Value {
        json!({"codebook_size": size, "psnr_db": db, "usage": 0.5, "usage_expected_uniform": 0.9,
            "bits_per_pixel": 0.5, "bits_per_pixel_zstd": 0.4})
    }

    fn lines(svg: &str) -> usize {
        let document = roxmltree::Document::parse(svg).unwrap();
        document.descendants().filter(|node| node.attribute("class") == Some("line")).count()
    }

    #[test]
    fn series_are_joined_and_seeds_are_points() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(256, 25.0), figures(256, 25.5)]),
            ("b", "s", &[figures(1024, 26.0), figures(1024, 26.5)]),
            ("c", "t", &[figures(256, 24.0)]),
            ("no tokens", "u", &[json!({"psnr_db": 30.0})]),
        ]);
        let looks = Looks::of(&comparison);
        let panels: Vec<Panel> = [quality, usage].iter().filter_map(|of| of(&comparison, &looks)).collect();
        let titles: Vec<_> = panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, ["Quality against codebook size", "Usage against codebook size"]);
        assert_eq!(panels[0].svg.matches("class=\"seed\"").count(), 4, "one seed alone is its mean");
        assert_eq!(lines(&panels[0].svg), 1);
        assert_eq!(lines(&panels[1].svg), 2, "that of the series and the expected usage");
        assert!(panels[0].svg.contains("a: K 256, psnr_db 25.25"));
        assert!(!panels[0].svg.contains("no tokens"));
        assert!(
            panels[0].note.ends_with("Without a codebook or this figure: no tokens."),
            "{}",
            panels[0].note
        );
    }

    #[test]
    fn one_size_a_series_is_no_axis() {
        let comparison =
            fixture::comparison(&[("a", "s", &[figures(256, 25.0)]), ("b", "t", &[figures(240, 26.0)])]);
        let looks = Looks::of(&comparison);
        assert!(quality(&comparison, &looks).is_none() && usage(&comparison, &looks).is_none());
        let rate = rate(&comparison, &looks).unwrap();
        assert_eq!(rate.svg.matches("class=\"hollow\"").count(), 2);
        assert!(rate.svg.contains("b: 0.4000 bits per pixel, psnr_db 26.00"));
    }

    #[test]
    fn without_figures_there_is_no_plot() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({"psnr_db": 25.0})]), ("b", "t", &[])]);
        let looks = Looks::of(&comparison);
        assert!([quality, usage, rate].iter().all(|of| of(&comparison, &looks).is_none()));
    }
}
