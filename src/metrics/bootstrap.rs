//! Bootstrap intervals: how much a mean over images varies between samples of similar images.

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The number of resampled sets.
const RESAMPLES: u64 = 1000;

/// The bootstrap 95 % interval of the mean of `values` (Efron 1979): the 2.5th and 97.5th
/// percentile of the means of 1,000 sets, each of as many values, drawn with replacement. Equal
/// values give equal intervals. `None` for fewer than two values.
#[must_use]
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    Some(ResampledMeans::of(&[values]).percentiles(|means| means[0]))
}

/// The means of several columns over the same resampled sets, so that their differences are paired.
#[derive(Debug)]
pub struct ResampledMeans {
    /// For each set the mean of each column.
    means: Vec<Vec<f64>>,
}

impl ResampledMeans {
    /// Draws the sets. The columns have one length, and row i of all is the same image.
    #[must_use]
    pub fn of(columns: &[&[f64]]) -> Self {
        let rows = columns.iter().map(|column| column.len()).min().unwrap_or(0);
        let means_of = |resample: u64| {
            // Each set has its own random stream, so the result does not depend on threads.
            let mut random = ChaCha8Rng::seed_from_u64(resample);
            let mut sums = vec![0.0; columns.len()];
            for _ in 0..rows {
                let drawn = random.random_range(0..rows);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum += column[drawn];
                }
            }
            sums.into_iter().map(|sum| sum / rows as f64).collect()
        };
        Self { means: (0..RESAMPLES).into_par_iter().map(means_of).collect() }
    }

    /// The 95 % interval of the mean of column `a` minus that of column `b`.
    #[must_use]
    pub fn difference(&self, a: usize, b: usize) -> (f64, f64) {
        self.percentiles(|means| means[a] - means[b])
    }

    /// The 2.5th and 97.5th percentile of a value over the sets.
    fn percentiles(&self, value: impl Fn(&[f64]) -> f64) -> (f64, f64) {
        let mut values: Vec<f64> = self.means.iter().map(|means| value(means)).collect();
        values.sort_by(f64::total_cmp);
        let percentile = |share: f64| values[(share * (RESAMPLES - 1) as f64).round() as usize];
        (percentile(0.025), percentile(0.975))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_wide_as_the_normal_approximation_says() {
        // 400 values of variance 1/12: the mean's standard error is 0.0144.
        let values: Vec<f64> = (0..400).map(|i| (f64::from(i) + 0.5) / 400.0).collect();
        let (low, high) = interval(&values).unwrap();
        assert!((low - (0.5 - 1.96 * 0.01443)).abs() < 0.003, "{low}");
        assert!((high - (0.5 + 1.96 * 0.01443)).abs() < 0.003, "{high}");
        assert_eq!(interval(&values), Some((low, high)));
    }

    #[test]
    fn differences_are_of_the_same_images() {
        // One column is the other and 0.01 to 0.02 more, though images differ by much more.
        let one: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 400)).collect();
        let other: Vec<f64> =
            one.iter().enumerate().map(|(i, value)| value + 0.01 + 0.01 * (i % 2) as f64).collect();
        let means = ResampledMeans::of(&[&one, &other, &one]);
        let (low, high) = means.difference(1, 0);
        assert!(0.014 < low && low < 0.015 && 0.015 < high && high < 0.016, "{low} {high}");
        assert_eq!(means.difference(0, 2), (0.0, 0.0), "a copy");
        assert_eq!(interval(&one), Some(ResampledMeans::of(&[&other, &one]).percentiles(|means| means[1])));
    }

    #[test]
    fn equal_values_have_no_width_and_one_value_no_interval() {
        assert_eq!(interval(&[3.0; 7]), Some((3.0, 3.0)));
        assert_eq!(interval(&[3.0]), None);
    }
}
