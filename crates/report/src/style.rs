//! The colour, marker and dash of each series and arm, the same in all tables and plots of a page.

use super::Comparison;

/// The colours of Okabe and Ito, which colour-blind readers can distinguish, without their yellow,
/// which is hard to see on white paper.
const COLOURS: [[u8; 3]; 7] = [
    [0x00, 0x72, 0xB2],
    [0xD5, 0x5E, 0x00],
    [0x00, 0x9E, 0x73],
    [0xCC, 0x79, 0xA7],
    [0xE6, 0x9F, 0x00],
    [0x56, 0xB4, 0xE9],
    [0x3A, 0x3A, 0x3A],
];

/// Markers as paths around the origin: disc, square, triangle, diamond, inverted triangle, plus.
/// Their number and that of the colours are coprime, so that 42 series differ in colour or marker.
const MARKERS: [&str; 6] = [
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-4.8L4.6 3.4H-4.6z",
    "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "M0 4.8L4.6-3.4H-4.6z",
    "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
];

/// Dashes as SVG's `stroke-dasharray`.
const DASHES: [&str; 6] = ["", "7 3", "2 2.5", "9 3 2 3", "4 2", "9 2.5 2 2.5 2 2.5"];

/// The style of an arm or a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    /// The colour of lines and markers.
    pub colour: String,
    /// A darker colour, for texts.
    pub ink: String,
    pub marker: &'static str,
    pub dash: &'static str,
}

/// Arms that plots join by a line.
pub(super) struct Series {
    /// The name of the series, or of its only arm.
    pub name: String,
    pub look: Look,
    /// The indices of its arms in the comparison, by ascending codebook size.
    pub arms: Vec<usize>,
}

/// The styles of a comparison.
pub(super) struct Looks {
    /// The series, in the order in which the comparison first names them.
    pub series: Vec<Series>,
    /// One style per arm: shades of the colour of its series.
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
        // A series of one arm is that arm; its name says more.
        for Series { name, arms, .. } in &mut series {
            if let [only] = arms[..] {
                name.clone_from(&comparison.arms[only].name);
            }
        }
        Self { series, arms: arms.into_iter().flatten().collect() }
    }

    /// The style of an arm's series.
    pub(super) fn series_of(&self, arm: usize) -> &Look {
        let series = self.series.iter().find(|series| series.arms.contains(&arm));
        series.map_or(&self.arms[arm], |series| &series.look)
    }
}

/// A style. `shade` mixes in white if it is above 0, black if it is below.
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
