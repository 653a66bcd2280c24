//! One colour, marker and dash for each series and arm, the same in every table and plot of a page.

use super::Comparison;

/// The colours of Okabe and Ito, which the colour-blind tell apart, less their yellow, which white paper swallows.
const COLOURS: [[u8; 3]; 7] = [
    [0x00, 0x72, 0xB2],
    [0xD5, 0x5E, 0x00],
    [0x00, 0x9E, 0x73],
    [0xCC, 0x79, 0xA7],
    [0xE6, 0x9F, 0x00],
    [0x56, 0xB4, 0xE9],
    [0x3A, 0x3A, 0x3A],
];

/// Paths around the origin: disc, square, triangle, diamond, triangle on its tip, plus. Their number and that of the
/// colours have no common divisor, so that 42 series differ in one or the other.
const MARKERS: [&str; 6] = [
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-4.8L4.6 3.4H-4.6z",
    "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "M0 4.8L4.6-3.4H-4.6z",
    "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
];

/// As SVG's `stroke-dasharray`.
const DASHES: [&str; 6] = ["", "7 3", "2 2.5", "9 3 2 3", "4 2", "9 2.5 2 2.5 2 2.5"];

/// How an arm or a series is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    /// Of lines and marks.
    pub colour: String,
    /// Darker: of texts.
    pub ink: String,
    pub marker: &'static str,
    pub dash: &'static str,
}

/// Arms that are joined in plots.
pub(super) struct Series {
    pub name: String,
    pub look: Look,
    /// Their places in the comparison, by ascending codebook size.
    pub arms: Vec<usize>,
}

/// The looks of a comparison.
pub(super) struct Looks {
    /// In the order in which the sweep first names them.
    pub series: Vec<Series>,
    /// One per arm: shades of its series' colour.
    pub arms: Vec<Look>,
}

impl Looks {
    pub(super) fn of(comparison: &Comparison) -> Self {
        let mut series: Vec<Series> = vec![];
        for (at, arm) in comparison.arms.iter().enumerate() {
            match series.iter_mut().find(|series| series.name == arm.series) {
                Some(series) => series.arms.push(at),
                None => {
                    let place = series.len();
                    let base = COLOURS[place % COLOURS.len()];
                    let look = look(base, 0.0, MARKERS[place % MARKERS.len()], DASHES[place % DASHES.len()]);
                    series.push(Series { name: arm.series.clone(), look, arms: vec![at] });
                }
            }
        }
        let mut arms = vec![None; comparison.arms.len()];
        for (place, series) in series.iter_mut().enumerate() {
            series.arms.sort_by_key(|&arm| comparison.arms[arm].codebook_size);
            for (rank, &arm) in series.arms.iter().enumerate() {
                let shade = match series.arms.len() {
                    1 => 0.0,
                    several => 0.4 - 0.8 * rank as f64 / (several - 1) as f64,
                };
                let dash = DASHES[rank % DASHES.len()];
                arms[arm] = Some(look(COLOURS[place % COLOURS.len()], shade, series.look.marker, dash));
            }
        }
        Self { series, arms: arms.into_iter().flatten().collect() }
    }

    /// How the series of an arm is drawn.
    pub(super) fn series_of(&self, arm: usize) -> &Look {
        let series = self.series.iter().find(|series| series.arms.contains(&arm));
        series.map_or(&self.arms[arm], |series| &series.look)
    }
}

/// `shade` mixes white in where it is above 0, black where it is below.
fn look(base: [u8; 3], shade: f64, marker: &'static str, dash: &'static str) -> Look {
    let mix = |shade: f64| {
        let other = if shade > 0.0 { 255.0 } else { 0.0 };
        let [red, green, blue] =
            base.map(|value| (f64::from(value) + (other - f64::from(value)) * shade.abs()).round() as u8);
        format!("#{red:02x}{green:02x}{blue:02x}")
    };
    Look { colour: mix(shade), ink: mix(shade.min(0.0) / 2.0 - 0.3), marker, dash }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use serde_json::json;

    #[test]
    fn arms_of_a_series_share_its_marker_and_differ_in_shade_and_dash() {
        let figures = |size: i64| [json!({"codebook_size": size})];
        let comparison = fixture::comparison(&[
            ("a", "s", &figures(1024)),
            ("b", "t", &figures(256)),
            ("c", "s", &figures(256)),
        ]);
        let looks = Looks::of(&comparison);
        assert_eq!(looks.series[0].arms, [2, 0], "by codebook size");
        assert_eq!(looks.arms[0].marker, looks.arms[2].marker);
        assert_ne!(looks.arms[0].colour, looks.arms[2].colour);
        assert_ne!(looks.arms[0].dash, looks.arms[2].dash);
        assert_eq!(looks.arms[1].colour, looks.series[1].look.colour, "one arm alone has its series' colour");
    }

    #[test]
    fn series_differ_in_colour_or_marker() {
        let names: Vec<String> = (0..42).map(|at| at.to_string()).collect();
        let arms: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str(), &[][..])).collect();
        let looks = Looks::of(&fixture::comparison(&arms));
        let kinds: std::collections::BTreeSet<_> =
            looks.series.iter().map(|series| (&series.look.colour, series.look.marker)).collect();
        assert_eq!(kinds.len(), 42);
    }
}
