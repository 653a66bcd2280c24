//! Quality by length: the figures of images that are decoded from the first of their tokens.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Figures;
use pixtok_tokens::StatedPrefix;

/// The width of a column of the table.
const COLUMN: usize = 10;

/// The figures that depend on how many tokens of an image are decoded, at several lengths.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What the lengths count, tokens or codebooks, and how many there are in all.
    pub whole: StatedPrefix,
    /// Ascending lengths with their figures; the last one is that of all tokens.
    pub points: Vec<(u32, Figures)>,
}

impl Curve {
    /// The curve through the figures of these lengths and those of all tokens, `figures`.
    pub(super) fn of(whole: StatedPrefix, lengths: &[u32], each: Vec<Figures>, figures: &Figures) -> Self {
        let bits = figures.value("bits_per_pixel");
        let mut points: Vec<(u32, Figures)> = lengths
            .iter()
            .zip(each)
            .map(|(&length, mut own)| {
                if let Some(bits) = bits {
                    own.push("bits_per_pixel", bits * f64::from(length) / f64::from(whole.of));
                }
                (length, own.in_order())
            })
            .collect();
        if let Some(all) = points.first().map(|(_, first)| figures.also_in(first)) {
            points.push((whole.of, all));
        }
        Self { whole, points }
    }

    /// A table for people: a column for each length.
    #[must_use]
    pub fn table(&self) -> String {
        let Some((_, first)) = self.points.first() else { return String::new() };
        let title = format!("first {}", self.whole.axis);
        let width = first.names().map(str::len).max().unwrap_or(0).max(title.len());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let mut line = |name: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>COLUMN$}")).collect();
            let _ = writeln!(text, "  {name:<width$}{cells}");
        };
        line(&title, self.points.iter().map(|(length, _)| length.to_string()).collect());
        for name in first.names() {
            line(name, self.points.iter().map(|(_, figures)| figures.printed(name)).collect());
        }
        text
    }

    /// For programs: the lengths with their figures.
    #[must_use]
    pub fn json(&self) -> Value {
        let point = |(length, figures): &(u32, Figures)| {
            let mut point = figures.flat();
            point.insert("length".into(), json!(length));
            point
        };
        let points: Vec<_> = self.points.iter().map(point).collect();
        json!({ "axis": self.whole.axis, "of": self.whole.of, "points": points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_tokens::PrefixAxis;

    fn figures(psnr_db: f64) -> Figures {
        let mut figures = Figures::default();
        figures.push_mean("psnr_db", psnr_db, Some((psnr_db - 1.0, psnr_db + 1.0)));
        figures.push_absent("ms_ssim", "too small".into());
        figures
    }

    #[test]
    fn a_curve_ends_at_all_tokens() {
        let mut all = figures(27.0);
        all.push("images", 7.0);
        all.push("bits_per_pixel", 0.5);
        let whole = StatedPrefix { axis: PrefixAxis::Tokens, of: 8 };
        let curve = Curve::of(whole, &[2, 4], vec![figures(20.0), figures(24.0)], &all.in_order());
        let lengths: Vec<u32> = curve.points.iter().map(|(length, _)| *length).collect();
        assert_eq!(lengths, [2, 4, 8]);
        let table = curve.table();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["first", "tokens", "2", "4", "8"],
                vec!["psnr_db", "20.00", "24.00", "27.00"],
                vec!["ms_ssim", "absent", "absent", "absent"],
                vec!["bits_per_pixel", "0.1250", "0.2500", "0.5000"],
            ]
        );
        let json = curve.json();
        assert_eq!((&json["axis"], &json["of"]), (&json!("tokens"), &json!(8)));
        assert_eq!(json["points"][0]["length"], 2);
        assert_eq!(json["points"][1]["psnr_db_low"], 23.0);
        assert_eq!(json["points"][2]["bits_per_pixel"], 0.5);
        assert_eq!(json["points"][2].get("images"), None);
        assert_eq!(Curve::of(whole, &[], vec![], &figures(27.0)).table(), "");
    }
}
