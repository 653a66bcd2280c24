//! Sentences about a comparison, generated from its data.

use std::collections::HashMap;

use super::columns::{number, summary};
use super::{Arm, Comparison, Run, Summary};

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

/// A summary in plain text: what was compared, what was best, what failed.
pub(super) fn in_short(comparison: &Comparison) -> String {
    let sentences = [Some(scope(comparison)), best(comparison), rates(comparison), failed(comparison)];
    sentences.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn scope(comparison: &Comparison) -> String {
    let arms = &comparison.arms;
    let series: std::collections::BTreeSet<&str> = arms.iter().map(|arm| arm.series.as_str()).collect();
    let mut words = count(arms.len(), "arm");
    if series.len() < arms.len() {
        words += &format!(" in {} series", series.len());
    }
    let seeded = arms.iter().flat_map(|arm| &arm.runs).all(|run| run.seed.is_some());
    let runs = span(arms.iter().map(|arm| arm.runs.len() as f64), if seeded { "seed" } else { "run" });
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

fn best(comparison: &Comparison) -> Option<String> {
    let figure = |arm| Some((arm, summary(comparison, arm, "psnr_db")?));
    let mut ranked: Vec<(usize, Summary)> = (0..comparison.arms.len()).filter_map(figure).collect();
    ranked.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
    let said = |(arm, summary): &(usize, Summary)| {
        let spread = summary.deviation.map(|value| format!(" ± {}", number(value, 2))).unwrap_or_default();
        format!("{} with {}{spread} dB", comparison.arms[*arm].name, number(summary.mean, 2))
    };
    let first = ranked.first()?;
    let Some(second) = ranked.get(1) else { return Some(format!("psnr_db: {}.", said(first))) };
    let printed = |(_, summary): &(usize, Summary)| number(summary.mean, 2);
    let level = ranked.iter().skip(1).take_while(|other| printed(other) == printed(first));
    let level: Vec<&str> = level.map(|(arm, _)| comparison.arms[*arm].name.as_str()).collect();
    if !level.is_empty() {
        return Some(format!("Best mean psnr_db: {}, level with {}.", said(first), level.join(", ")));
    }
    let mut words = format!("Best mean psnr_db: {}, then {}", said(first), said(second));
    let gap = first.1.mean - second.1.mean;
    match first.1.deviation.into_iter().chain(second.1.deviation).reduce(f64::max) {
        Some(spread) if gap <= spread => {
            words += &format!("; the {} dB between them are within the spread over seeds", number(gap, 2));
        }
        Some(_) => {}
        None => words += "; with one run each the spread is unknown, so small differences may be chance",
    }
    Some(words + ".")
}

/// A sentence about the rates of the arms, if they differ by more than 5 %.
fn rates(comparison: &Comparison) -> Option<String> {
    let rate = |arm| Some(summary(comparison, arm, "bits_per_pixel")?.mean);
    let rates: Vec<f64> = (0..comparison.arms.len()).filter_map(rate).collect();
    let (least, most) = (rates.iter().copied().reduce(f64::min)?, rates.iter().copied().reduce(f64::max)?);
    (most > 1.05 * least).then(|| {
        format!("The arms differ in rate: {} to {} bits per pixel.", number(least, 2), number(most, 2))
    })
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
    use super::super::fixture;
    use super::*;
    use pixtok_images::data::BadSample;
    use serde_json::{Value, json};

    #[test]
    fn the_summary_counts_and_ranks() {
        let figures = |db: f64| json!({"psnr_db": db, "images": 1290});
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.0), figures(27.4)]),
            ("b", "s", &[figures(27.2), figures(27.3)]),
            ("c", "t", &[figures(20.0), figures(20.1)]),
        ]);
        assert_eq!(
            in_short(&comparison),
            "3 arms in 2 series, 2 seeds each, evaluated on 1,290 images. Best mean psnr_db: b with 27.25 ± 0.07 dB, \
             then a with 27.20 ± 0.28 dB; the 0.05 dB between them are within the spread over seeds."
        );
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
        let words = in_short(&comparison);
        assert!(
            words
                .contains("evaluated on 8 to 9 images; means over images are over the 8 that all arms have."),
            "{words}"
        );
    }

    #[test]
    fn one_arm_of_one_seed_ranks_nothing() {
        let comparison = fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0, "images": 1})])]);
        assert_eq!(in_short(&comparison), "1 arm, 1 seed, evaluated on 1 image. psnr_db: a with 27.00 dB.");
    }

    #[test]
    fn other_rates_are_said() {
        let figures = |rate: f64| json!({"psnr_db": 27.0, "bits_per_pixel": rate});
        let words = |rates: [f64; 2]| {
            let [a, b] = rates.map(figures);
            in_short(&fixture::comparison(&[("a", "s", &[a]), ("b", "s", &[b])]))
        };
        let said = words([0.62, 2.5]);
        assert!(said.ends_with("The arms differ in rate: 0.62 to 2.50 bits per pixel."), "{said}");
        assert!(!words([0.62, 0.63]).contains("differ in rate"));
    }

    #[test]
    fn what_prints_alike_is_level() {
        let figures = |db: f64| json!({"psnr_db": db});
        let comparison = fixture::comparison(&[
            ("a", "s", &[figures(27.001)]),
            ("b", "s", &[figures(27.004)]),
            ("c", "s", &[figures(26.0)]),
        ]);
        let words = in_short(&comparison);
        assert!(words.ends_with("Best mean psnr_db: b with 27.00 dB, level with a."), "{words}");
    }

    #[test]
    fn failures_are_counted() {
        let none: &[Value] = &[json!({})];
        let mut comparison =
            fixture::comparison(&[("a", "s", &[json!({"psnr_db": 27.0}), json!({})]), ("b", "s", none)]);
        comparison.arms[0].runs[1].failure = Some("loss is NaN".into());
        comparison.arms[1].runs[0].failure = Some("out of memory".into());
        let words = in_short(&comparison);
        assert!(words.starts_with("2 arms in 1 series, 1 to 2 seeds each."), "{words}");
        let failed = "2 of 3 runs failed, among them all of b; the means of a are over the remaining \
                      seeds.";
        assert!(words.ends_with(failed), "{words}");
    }
}
