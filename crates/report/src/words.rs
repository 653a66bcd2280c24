//! Sentences about a comparison, generated from its data.

use std::collections::HashMap;

use super::columns::{Column, Spread, number, summary};
use super::main_table::{ToBest, rate_words, samples, signed, to_best};
use super::ranking::{Ranking, RateGroup, level, rate};
use super::{Arm, Comparison, Interval, Run, Sample};
use crate::definition::Definition;

/// So few seeds leave wide intervals, whatever the arms are.
const FEW_SEEDS: usize = 4;
/// The largest number of arms that a sentence names one by one.
const MOST_NAMED: usize = 6;

/// A run without figures.
pub(super) struct Failure<'a> {
    pub arm: &'a str,
    pub run: &'a Run,
    pub reason: &'a str,
}

/// The runs that failed, in the order of the arms.
pub(super) fn failures(comparison: &Comparison) -> Vec<Failure<'_>> {
    let runs = comparison.arms.iter().flat_map(|arm| arm.runs.iter().map(move |run| (arm, run)));
    runs.filter_map(|(arm, run)| Some(Failure { arm: &arm.name, run, reason: run.failure.as_deref()? }))
        .collect()
}

/// The mark at the head of a column of [`Comparison::of_own_images`].
pub(super) const OWN_MARK: &str = "†";

/// The meaning of [`OWN_MARK`].
pub(super) const OWN_MEANING: &str =
    "† is over each evaluation's own images, which differ because some were left out; it is not ranked.";

/// A statement about one or several runs.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    /// The runs, as `a, seed 0; b`; empty if it holds for all evaluated runs.
    pub of: String,
    pub text: String,
}

impl Said {
    /// The statement as a line: `a, seed 0: text`.
    pub(super) fn line(&self) -> String {
        if self.of.is_empty() { self.text.clone() } else { format!("{}: {}", self.of, self.text) }
    }
}

/// The images that were left out, each listed once for all runs that left it out for the same
/// reason.
pub(super) fn left_out(comparison: &Comparison) -> Vec<Said> {
    said(comparison, |run| {
        run.left_out.iter().map(|sample| format!("{}: {}", sample.name, sample.reason)).collect()
    })
}

/// The notes of the runs, each listed once for all runs that have it.
pub(super) fn notes(comparison: &Comparison) -> Vec<Said> {
    said(comparison, |run| run.notes.clone())
}

/// Whether an arm has a note that is not on all arms alike.
fn has_note(comparison: &Comparison, arm: usize) -> bool {
    let evaluated = || comparison.arms.iter().flat_map(|arm| &arm.runs).filter(|run| run.failure.is_none());
    let own = comparison.arms[arm].runs.iter().filter(|run| run.failure.is_none());
    own.flat_map(|run| &run.notes).any(|note| evaluated().any(|run| !run.notes.contains(note)))
}

fn said(comparison: &Comparison, of: impl Fn(&Run) -> Vec<String>) -> Vec<Said> {
    let runs = comparison.arms.iter().flat_map(|arm| arm.runs.iter().map(move |run| (arm, run)));
    let evaluated: Vec<_> = runs.filter(|(_, run)| run.failure.is_none()).collect();
    let mut texts: Vec<String> = vec![];
    let mut of_texts: HashMap<String, Vec<String>> = HashMap::new();
    for (arm, run) in &evaluated {
        let seed = run.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        for text in of(run) {
            let of = of_texts.entry(text.clone()).or_default();
            if of.is_empty() {
                texts.push(text);
            }
            of.push(format!("{}{seed}", arm.name));
        }
    }
    let line = |text: String| {
        let of = of_texts.remove(&text).unwrap_or_default();
        let of = if of.len() == evaluated.len() { String::new() } else { of.join("; ") };
        Said { of, text }
    };
    texts.into_iter().map(line).collect()
}

/// A summary in plain text, sentence by sentence: what was compared, what was best, what failed.
pub(super) fn in_short(comparison: &Comparison) -> Vec<String> {
    let ranking = Ranking::of(comparison);
    let mut sentences = vec![scope(comparison)];
    if let Some(headline) = ranking.headline {
        sentences.extend(ranking.groups.iter().map(|group| best(comparison, &ranking, group, headline)));
        sentences.extend(meaning_of_level(comparison, &ranking));
        sentences.extend(foreign(comparison, &ranking, headline));
    }
    sentences.extend(failed(comparison));
    sentences
}

/// The number of parameters, if it is the same for several arms: `parameters 250,123`. Otherwise
/// empty.
pub(super) fn parameters(comparison: &Comparison) -> String {
    let mut counts = comparison.arms.iter().map(|arm| arm.parameters);
    match (counts.next().flatten(), counts.next()) {
        (Some(first), Some(second)) if second == Some(first) && counts.all(|other| other == Some(first)) => {
            format!("parameters {}", number(first as f64, 0))
        }
        _ => String::new(),
    }
}

/// How to read the tables: what ±, parentheses and bold mean, where they occur.
pub(super) fn reading(columns: &[Column]) -> Vec<&'static str> {
    let cells = || columns.iter().flat_map(|column| column.cells.iter().flatten());
    let mut sentences = vec![];
    if cells().any(|cell| matches!(cell.spread, Some(Spread::Deviation(_)))) {
        sentences.push("± is the standard deviation over n seeds.");
    }
    if cells().any(|cell| matches!(cell.spread, Some(Spread::Range(..)))) {
        sentences.push(
            "A speed is a median, with the least and the greatest measurement; it ranks only where these ranges do \
             not overlap.",
        );
    }
    if cells().any(|cell| cell.best) {
        sentences.push(
            "Bold, in a column with an arrow: the best arm of its rate, and all level with it. Level means that the \
             95 % interval of the difference holds 0, or without an interval that both are printed alike. Columns \
             without an arrow are not ranked.",
        );
    }
    sentences
}

fn scope(comparison: &Comparison) -> String {
    let arms = &comparison.arms;
    let series: std::collections::BTreeSet<&str> = arms.iter().map(|arm| arm.series.as_str()).collect();
    let mut words = count(arms.len(), "arm");
    if series.len() < arms.len() {
        words += &format!(" in {} series", series.len());
    }
    let unit = if is_seeded(comparison) { "seed" } else { "run" };
    let runs = span(arms.iter().map(|arm| arm.runs.len() as f64), unit);
    let each = if arms.len() > 1 { " each" } else { "" };
    words += &runs.map(|runs| format!(", {runs}{each}")).unwrap_or_default();
    let evaluated = arms.iter().flat_map(|arm| &arm.runs);
    let images = evaluated.filter_map(|run| run.figures.get("images")?.as_f64());
    words += &span(images, "image").map(|images| format!(", evaluated on {images}")).unwrap_or_default();
    let shared = (0..arms.len()).find_map(|arm| summary(comparison, arm, "images_shared"));
    if let Some(shared) = shared {
        words += &format!("; means over images are over the {} that all arms have", number(shared.mean, 0));
    }
    words + "."
}

/// The seeds of each arm, or the runs where they have none: `2 seeds`.
pub(super) fn seeds(comparison: &Comparison, number: usize) -> String {
    count(number, if is_seeded(comparison) { "seed" } else { "run" })
}

fn is_seeded(comparison: &Comparison) -> bool {
    comparison.arms.iter().flat_map(|arm| &arm.runs).all(|run| run.seed.is_some())
}

/// `4 images`, or `3 to 4 images`; `None` without values.
fn span(values: impl Iterator<Item = f64> + Clone, unit: &str) -> Option<String> {
    let (low, high) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
    let words = count(high as usize, unit);
    Some(if low < high { format!("{} to {words}", number(low, 0)) } else { words })
}

fn count(count: usize, unit: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {unit}{plural}", number(count as f64, 0))
}

/// The best arm of a group, those level with it, and those behind it.
fn best(comparison: &Comparison, ranking: &Ranking, group: &RateGroup, headline: &Definition) -> String {
    let figure = headline.name;
    let one_group = ranking.groups.len() == 1 && ranking.foreign.is_empty();
    let at = match group.rate {
        _ if one_group => None,
        Some(_) => Some(format!("At {}", rate_words(group.rate))),
        None => Some("Where the rate is unknown".to_owned()),
    };
    let Some((&first, others)) = group.arms.split_first() else { return String::new() };
    let said = valued(comparison, headline, first);
    if others.is_empty() {
        return match at {
            Some(at) => format!("{at}, {figure}: {said}."),
            None => format!("{figure}: {said}."),
        };
    }
    let mut words = match at {
        Some(at) => format!("{at}, best mean {figure}: {said}"),
        None => format!("Best mean {figure}: {said}"),
    };
    let (level, behind): (Vec<usize>, Vec<usize>) =
        others.iter().copied().partition(|&arm| level(comparison, headline, arm, first));
    if !level.is_empty() {
        words += &format!(", level with {}", level_words(comparison, ranking, &level, headline));
    }
    if let Some(&next) = behind.first() {
        let difference = to_best(comparison, ranking, next).map(|found| behind_by(&found, headline));
        let difference = difference.unwrap_or_default();
        words += &match behind.len() {
            1 => format!("; {} is behind{difference}", names(comparison, &behind)),
            _ => format!(
                "; behind: {}{difference}, {}",
                names(comparison, &behind[..1]),
                names(comparison, &behind[1..])
            ),
        };
    }
    words + "."
}

/// The arms that are level with the best, with their differences to it, and whether so few seeds
/// could tell them apart: `a: −0.41 dB [−2.48, +1.65]; 2 seeds cannot tell them apart`.
fn level_words(comparison: &Comparison, ranking: &Ranking, level: &[usize], headline: &Definition) -> String {
    let found: Vec<_> = level.iter().filter_map(|&arm| to_best(comparison, ranking, arm)).collect();
    let few = samples(found.iter()).into_iter().find_map(|over| match over {
        Sample::Seeds(count) if count <= FEW_SEEDS => Some(count),
        _ => None,
    });
    let few = few.map(|count| format!(" ({count} seeds cannot tell them apart)")).unwrap_or_default();
    let by = match &found[..] {
        [only] if level.len() == 1 => only.interval.map(|interval| {
            let print = |value| signed(value, headline.digits);
            let (value, low, high) = (print(only.value), print(interval.low), print(interval.high));
            format!(": {value}{} [{low}, {high}]", unit(headline))
        }),
        _ => None,
    };
    format!("{}{}{few}", names(comparison, level), by.unwrap_or_default())
}

/// By how much an arm is behind, with the interval: ` by 1.59 dB [1.39, 1.81]`.
fn behind_by(found: &ToBest, headline: &Definition) -> String {
    let print = |value: f64| number(value, headline.digits);
    let interval = found.interval.map(|Interval { low, high, .. }| {
        let (low, high) = if found.value < 0.0 { (-high, -low) } else { (low, high) };
        format!(" [{}, {}]", print(low), print(high))
    });
    format!(" by {}{}{}", print(found.value.abs()), unit(headline), interval.unwrap_or_default())
}

/// An arm with its mean and deviation: `a with 27.25 ± 0.07 dB (mean of 2 seeds)`.
fn valued(comparison: &Comparison, definition: &Definition, arm: usize) -> String {
    let name = marked(comparison, arm);
    let Some(found) = summary(comparison, arm, definition.name) else { return name };
    let print = |value| number(value, definition.digits);
    let spread = found.deviation.map(|value| format!(" ± {}", print(value))).unwrap_or_default();
    let over = match found.seeds {
        1 => String::new(),
        seeds => format!(" (mean of {seeds} seeds)"),
    };
    format!("{name} with {}{spread}{}{over}", print(found.mean), unit(definition))
}

/// The name of an arm, and whether there is a note on it.
fn marked(comparison: &Comparison, arm: usize) -> String {
    let name = &comparison.arms[arm].name;
    if has_note(comparison, arm) { format!("{name} (see its note)") } else { name.clone() }
}

fn unit(definition: &Definition) -> &'static str {
    if definition.name.ends_with("_db") { " dB" } else { "" }
}

/// The names of arms, or the first of them and the number of the others.
fn names(comparison: &Comparison, arms: &[usize]) -> String {
    let named = if arms.len() > MOST_NAMED { MOST_NAMED - 1 } else { arms.len() };
    let names: Vec<String> = arms[..named].iter().map(|&arm| marked(comparison, arm)).collect();
    let others = arms.len() - named;
    let more = if others > 0 { format!(" and {others} others") } else { String::new() };
    names.join(", ") + &more
}

/// What brackets and level mean, by how the intervals came about; `None` if no arm has another to compare with.
fn meaning_of_level(comparison: &Comparison, ranking: &Ranking) -> Option<String> {
    let ranked = ranking.groups.iter().flat_map(|group| &group.arms);
    let differences: Vec<_> = ranked.filter_map(|&arm| to_best(comparison, ranking, arm)).collect();
    let samples = samples(differences.iter());
    let over = match samples[..] {
        _ if differences.is_empty() => return None,
        [] => {
            return Some("There is no interval of the differences, so small ones may be chance.".to_owned());
        }
        [Sample::Seeds(count)] => format!("Student's t over {count} seeds"),
        [Sample::Images(count)] => {
            format!(
                "bootstrap over {} images of one seed; another seed may change more",
                number(count as f64, 0)
            )
        }
        _ => "Student's t over common seeds, or the bootstrap over images of one seed".to_owned(),
    };
    let mut arms = ranking.groups.iter().filter_map(|group| group.arms.split_first());
    let any_level = ranking.headline.is_some_and(|headline| {
        arms.any(|(&first, others)| others.iter().any(|&arm| level(comparison, headline, arm, first)))
    });
    Some(if any_level {
        format!("Level means that the 95 % interval of the difference holds 0 ({over}).")
    } else {
        format!("In brackets: the 95 % interval of the difference ({over}).")
    })
}

/// The arms that are not ranked, with their rates.
fn foreign(comparison: &Comparison, ranking: &Ranking, headline: &Definition) -> Option<String> {
    let said = |&arm: &usize| {
        format!("{} ({})", valued(comparison, headline, arm), rate_words(rate(comparison, arm)))
    };
    let list: Vec<String> = ranking.foreign.iter().map(said).collect();
    (!list.is_empty()).then(|| format!("Not trained here, so not ranked: {}.", list.join("; ")))
}

fn failed(comparison: &Comparison) -> Option<String> {
    let failures = failures(comparison).len();
    if failures == 0 {
        return None;
    }
    let runs: usize = comparison.arms.iter().map(|arm| arm.runs.len()).sum();
    let has_failed = |run: &Run| run.failure.is_some();
    let with_failures = comparison.arms.iter().filter(|arm| arm.runs.iter().any(has_failed));
    let (wholly, partly): (Vec<&Arm>, Vec<&Arm>) =
        with_failures.partition(|arm| arm.runs.iter().all(has_failed));
    let names = |arms: &[&Arm]| arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut words = format!("{failures} of {} failed", count(runs, "run"));
    if !wholly.is_empty() {
        words += &format!(", among them all of {}", names(&wholly));
    }
    if !partly.is_empty() {
        // The remaining seeds may be the better ones.
        words += &format!("; the means of {} are over the remaining seeds", names(&partly));
    }
    Some(words + ".")
}

#[cfg(test)]
mod tests {
    use super::super::{Pair, fixture};
    use super::*;
    use pixtok_images::data::BadSample;
    use serde_json::{Value, json};

    fn pair(arms: [&str; 2], difference: f64, half: f64, over: Sample) -> Pair {
        let interval = Interval { low: difference - half, high: difference + half, over };
        Pair { figure: "psnr_db".into(), arms: arms.map(str::to_owned), difference, interval: Some(interval) }
    }

    fn joined(comparison: &Comparison) -> String {
        in_short(comparison).join(" ")
    }

    #[test]
    fn the_summary_counts_and_ranks() {
        let figures = |db: f64| json!({"psnr_db": db, "images": 1290});
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0), figures(27.4)]),
            ("b", "s", &[figures(27.2), figures(27.3)]),
            ("c", "t", &[figures(20.0), figures(20.1)]),
        ]);
        comparison.pairs =
            vec![pair(["a", "b"], 0.05, 1.9, Sample::Seeds(2)), pair(["b", "c"], 7.2, 0.1, Sample::Seeds(2))];
        assert_eq!(
            joined(&comparison),
            "3 arms in 2 series, 2 seeds each, evaluated on 1,290 images. Best mean psnr_db: b with 27.25 ± 0.07 dB \
             (mean of 2 seeds), level with a: +0.05 dB [−1.85, +1.95] (2 seeds cannot tell them apart); c is behind \
             by 7.20 dB [7.10, 7.30]. Level means that the 95 % interval of the difference holds 0 \
             (Student's t over 2 seeds)."
        );
    }

    #[test]
    fn one_seed_has_the_images_for_an_interval() {
        let figures = |db: f64| json!({"psnr_db": db});
        let names: Vec<String> = (0..9).map(|at| format!("arm-{at}")).collect();
        let runs: Vec<[Value; 1]> = (0..9).map(|at| [figures(30.0 - f64::from(at))]).collect();
        let arms: Vec<_> =
            names.iter().zip(&runs).map(|(name, runs)| (name.as_str(), "s", &runs[..])).collect();
        let mut comparison = fixture::comparison(&arms);
        let to = |at: usize| pair(["arm-0", &names[at]], at as f64, 0.5, Sample::Images(1290));
        comparison.pairs = (1..9).map(to).collect();
        let words = joined(&comparison);
        let behind = "arm-0 with 30.00 dB; behind: arm-1 by 1.00 dB [0.50, 1.50], arm-2, arm-3, arm-4, arm-5, \
                      arm-6 and 2 others. In brackets: the 95 % interval of the difference (bootstrap over 1,290 images of \
                      one seed; another seed may change more).";
        assert!(words.ends_with(behind), "{words}");
    }

    #[test]
    fn foreign_arms_are_named_with_their_rate() {
        let figures = |db: f64, rate: f64| json!({"psnr_db": db, "bits_per_pixel": rate});
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0, 0.5)]),
            ("b", "s", &[figures(28.0, 1.0)]),
            ("cosmos", "t", &[figures(31.0, 0.0625)]),
            ("folder", "u", &[json!({"psnr_db": 33.0})]),
        ]);
        for arm in [2, 3] {
            comparison.arms[arm].runs[0].seed = None;
        }
        let words = joined(&comparison);
        let said = "At 0.500 bits per pixel, psnr_db: a with 27.00 dB. At 1.000 bits per pixel, psnr_db: b with \
                    28.00 dB. Not trained here, so not ranked: cosmos with 31.00 dB (0.062 bits per pixel); folder \
                    with 33.00 dB (rate unknown).";
        assert!(words.ends_with(said), "{words}");
    }

    #[test]
    fn images_that_some_left_out_are_said_once_for_all_that_did() {
        let figures = |images: i64| json!({"psnr_db": 27.0, "images": images, "images_shared": 8});
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[figures(9), figures(8)]),
            ("b", "s", &[figures(8)]),
            ("failed", "s", &[json!({})]),
        ]);
        comparison.arms[2].runs[0].failure = Some("loss is NaN".into());
        let broken = |name: &str| BadSample { name: name.into(), reason: "broken PNG".into() };
        comparison.arms[0].runs[0].left_out = vec![broken("all.png")];
        comparison.arms[0].runs[1].left_out = vec![broken("all.png"), broken("x.png")];
        comparison.arms[1].runs[0].left_out = vec![broken("all.png"), broken("x.png")];
        comparison.arms[1].runs[0].notes = vec!["it is green".into()];
        let lines: Vec<String> = left_out(&comparison).iter().map(Said::line).collect();
        assert_eq!(lines, ["all.png: broken PNG", "a, seed 1; b, seed 0: x.png: broken PNG"]);
        assert_eq!(notes(&comparison)[0].line(), "b, seed 0: it is green");
        let words = joined(&comparison);
        assert!(words.contains("b (see its note)") && !words.contains("a (see"), "{words}");
        assert!(
            words
                .contains("evaluated on 8 to 9 images; means over images are over the 8 that all arms have."),
            "{words}"
        );
    }

    #[test]
    fn one_arm_of_one_seed_ranks_nothing() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0, "images": 1})])]);
        assert_eq!(joined(&comparison), "1 arm, 1 seed, evaluated on 1 image. psnr_db: a with 27.00 dB.");
    }

    #[test]
    fn arms_of_other_rates_are_not_behind() {
        let figures = |db: f64, rate: f64| json!({"psnr_db": db, "bits_per_pixel": rate});
        let words = |rates: [f64; 2]| {
            joined(&fixture::comparison(&[
                ("a", "s", &[figures(27.0, rates[0])]),
                ("b", "s", &[figures(28.0, rates[1])]),
            ]))
        };
        let said = words([0.62, 2.5]);
        assert!(said.contains("At 0.620 bits per pixel, psnr_db: a with 27.00 dB. At 2.500"), "{said}");
        let said = words([0.62, 0.63]);
        assert!(said.contains("Best mean psnr_db: b with 28.00 dB; a is behind by 1.00 dB."), "{said}");
        assert!(said.ends_with("small ones may be chance."), "{said}");
    }

    #[test]
    fn what_prints_alike_is_level() {
        let figures = |db: f64| json!({"psnr_db": db});
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.001)]),
            ("b", "s", &[figures(27.004)]),
            ("c", "s", &[figures(26.0)]),
        ]);
        let words = joined(&comparison);
        assert!(words.contains("b with 27.00 dB, level with a; c is behind"), "{words}");
    }

    #[test]
    fn failures_are_counted() {
        let none: &[Value] = &[json!({})];
        let mut comparison =
            fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0}), json!({})]), ("b", "s", none)]);
        comparison.arms[0].runs[1].failure = Some("loss is NaN".into());
        comparison.arms[1].runs[0].failure = Some("out of memory".into());
        let words = joined(&comparison);
        assert!(words.starts_with("2 arms in 1 series, 1 to 2 seeds each."), "{words}");
        let failed = "2 of 3 runs failed, among them all of b; the means of a are over the remaining \
                      seeds.";
        assert!(words.ends_with(failed), "{words}");
    }
}
