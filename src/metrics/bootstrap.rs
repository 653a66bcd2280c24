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
    let mean_of = |resample: u64| {
        // Each set has its own random stream, so the result does not depend on threads.
        let mut random = ChaCha8Rng::seed_from_u64(resample);
        let drawn = (0..values.len()).map(|_| values[random.random_range(0..values.len())]);
        drawn.sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).into_par_iter().map(mean_of).collect();
    means.sort_by(f64::total_cmp);
    let percentile = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    Some((percentile(0.025), percentile(0.975)))
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
    fn equal_values_have_no_width_and_one_value_no_interval() {
        assert_eq!(interval(&[3.0; 7]), Some((3.0, 3.0)));
        assert_eq!(interval(&[3.0]), None);
    }
}
