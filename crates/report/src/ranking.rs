//! Which arms are compared with each other, and which are ahead.
//!
//! A tokenizer that spends more bits has the better pictures, so only arms of about the same rate
//! are ranked against each other. An arm that was trained elsewhere, on other images and for longer,
//! is not ranked against those that were trained here.

use super::columns::{number, summary};
use super::{Arm, Comparison};
use crate::definition::{Better, DEFINITIONS, Definition, Over};

/// Arms are ranked against each other if their bits per pixel differ from those of the best by at
/// most this share.
const SAME_RATE: f64 = 0.05;

/// The arms of a comparison, in the order in which they are shown.
pub(super) struct Ranking {
    /// The figure that ranks: the first that any arm has, which is psnr_db unless other metrics were
    /// asked for. Absent if nothing was evaluated.
    pub headline: Option<&'static Definition>,
    /// Arms of one rate, by ascending rate; those whose rate is unknown last.
    pub groups: Vec<RateGroup>,
    /// The arms that are not ranked because they were not trained here, and others were.
    pub foreign: Vec<usize>,
    /// The arms without the headline's figure.
    pub without: Vec<usize>,
}

/// Arms that are ranked against each other.
pub(super) struct RateGroup {
    /// The bits per pixel of the best arm, if known.
    pub rate: Option<f64>,
    /// The arms, the best first.
    pub arms: Vec<usize>,
}

impl Ranking {
    pub(super) fn of(comparison: &Comparison) -> Self {
        let arms = 0..comparison.arms.len();
        let headline = headline(comparison);
        let value = |arm: &usize| Some(summary(comparison, *arm, headline?.name)?.mean);
        let (with, without): (Vec<usize>, Vec<usize>) = arms.partition(|arm| value(arm).is_some());
        // If nothing was trained here, all arms stand on the same footing.
        let any_trained = with.iter().any(|arm| is_trained_here(&comparison.arms[*arm]));
        let (mut left, foreign): (Vec<usize>, Vec<usize>) =
            with.into_iter().partition(|arm| !any_trained || is_trained_here(&comparison.arms[*arm]));
        let better = |a: &usize, b: &usize| {
            let sign = headline.map_or(0.0, |headline| sign(headline.better));
            (sign * value(b).unwrap_or(0.0)).total_cmp(&(sign * value(a).unwrap_or(0.0)))
        };
        left.sort_by(better);
        let mut groups = vec![];
        while let Some(&best) = left.first() {
            let rate = rate(comparison, best);
            let alike = |arm: &usize| match (rate, self::rate(comparison, *arm)) {
                (Some(rate), Some(other)) => (other - rate).abs() <= SAME_RATE * rate,
                (None, None) => true,
                _ => false,
            };
            let (arms, rest) = left.into_iter().partition(alike);
            groups.push(RateGroup { rate, arms });
            left = rest;
        }
        groups.sort_by(|a: &RateGroup, b| {
            let place = |group: &RateGroup| group.rate.unwrap_or(f64::INFINITY);
            place(a).total_cmp(&place(b))
        });
        Self { headline, groups, foreign, without }
    }

    /// The group of an arm, if it is ranked.
    pub(super) fn group_of(&self, arm: usize) -> Option<&RateGroup> {
        self.groups.iter().find(|group| group.arms.contains(&arm))
    }
}

/// Whether an arm was trained in this comparison.
pub(super) fn is_trained_here(arm: &Arm) -> bool {
    arm.runs.iter().any(|run| run.seed.is_some())
}

/// The bits per pixel of an arm, if known.
pub(super) fn rate(comparison: &Comparison, arm: usize) -> Option<f64> {
    Some(summary(comparison, arm, "bits_per_pixel")?.mean)
}

fn headline(comparison: &Comparison) -> Option<&'static Definition> {
    let ranks = |definition: &&Definition| {
        let own = comparison.of_own_images.iter().any(|name| name == definition.name);
        definition.better != Better::Neither && definition.over != Over::Neither && !own
    };
    let has = |definition: &&Definition| {
        (0..comparison.arms.len()).any(|arm| summary(comparison, arm, definition.name).is_some())
    };
    DEFINITIONS.iter().filter(ranks).find(has)
}

/// 1 if larger is better, −1 if smaller is.
fn sign(better: Better) -> f64 {
    match better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
        Better::Neither => 0.0,
    }
}

/// The arms of a group that are best in a figure: that of the best mean, and those level with it.
/// Empty if fewer than two of them have it, or if it ranks nothing.
pub(super) fn best(comparison: &Comparison, definition: &Definition, group: &[usize]) -> Vec<usize> {
    let sign = sign(definition.better);
    let own = comparison.of_own_images.iter().any(|name| name == definition.name);
    let mut means: Vec<(usize, f64)> = group
        .iter()
        .filter_map(|&arm| Some((arm, summary(comparison, arm, definition.name)?.mean)))
        .collect();
    if sign == 0.0 || own || means.len() < 2 {
        return vec![];
    }
    means.sort_by(|a, b| (sign * b.1).total_cmp(&(sign * a.1)));
    let Some(&(first, _)) = means.first() else { return vec![] };
    let others = means.iter().map(|(arm, _)| *arm).skip(1);
    if !definition.name.ends_with("_per_sec") {
        return [first]
            .into_iter()
            .chain(others.filter(|arm| level(comparison, definition, *arm, first)))
            .collect();
    }
    // A speed without a range may be an accident of its moment. If all ranges overlap, none is ahead.
    let ranges: Option<Vec<_>> =
        means.iter().map(|(arm, _)| range(comparison, *arm, definition.name)).collect();
    let Some(ranges) = ranges else { return vec![] };
    let overlaps: Vec<bool> =
        ranges.iter().map(|range| range.0 <= ranges[0].1 && ranges[0].0 <= range.1).collect();
    if overlaps.iter().all(|overlaps| *overlaps) {
        return vec![];
    }
    means.iter().zip(overlaps).filter(|(_, overlaps)| *overlaps).map(|((arm, _), _)| *arm).collect()
}

/// Whether an arm is level with the best: the interval of their difference holds 0. Without an
/// interval, whether both are printed alike.
pub(super) fn level(comparison: &Comparison, definition: &Definition, arm: usize, best: usize) -> bool {
    let name = |arm: usize| comparison.arms[arm].name.as_str();
    let pair = comparison.difference(definition.name, name(arm), name(best));
    if let Some(interval) = pair.and_then(|pair| pair.interval) {
        return interval.holds_zero();
    }
    let print = |arm| {
        summary(comparison, arm, definition.name).map(|summary| number(summary.mean, definition.digits))
    };
    print(arm) == print(best)
}

/// The least and the greatest of an arm's measurements of a speed, if its runs have them.
pub(super) fn range(comparison: &Comparison, arm: usize, name: &str) -> Option<(f64, f64)> {
    let [least, greatest] = range_names(name)?;
    let runs = || comparison.arms[arm].runs.iter();
    let values = |name: &str| -> Vec<f64> {
        runs().filter_map(|run| run.figures.get(name)?.as_f64()).filter(|value| value.is_finite()).collect()
    };
    let measured = values(name).len();
    let (low, high) = (values(&least), values(&greatest));
    if measured == 0 || low.len() != measured || high.len() != measured {
        return None;
    }
    Some((low.into_iter().reduce(f64::min)?, high.into_iter().reduce(f64::max)?))
}

/// The names under which a speed's least and greatest measurement stand beside its median:
/// `encode_images_least_per_sec` for `encode_images_per_sec`.
pub(super) fn range_names(name: &str) -> Option<[String; 2]> {
    let start = name.strip_suffix("_per_sec")?;
    Some(["least", "greatest"].map(|end| format!("{start}_{end}_per_sec")))
}

#[cfg(test)]
mod tests {
    use super::super::{Interval, Pair, Sample, fixture};
    use super::*;
    use crate::definition::definition;
    use serde_json::{Value, json};

    fn figures(db: f64, rate: f64) -> Value {
        json!({"psnr_db": db, "bits_per_pixel": rate})
    }

    fn groups(comparison: &Comparison) -> Vec<Vec<usize>> {
        Ranking::of(comparison).groups.into_iter().map(|group| group.arms).collect()
    }

    fn pair(figure: &str, arms: [&str; 2], low: f64, high: f64) -> Pair {
        let interval = Interval { low, high, over: Sample::Seeds(2) };
        let difference = (low + high) / 2.0;
        Pair { figure: figure.into(), arms: arms.map(str::to_owned), difference, interval: Some(interval) }
    }

    #[test]
    fn arms_within_a_twentieth_of_the_best_ones_rate_are_a_group() {
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0, 0.500)]),
            ("b", "s", &[figures(28.0, 0.524)]),
            ("c", "s", &[figures(26.0, 0.549)]),
            ("d", "s", &[figures(25.0, 0.551)]),
            ("e", "s", &[figures(30.0, 0.1)]),
            ("failed", "s", &[json!({})]),
        ]);
        // 0.549 is within 5 % of 0.524, though not of 0.500; 0.551 is not.
        assert_eq!(groups(&comparison), [vec![4], vec![1, 0, 2], vec![3]]);
        assert_eq!(Ranking::of(&comparison).without, [5]);
    }

    #[test]
    fn what_was_trained_elsewhere_is_not_ranked_beside_what_was_trained_here() {
        let mut comparison = fixture::comparison(&[
            ("foreign", "s", &[figures(30.0, 0.5)]),
            ("a", "s", &[figures(27.0, 0.5)]),
            ("folder", "s", &[json!({"psnr_db": 31.0})]),
        ]);
        for arm in [0, 2] {
            comparison.arms[arm].runs[0].seed = None;
        }
        let ranking = Ranking::of(&comparison);
        assert_eq!((groups(&comparison), ranking.foreign), (vec![vec![1]], vec![0, 2]));
        // Without a trained arm, they are compared with each other, at their own rates.
        comparison.arms[1].runs[0].seed = None;
        assert_eq!(groups(&comparison), [vec![0, 1], vec![2]]);
        assert_eq!(Ranking::of(&comparison).groups[1].rate, None);
    }

    #[test]
    fn another_metric_leads_if_psnr_was_not_measured() {
        let figures = |l1: f64| json!({"l1": l1, "usage": 0.5, "encode_images_per_sec": 9.0});
        let comparison = fixture::comparison(&[("a", "s", &[figures(9.0)]), ("b", "s", &[figures(8.0)])]);
        let ranking = Ranking::of(&comparison);
        assert_eq!(ranking.headline.map(|headline| headline.name), Some("l1"));
        assert_eq!(ranking.groups[0].arms, [1, 0], "less is better");
    }

    #[test]
    fn arms_are_level_with_the_best_where_the_interval_holds_zero() {
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0, 0.5)]),
            ("b", "s", &[figures(26.9, 0.5)]),
            ("c", "s", &[figures(26.8, 0.5)]),
            ("d", "s", &[figures(27.0, 0.5)]),
        ]);
        let psnr = definition("psnr_db").unwrap();
        let all = [0, 1, 2, 3];
        assert_eq!(best(&comparison, psnr, &all), [0, 3], "without intervals, what prints alike");
        comparison.pairs = vec![
            pair("psnr_db", ["a", "b"], -0.1, 0.3),
            pair("psnr_db", ["a", "c"], 0.1, 0.3),
            pair("psnr_db", ["a", "d"], 1e-6, 2e-6),
        ];
        assert_eq!(best(&comparison, psnr, &all), [0, 1], "an interval beats the digits that are printed");
        assert!(best(&comparison, psnr, &[2]).is_empty(), "one arm alone is not ahead of anything");
        assert!(best(&comparison, definition("bits_per_pixel").unwrap(), &all).is_empty());
    }

    #[test]
    fn speeds_rank_only_where_their_ranges_lie_apart() {
        let speeds = |least: f64, median: f64, greatest: f64| {
            json!({"encode_images_per_sec": median, "encode_images_least_per_sec": least,
                "encode_images_greatest_per_sec": greatest})
        };
        let arms = |third: Value| {
            fixture::comparison(&[
                ("a", "s", &[speeds(90.0, 100.0, 110.0)]),
                ("b", "s", &[speeds(105.0, 120.0, 125.0)]),
                ("c", "s", &[third]),
            ])
        };
        let speed = definition("encode_images_per_sec").unwrap();
        let of = |comparison: &Comparison| best(comparison, speed, &[0, 1, 2]);
        assert_eq!(of(&arms(speeds(40.0, 50.0, 60.0))), [1, 0]);
        assert!(of(&arms(speeds(80.0, 90.0, 106.0))).is_empty(), "all overlap with the fastest");
        assert!(of(&arms(json!({"encode_images_per_sec": 9.0}))).is_empty(), "one has no range");
        assert_eq!(range(&arms(json!({})), 1, "encode_images_per_sec"), Some((105.0, 125.0)));
    }
}
