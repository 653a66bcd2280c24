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
    /// A linear axis whose ticks enclose all `values`; `None` without values.
    pub(crate) fn linear(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = range(values)?;
        if high - low <= 1e-9 * high.abs().max(1e-9) {
            (low, high) = (low - 0.05 * low.abs().max(1.0), high + 0.05 * high.abs().max(1.0));
        }
        Some(Self::over(low, high))
    }

    /// A linear axis from 0, whose ticks enclose all `values`, as for steps.
    pub(crate) fn from_zero(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (_, high) = range(values)?;
        Some(Self::over(0.0, if high > 0.0 { high } else { 1.0 }))
    }

    fn over(low: f64, high: f64) -> Self {
        let step = nice_step((high - low) / 4.0);
        // From the last tick that is not above the values to the first one that is not below them.
        let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
        let (low, high) = (first as f64 * step, last as f64 * step);
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
    /// two; they enclose all values. `None` without positive values.
    pub(crate) fn decades(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values.filter(|value| *value > 0.0))?;
        let rungs = rungs(low, high);
        let (first, last) = (*rungs.first()?, *rungs.last()?);
        if (last / first).log10() <= 2.3 {
            let ticks = rungs.iter().map(|&value| (value, decimal(value))).collect();
            return Some(Self { logarithmic: true, low: first, high: last, ticks });
        }
        let (first, last) = ((low.log10() + 1e-9).floor() as i32, (high.log10() - 1e-9).ceil() as i32);
        let ticks = exponents(first, last, 5).map(|exponent| {
            let value = 10f64.powi(exponent);
            (value, decimal(value))
        });
        Self::between(ticks.collect())
    }

    /// A logarithmic axis with ticks at powers of two, which enclose all values. `None` without
    /// positive values.
    pub(crate) fn powers_of_two(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values.filter(|value| *value > 0.0))?;
        let (first, last) = ((low.log2() + 1e-9).floor() as i32, (high.log2() - 1e-9).ceil() as i32);
        // One power alone has its neighbours beside it.
        let (first, last) = if first >= last { (first - 1, first + 1) } else { (first, last) };
        Self::between(
            exponents(first, last, 8).map(|exponent| (2f64.powi(exponent), power_of_two(exponent))).collect(),
        )
    }

    /// A logarithmic axis from its first tick to its last.
    fn between(ticks: Vec<(f64, String)>) -> Option<Self> {
        let (low, high) = (ticks.first()?.0, ticks.last()?.0);
        Some(Self { logarithmic: true, low, high, ticks })
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

/// Exponents from `first` or somewhat less to `last` or somewhat more, in at most `most` even steps.
fn exponents(first: i32, last: i32, most: i32) -> impl Iterator<Item = i32> {
    let every = (f64::from(last - first) / f64::from(most)).ceil().max(1.0) as i32;
    let (first, last) = (first.div_euclid(every), (last + every - 1).div_euclid(every));
    (first..=last).map(move |at| at * every)
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
        let cases: [(&[f64], &[&str]); 7] = [
            (&[25.43, 27.9], &["25.0", "25.5", "26.0", "26.5", "27.0", "27.5", "28.0"]),
            (&[0.0, 0.87], &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (&[0.11, 0.19], &["0.10", "0.12", "0.14", "0.16", "0.18", "0.20"]),
            (&[25.0, 28.0], &["25", "26", "27", "28"]),
            (&[27.0], &["25.5", "26.0", "26.5", "27.0", "27.5", "28.0", "28.5"]),
            (&[-3.0, 1.0], &["−3", "−2", "−1", "0", "1"]),
            (&[0.0], &["−0.06", "−0.04", "−0.02", "0.00", "0.02", "0.04", "0.06"]),
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
        assert_eq!((axis.position(0.0), axis.position(800.0)), (0.0, 1.0));
    }

    #[test]
    fn decades_fit_their_range() {
        let cases: [(&[f64], &[&str]); 5] = [
            (&[0.0156, 0.28], &["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]),
            (&[0.0151, 0.0152], &["0.01", "0.02"]),
            (&[1e-5, 0.3], &["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"]),
            (&[1.0, 15360.0], &["1", "10", "100", "1000", "10⁴", "10⁵"]),
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
        assert_eq!(
            texts(Axis::powers_of_two(sizes.into_iter())),
            ["2⁷", "2⁸", "2⁹", "2¹⁰", "2¹¹", "2¹²", "2¹³", "2¹⁴"]
        );
        assert_eq!(texts(Axis::powers_of_two([1024.0].into_iter())), ["2⁹", "2¹⁰", "2¹¹"]);
        assert_eq!(texts(Axis::powers_of_two([2.0, 65536.0].into_iter())).len(), 9);
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
                    let ticks: Vec<f64> = axis.ticks().iter().map(|tick| tick.0).collect();
                    assert!(ticks.len() <= 9, "{low} {high} {axis:?}");
                    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
                    let slack = 1e-6 * high;
                    assert!(first <= low + slack && high <= last + slack, "{low} {high} {axis:?}");
                }
            }
        }
    }
}
