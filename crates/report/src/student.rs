//! Student's t distribution: the interval of a mean over few seeds.

use std::f64::consts::FRAC_PI_2;

/// The share of cases in which an interval is to hold the true mean.
const LEVEL: f64 = 0.95;

/// The 95 % interval of the mean of independent, normally distributed `values` of unknown variance
/// (Student 1908): mean ± t·s/√n, with the sample deviation s and n − 1 degrees of freedom. `None`
/// for fewer than two values.
#[must_use]
pub fn t_interval(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = quantile(values.len() - 1) * (squares / (count - 1.0) / count).sqrt();
    Some((mean - half, mean + half))
}

/// The number t for which a variable with `freedom` degrees of freedom lies within ±t in 95 % of
/// cases.
fn quantile(freedom: usize) -> f64 {
    // With t = √ν·tan θ, the probability rises from 0 to 1 as θ goes from 0 to π/2.
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if within(middle, freedom) < LEVEL {
            low = middle;
        } else {
            high = middle;
        }
    }
    (freedom as f64).sqrt() * f64::tan((low + high) / 2.0)
}

/// The probability that |t| ≤ √ν·tan θ with ν = `freedom` (Abramowitz and Stegun 1964, 26.7.3 and
/// 26.7.4):
///
/// - odd ν: 2/π·(θ + sin θ·(cos θ + 2/3·cos³θ + … + (2·4…(ν−3))/(1·3…(ν−2))·cos^(ν−2)θ))
/// - even ν: sin θ·(1 + 1/2·cos²θ + … + (1·3…(ν−3))/(2·4…(ν−2))·cos^(ν−2)θ)
fn within(theta: f64, freedom: usize) -> f64 {
    let (sine, cosine) = theta.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = if freedom == 1 { 0.0 } else { term };
    // Each term is the one before times (k − 1)/k·cos²θ, where k is its power of the cosine.
    let first = if odd { 3 } else { 2 };
    for power in (first..freedom.saturating_sub(1)).step_by(2) {
        term *= (power - 1) as f64 / power as f64 * cosine * cosine;
        sum += term;
    }
    if odd { (theta + sine * sum) / FRAC_PI_2 } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_published_table() {
        // Upper critical values for 0.025: NIST/SEMATECH e-Handbook of Statistical Methods,
        // 1.3.6.7.2.
        let table = [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (6, 2.447),
            (7, 2.365),
            (8, 2.306),
            (9, 2.262),
            (10, 2.228),
            (15, 2.131),
            (20, 2.086),
            (29, 2.045),
            (30, 2.042),
            (60, 2.000),
            (100, 1.984),
        ];
        for (freedom, value) in table {
            assert!((quantile(freedom) - value).abs() < 0.000_51, "{freedom}: {}", quantile(freedom));
        }
    }

    #[test]
    fn an_interval_lies_around_the_mean() {
        // 1, 2 and 6: the mean is 3, s² is 7.
        let half = 4.302_65 * (7.0f64 / 3.0).sqrt();
        let (low, high) = t_interval(&[1.0, 2.0, 6.0]).unwrap();
        assert!((low - (3.0 - half)).abs() < 1e-4 && (high - (3.0 + half)).abs() < 1e-4, "{low} {high}");
        assert_eq!(t_interval(&[0.25; 3]), Some((0.25, 0.25)));
        assert_eq!(t_interval(&[1.0]), None);
    }
}
