//! Axes: scales and their ticks.

/// A scale that maps values to positions on an axis, from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    logarithmic: bool,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis with some margin around all `values`; `None` without values.
    pub(crate) fn linear(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = range(values)?;
        if high - low <= 1e-9 * high.abs().max(1e-9) {
            (low, high) = (low - 0.05 * low.abs().max(1.0), high + 0.05 * high.abs().max(1.0));
        }
        let room = 0.04 * (high - low);
        // Shares and rates begin at zero, and no value lies below it.
        let bottom = if low == 0.0 { 0.0 } else { low - room };
        Some(Self::over(bottom, high + room))
    }

    /// A linear axis from 0 to exactly the largest of `values`, as for steps.
    pub(crate) fn from_zero(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (_, high) = range(values)?;
        Some(Self::over(0.0, if high > 0.0 { high } else { 1.0 }))
    }

    fn over(low: f64, high: f64) -> Self {
        let step = nice_step((high - low) / 4.0);
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let (unit, suffix) = match high {
            1e7.. if step >= 1e6 => (1e6, "M"),
            1e4.. if step >= 1e3 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let digits = (-(step / unit).log10() - 1e-9).ceil().max(0.0) as usize;
        let tick = |at: i64| {
            let value = at as f64 * step;
            // Adding zero converts −0 to 0.
            (
                value,
                format!("{:.digits$}{}", value / unit + 0.0, if value == 0.0 { "" } else { suffix })
                    .replace('-', "−"),
            )
        };
        Self { logarithmic: false, low, high, ticks: (first..=last).map(tick).collect() }
    }

    /// A logarithmic axis with ticks at 1, 2 and 5, or only at powers of ten if it spans more than
    /// two. `None` without positive values.
    pub(crate) fn decades(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values.filter(|value| *value > 0.0))?;
        let rungs = rungs(low, high);
        let (low, high) = (*rungs.first()?, *rungs.last()?);
        let span = (high / low).log10();
        let every = (span / 5.0).ceil().max(1.0) as i64;
        let is_tick = |value: &&f64| {
            let exponent = value.log10();
            let whole = (exponent - exponent.round()).abs() < 1e-6;
            span <= 2.3 || (whole && (exponent.round() as i64).rem_euclid(every) == 0)
        };
        let ticks = rungs.iter().filter(is_tick).map(|&value| (value, decimal(value))).collect();
        Some(Self { logarithmic: true, low, high, ticks })
    }

    /// A logarithmic axis with ticks at powers of two and some margin at both ends. `None` without
    /// positive values.
    pub(crate) fn powers_of_two(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values.filter(|value| *value > 0.0))?;
        let (low, high) = (low.log2(), high.log2());
        let room = (0.05 * (high - low)).max(0.3);
        let (low, high) = (low - room, high + room);
        let every = ((high - low) / 6.0).ceil().max(1.0) as i32;
        let exponents =
            (low.ceil() as i32..=high.floor() as i32).filter(|exponent| exponent.rem_euclid(every) == 0);
        let ticks = exponents.map(|exponent| (2f64.powi(exponent), power_of_two(exponent))).collect();
        Some(Self { logarithmic: true, low: low.exp2(), high: high.exp2(), ticks })
    }

    /// The position of `value`: 0 at the start of the axis, 1 at its end.
    pub(crate) fn position(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The ticks: values with their texts, in ascending order.
    pub(crate) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// Whether the axis can show the value at all.
    pub(crate) fn takes(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// The number among 1, 2 and 5 times powers of ten that is nearest to `step` on a logarithmic
/// scale.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let between = [(1.0, 2.0), (2.0, 5.0), (5.0, 10.0)];
    let nice = between.into_iter().find(|(nice, next)| step / power < f64::sqrt(nice * next));
    nice.map_or(10.0, |(nice, _)| nice) * power
}

/// The numbers 1, 2 and 5 times powers of ten, from the last one below `low` to the first one above
/// `high`.
fn rungs(low: f64, high: f64) -> Vec<f64> {
    let exponents = low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1;
    let all: Vec<f64> =
        exponents.flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(exponent))).collect();
    let first = all.iter().rposition(|&rung| rung <= low * (1.0 + 1e-9)).unwrap_or(0);
    let last = all.iter().position(|&rung| rung >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
    all[first.min(last.saturating_sub(1))..=last].to_vec()
}

/// Formats a value as a decimal fraction if that is short, otherwise with a power of ten.
fn decimal(value: f64) -> String {
    let exponent = (value.log10() + 1e-9).floor() as i32;
    match exponent {
        -3..=0 => format!("{value:.*}", exponent.unsigned_abs() as usize),
        1..=3 => format!("{value:.0}"),
        _ => {
            let digit = value / 10f64.powi(exponent);
            let factor = if digit.round() > 1.0 { format!("{digit:.0}·") } else { String::new() };
            format!("{factor}10{}", superscript(exponent))
        }
    }
}

/// Formats a power of two: `2¹⁰`.
fn power_of_two(exponent: i32) -> String {
    format!("2{}", superscript(exponent))
}

fn superscript(number: i32) -> String {
    let raise = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + (digit as u32 - '0' as u32)).unwrap_or(digit),
    };
    number.to_string().chars().map(raise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Option<Axis>) -> Vec<String> {
        axis.unwrap().ticks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn linear_ticks_are_few_and_round() {
        let cases: [(&[f64], &[&str]); 6] = [
            (&[25.43, 27.9], &["25.5", "26.0", "26.5", "27.0", "27.5"]),
            (&[0.0, 0.87], &["0.0", "0.2", "0.4", "0.6", "0.8"]),
            (&[0.11, 0.19], &["0.12", "0.14", "0.16", "0.18"]),
            (&[27.0], &["26", "27", "28"]),
            (&[-3.0, 1.0], &["−3", "−2", "−1", "0", "1"]),
            (&[0.0], &["−0.04", "−0.02", "0.00", "0.02", "0.04"]),
        ];
        for (values, ticks) in cases {
            assert_eq!(texts(Axis::linear(values.iter().copied())), ticks, "{values:?}");
        }
    }

    #[test]
    fn steps_are_short() {
        assert_eq!(texts(Axis::from_zero([600.0].into_iter())), ["0", "200", "400", "600"]);
        assert_eq!(
            texts(Axis::from_zero([250_000.0].into_iter())),
            ["0", "50k", "100k", "150k", "200k", "250k"]
        );
        assert_eq!(texts(Axis::from_zero([2e7].into_iter())), ["0", "5M", "10M", "15M", "20M"]);
        assert_eq!(texts(Axis::from_zero([1.0].into_iter())), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::from_zero([700.0].into_iter()).unwrap();
        assert_eq!((axis.position(0.0), axis.position(700.0)), (0.0, 1.0));
    }

    #[test]
    fn decades_fit_their_range() {
        let cases: [(&[f64], &[&str]); 5] = [
            (&[0.0156, 0.28], &["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]),
            (&[0.0151, 0.0152], &["0.01", "0.02"]),
            (&[1e-5, 0.3], &["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1"]),
            (&[1.0, 15360.0], &["1", "10", "100", "1000", "10⁴"]),
            (&[0.5, 0.0, -1.0, f64::NAN], &["0.2", "0.5"]),
        ];
        for (values, ticks) in cases {
            assert_eq!(texts(Axis::decades(values.iter().copied())), ticks, "{values:?}");
        }
        assert!(Axis::decades([0.0, -1.0].into_iter()).is_none());
    }

    #[test]
    fn powers_of_two_are_named_as_such() {
        let sizes = [240.0, 15360.0, 16384.0];
        assert_eq!(texts(Axis::powers_of_two(sizes.into_iter())), ["2⁸", "2¹⁰", "2¹²", "2¹⁴"]);
        assert_eq!(texts(Axis::powers_of_two([1024.0].into_iter())), ["2¹⁰"]);
        assert_eq!(power_of_two(-13), "2⁻¹³");
    }

    #[test]
    fn all_values_lie_on_their_axis() {
        for high in [1e-7, 0.3, 7.0, 26.0, 1e9] {
            for low in [high, high * 0.999, high * 0.4, high * 1e-5] {
                for axis in [Axis::linear, Axis::decades, Axis::powers_of_two, Axis::from_zero].map(
                    |axis: fn(std::array::IntoIter<f64, 2>) -> Option<Axis>| {
                        axis([low, high].into_iter()).unwrap()
                    },
                ) {
                    let positions = [low, high].map(|value| axis.position(value));
                    assert!(
                        positions.iter().all(|at| (-1e-6..=1.0 + 1e-6).contains(at)),
                        "{low} {high} {axis:?}"
                    );
                    assert!(axis.ticks().len() <= 8, "{low} {high} {axis:?}");
                }
            }
        }
    }
}
