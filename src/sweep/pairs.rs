//! The differences of every two arms, and how certain they are.

use std::collections::BTreeMap;

use super::shared::{Aligned, Evaluated, aligned};
use crate::metrics::ResampledMeans;
use pixtok_report::{Better, DEFINITIONS, Definition, Interval, Over, Pair, Sample, t_interval};

/// The least number of images of an interval. If two arms are equal, all n differences have one sign
/// in 2^(1−n) of cases, and no resampled mean is 0 then. Up to five images that is more than the 5 %
/// of cases in which the interval may miss.
const LEAST_IMAGES: usize = 6;

/// The figure of one run, with the values of the images behind it.
struct Measured<'a> {
    seed: Option<u64>,
    value: f64,
    images: Option<&'a [f64]>,
}

/// How the difference of two arms is taken.
enum Compared {
    /// The differences of the seeds that both have.
    Seeds(Vec<f64>),
    /// The columns of images of each, by their numbers.
    Images(usize, usize),
    /// The means alone.
    Means(f64),
}

/// The difference of every two of the `arms` (their names) in every figure that ranks, unless it is
/// one of `own`, over each evaluation's own images. With two or more common seeds the interval is
/// Student's t of the differences of the seeds. Otherwise it is the paired bootstrap over images, of
/// the common seed, or without one (an arm that was not trained here) of the mean of each image over
/// an arm's runs. Call it after the means were taken over common images.
pub(super) fn pairs(arms: &[&str], all: &[Evaluated], own: &[&str]) -> Vec<Pair> {
    let images = aligned(all);
    let ranks = |definition: &&Definition| {
        definition.better != Better::Neither
            && definition.over != Over::Neither
            && !own.contains(&definition.name)
    };
    DEFINITIONS
        .iter()
        .filter(ranks)
        .flat_map(|definition| of_figure(definition.name, arms, all, &images))
        .collect()
}

fn of_figure(figure: &str, arms: &[&str], all: &[Evaluated], images: &[Option<Aligned>]) -> Vec<Pair> {
    let measured: Vec<Vec<Measured>> = (0..arms.len()).map(|arm| of_arm(figure, arm, all, images)).collect();
    let mut columns = Columns::default();
    let mut compared = vec![];
    for a in 0..arms.len() {
        for b in a + 1..arms.len() {
            if !measured[a].is_empty() && !measured[b].is_empty() {
                compared.push((a, b, columns.compare((a, &measured[a]), (b, &measured[b]))));
            }
        }
    }
    let means = columns.resampled();
    let pair = |(a, b, compared): (usize, usize, Compared)| {
        let (difference, interval) = match compared {
            Compared::Means(difference) => (difference, None),
            Compared::Seeds(differences) => {
                let interval = t_interval(&differences).map(|(low, high)| Interval {
                    low,
                    high,
                    over: Sample::Seeds(differences.len()),
                });
                (mean(&differences), interval)
            }
            Compared::Images(one, other) => {
                let over = Sample::Images(columns.values[one].len());
                let interval = means.as_ref().map(|means| {
                    let (low, high) = means.difference(one, other);
                    Interval { low, high, over }
                });
                (mean(&columns.values[one]) - mean(&columns.values[other]), interval)
            }
        };
        let arms = [arms[a].to_owned(), arms[b].to_owned()];
        Pair { figure: figure.to_owned(), arms, difference, interval }
    };
    compared.into_iter().map(pair).filter(|pair| pair.difference.is_finite()).collect()
}

/// The runs of an arm that have the figure.
fn of_arm<'a>(
    figure: &str,
    arm: usize,
    all: &'a [Evaluated],
    images: &'a [Option<Aligned>],
) -> Vec<Measured<'a>> {
    let runs = all.iter().zip(images).filter(|(one, _)| one.arm == arm);
    let measured = runs.filter_map(|(one, images)| {
        Some(Measured {
            seed: one.run.seed,
            value: one.run.figures.get(figure)?.as_f64()?,
            images: images.as_ref().and_then(|images| images.get(figure)).map(Vec::as_slice),
        })
    });
    measured.collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The columns of images that are resampled together: each of an arm with one seed, or of all its
/// runs.
#[derive(Default)]
struct Columns {
    values: Vec<Vec<f64>>,
    places: BTreeMap<(usize, Option<u64>), usize>,
}

impl Columns {
    /// How two arms are compared, each given with its number.
    fn compare(&mut self, a: (usize, &[Measured]), b: (usize, &[Measured])) -> Compared {
        let of_seed = |runs: &[Measured], seed| runs.iter().find(|run| run.seed == seed).map(|run| run.value);
        let common: Vec<(u64, f64)> =
            a.1.iter().filter_map(|run| Some((run.seed?, run.value - of_seed(b.1, run.seed)?))).collect();
        if common.len() > 1 {
            return Compared::Seeds(common.into_iter().map(|(_, difference)| difference).collect());
        }
        let seed = common.first().map(|(seed, _)| *seed);
        if let (Some(one), Some(other)) = (self.place(a, seed), self.place(b, seed)) {
            return Compared::Images(one, other);
        }
        let value = |runs: &[Measured]| match seed {
            Some(seed) => of_seed(runs, Some(seed)).unwrap_or(f64::NAN),
            None => mean(&runs.iter().map(|run| run.value).collect::<Vec<_>>()),
        };
        Compared::Means(value(a.1) - value(b.1))
    }

    /// The number of the column of an arm with this seed, or without a seed of all its runs; `None`
    /// if there are no values of images, or fewer than [`LEAST_IMAGES`].
    fn place(&mut self, (arm, runs): (usize, &[Measured]), seed: Option<u64>) -> Option<usize> {
        if let Some(place) = self.places.get(&(arm, seed)) {
            return Some(*place);
        }
        let taken = runs.iter().filter(|run| seed.is_none() || run.seed == seed);
        let columns: Vec<&[f64]> = taken.map(|run| run.images).collect::<Option<_>>()?;
        let rows = columns.first()?.len();
        if rows < LEAST_IMAGES {
            return None;
        }
        let mean_of = |row: usize| mean(&columns.iter().map(|column| column[row]).collect::<Vec<_>>());
        self.values.push((0..rows).map(mean_of).collect());
        self.places.insert((arm, seed), self.values.len() - 1);
        Some(self.values.len() - 1)
    }

    /// The means of all columns over the same resampled sets; `None` without columns.
    fn resampled(&self) -> Option<ResampledMeans> {
        let columns: Vec<&[f64]> = self.values.iter().map(Vec::as_slice).collect();
        (!columns.is_empty()).then(|| ResampledMeans::of(&columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Scores;
    use pixtok_report::Run;
    use serde_json::json;

    /// A run with the decibels of its images.
    fn evaluated(arm: usize, seed: Option<u64>, values: &[f64]) -> Evaluated {
        let rows: String =
            values.iter().enumerate().map(|(image, value)| format!("{image},{value}\n")).collect();
        let scores = Scores::from_csv(format!("image,psnr_db\n{rows}").as_bytes()).unwrap();
        let figures = json!({"psnr_db": mean(values), "rfid": 10.0 * mean(values), "usage": 0.5});
        let run = Run {
            seed,
            path: String::new(),
            figures: figures.as_object().unwrap().clone(),
            failure: None,
            left_out: vec![],
            notes: vec![],
        };
        Evaluated { arm, run, scores: Some(scores) }
    }

    fn found<'a>(pairs: &'a [Pair], figure: &str, arms: [&str; 2]) -> &'a Pair {
        pairs.iter().find(|pair| pair.figure == figure && pair.arms == arms).unwrap()
    }

    #[test]
    fn common_seeds_are_compared_seed_by_seed() {
        // Both arms vary by 3 dB with the seed, and differ by 0.1 to 0.2 dB in each.
        let all = [
            evaluated(0, Some(0), &[27.1, 27.1]),
            evaluated(0, Some(1), &[30.2, 30.2]),
            evaluated(0, Some(2), &[28.15, 28.15]),
            evaluated(1, Some(2), &[28.0, 28.0]),
            evaluated(1, Some(0), &[27.0, 27.0]),
            evaluated(1, Some(1), &[30.0, 30.0]),
            evaluated(1, Some(7), &[99.0, 99.0]),
        ];
        let pairs = pairs(&["a", "b"], &all, &[]);
        let pair = found(&pairs, "psnr_db", ["a", "b"]);
        let interval = pair.interval.unwrap();
        assert!((pair.difference - 0.15).abs() < 1e-9 && interval.over == Sample::Seeds(3));
        // The deviation is 0.05, so half the interval is 4.303·0.05/√3.
        assert!((interval.low - (0.15 - 0.1242)).abs() < 1e-4, "{interval:?}");
        assert!(!interval.holds_zero());
        let rfid = found(&pairs, "rfid", ["a", "b"]);
        assert!((rfid.difference - 1.5).abs() < 1e-9 && rfid.interval.is_some());
        assert!(pairs.iter().all(|pair| pair.figure != "usage"), "usage ranks nothing");
    }

    #[test]
    fn one_seed_is_compared_image_by_image() {
        let ramp: Vec<f64> = (0..60).map(f64::from).collect();
        let above: Vec<f64> = ramp.iter().map(|value| value + 0.5).collect();
        let all = [
            evaluated(0, Some(3), &ramp),
            evaluated(1, Some(3), &above),
            evaluated(1, Some(4), &ramp),
            evaluated(2, None, &ramp),
        ];
        let pairs = pairs(&["a", "b", "foreign"], &all, &[]);
        let pair = found(&pairs, "psnr_db", ["a", "b"]);
        let interval = pair.interval.unwrap();
        assert!((pair.difference + 0.5).abs() < 1e-9 && interval.over == Sample::Images(60));
        assert!((interval.low + 0.5).abs() < 1e-9 && (interval.high + 0.5).abs() < 1e-9, "{interval:?}");
        let level = found(&pairs, "psnr_db", ["a", "foreign"]);
        assert_eq!((level.difference, level.interval.unwrap().low), (0.0, 0.0));
        // Without a common seed, the mean of both runs of b.
        assert!((found(&pairs, "psnr_db", ["b", "foreign"]).difference - 0.25).abs() < 1e-9);
        assert_eq!(found(&pairs, "rfid", ["a", "b"]).interval, None, "one seed of a whole set");
    }

    #[test]
    fn few_images_have_no_interval() {
        let values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0];
        let above = values.map(|value| value + 0.5);
        for count in 1..=values.len() {
            let all = [evaluated(0, None, &values[..count]), evaluated(1, None, &above[..count])];
            let pairs = pairs(&["a", "b"], &all, &[]);
            let pair = found(&pairs, "psnr_db", ["a", "b"]);
            assert!((pair.difference + 0.5).abs() < 1e-9, "{count}: {}", pair.difference);
            assert_eq!(pair.interval.is_some(), count == 6, "{count}");
        }
    }

    #[test]
    fn figures_of_sets_that_differ_and_failed_arms_have_no_difference() {
        let mut all = [
            evaluated(0, Some(0), &[1.0, 2.0]),
            evaluated(1, Some(0), &[1.0, 2.5]),
            Evaluated { scores: None, ..evaluated(2, Some(0), &[3.0, 4.0]) },
        ];
        all[2].run.figures.clear();
        let pairs = pairs(&["a", "b", "failed"], &all, &["rfid"]);
        let figures: Vec<_> = pairs.iter().map(|pair| pair.figure.as_str()).collect();
        assert_eq!(figures, ["psnr_db"]);
    }
}
