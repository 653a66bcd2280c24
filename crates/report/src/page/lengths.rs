//! The plot of quality against length: what the first tokens of an image, or the first stages of a
//! residual quantizer, give without the others.

use serde_json::Value;

use super::super::columns::number;
use super::super::plot::Axis;
use super::super::style::Looks;
use super::super::{Arm, Comparison, Run};
use super::curves::Figure;
use super::panels::{Line, Setting, missing, panels};

/// The name of its file, without ending.
pub(super) const FILE: &str = "quality-by-length";

/// The lengths of a run as `(length, bits per pixel, PSNR)`; none if no prefixes were measured.
fn points(run: &Run) -> Vec<(u64, f64, f64)> {
    let points = run.figures.get("prefixes").and_then(|curve| curve["points"].as_array());
    let point = |point: &Value| {
        Some((point["length"].as_u64()?, point["bits_per_pixel"].as_f64()?, point["psnr_db"].as_f64()?))
    };
    points.into_iter().flatten().filter_map(point).collect()
}

/// The mean over the seeds of an arm that have the length, with the range.
fn line((index, arm): (usize, &Arm)) -> Option<Line> {
    let runs: Vec<_> = arm.runs.iter().map(points).collect();
    let longest = runs.iter().max_by_key(|points| points.len())?;
    let (mut at, mut band) = (vec![], vec![]);
    for &(length, bits, _) in longest {
        let values: Vec<f64> =
            runs.iter().flatten().filter(|point| point.0 == length).map(|&(_, _, value)| value).collect();
        at.push((bits, values.iter().sum::<f64>() / values.len() as f64));
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        band.push((bits, low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
    }
    let several = runs.iter().filter(|points| !points.is_empty()).count() > 1;
    (!at.is_empty()).then_some(Line { arm: index, points: at, band: if several { band } else { vec![] } })
}

/// The figure, if prefixes of any arm's tokens were measured.
pub(super) fn lengths(comparison: &Comparison, looks: &Looks) -> Option<Figure> {
    let lines: Vec<Line> = comparison.arms.iter().enumerate().filter_map(line).collect();
    let values = || {
        let bands = lines.iter().flat_map(|line| &line.band).flat_map(|&(_, low, high)| [low, high]);
        lines.iter().flat_map(|line| &line.points).map(|point| point.1).chain(bands)
    };
    let x = Axis::from_zero(lines.iter().flat_map(|line| &line.points).map(|point| point.0))?;
    let y = Axis::linear(values())?;
    let words = |line: &Line| {
        let point = |&(bits, value): &(f64, f64)| {
            format!("psnr_db {} at {} bits per pixel", number(value, 2), number(bits, 4))
        };
        line.points.iter().map(point).collect::<Vec<_>>().join(", ")
    };
    let setting = Setting {
        id: "behind-lengths",
        x: &x,
        y: &y,
        x_title: "bits per pixel of the decoded tokens",
        y_title: "PSNR, dB",
        words: &words,
    };
    let panels = panels(comparison, looks, &lines, &setting);
    let mut runs = comparison.arms.iter().flat_map(|arm| &arm.runs);
    let differ = runs.any(|run| run.figures.contains_key("images_shared"));
    let mut caption = String::from(
        "Images decoded from the first of their tokens, or from the first stages of a residual quantizer; each line ends \
         at all of them. Bits per pixel as the codebook's size says",
    );
    if lines.iter().any(|line| !line.band.is_empty()) {
        caption += "; lines are means over seeds, bands reach from the lowest to the highest";
    }
    if differ {
        caption += "; over each evaluation's own images, which differ";
    }
    let drawn = lines.iter().map(|line| line.arm).collect();
    let missing = missing("Measured only from all tokens", comparison, &drawn);
    let (title, caption) = ("Quality against length".to_owned(), caption + ".");
    Some(Figure { title, caption, panels, missing, file: FILE })
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;
    use serde_json::json;

    fn figures(lift: f64) -> Value {
        let point = |length: u64, psnr_db: f64| json!({ "length": length, "bits_per_pixel": length as f64 / 100.0, "psnr_db": psnr_db + lift });
        let points = [point(2, 18.0), point(4, 20.0), point(8, 22.0)];
        json!({ "psnr_db": 22.0 + lift, "prefixes": { "axis": "tokens", "of": 8, "points": points } })
    }

    #[test]
    fn a_line_is_the_mean_of_the_seeds() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(0.0), figures(1.0), json!({})]),
            ("b", "t", &[figures(2.0)]),
            ("c", "u", &[json!({ "psnr_db": 25.0 })]),
        ]);
        let line = line((0, &comparison.arms[0])).unwrap();
        assert_eq!(line.points, [(0.02, 18.5), (0.04, 20.5), (0.08, 22.5)]);
        assert_eq!(line.band[1], (0.04, 20.0, 21.0));
        let figure = lengths(&comparison, &Looks::of(&comparison)).unwrap();
        assert_eq!((figure.panels.len(), figure.file), (1, FILE));
        assert_eq!(figure.missing, "Measured only from all tokens: c.");
        assert!(
            figure
                .caption
                .ends_with("; lines are means over seeds, bands reach from the lowest to the highest.")
        );
        let svg = &figure.panels[0].svg;
        assert!(svg.contains("b: psnr_db 20.00 at 0.0200 bits per pixel, psnr_db 22.00 at"), "{svg}");
    }

    #[test]
    fn images_that_differ_are_named() {
        let mut shared = figures(0.0);
        shared["images_shared"] = json!(5);
        let comparison = fixture::comparison(&[("a", "s", &[shared])]);
        let figure = lengths(&comparison, &Looks::of(&comparison)).unwrap();
        assert!(figure.caption.ends_with("; over each evaluation's own images, which differ."));
        let without = fixture::comparison(&[("a", "s", &[json!({ "psnr_db": 25.0 })])]);
        assert!(lengths(&without, &Looks::of(&without)).is_none());
    }
}
