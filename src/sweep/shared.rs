//! The images over which the means of a comparison are taken. If an evaluation omits an image, for
//! instance a broken reconstruction, its mean must not improve because of that.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use crate::evaluate::Scores;
use pixtok_images::data::BadSample;
use pixtok_report::Run;
use pixtok_report::{DEFINITIONS, Over};

/// A run, with the per-image values behind its figures.
pub(super) struct Evaluated {
    /// The index of the arm in the plan.
    pub arm: usize,
    pub run: Run,
    /// The per-image values; `None` if the run failed.
    pub scores: Option<Scores>,
}

/// Names of images, each with its number of occurrences: archives in different folders may share a
/// file name.
type Counted = BTreeMap<String, usize>;

fn counted(names: &[String]) -> Counted {
    let mut counted = Counted::new();
    for name in names {
        *counted.entry(name.clone()).or_default() += 1;
    }
    counted
}

/// If the evaluations are not all of the same images, takes every mean over the images that all of
/// them have, and lists the images that each lacks. Returns the names of the figures that stay over
/// each evaluation's own images: figures over a whole set, which only another evaluation could make
/// comparable.
pub(super) fn share_images(all: &mut [Evaluated]) -> Vec<&'static str> {
    let sets: Vec<Counted> =
        all.iter().filter_map(|one| Some(counted(&one.scores.as_ref()?.names))).collect();
    let Some(first) = sets.first() else { return vec![] };
    if sets.iter().all(|set| set == first) {
        return vec![];
    }
    let shared = in_all(first, &sets);
    let any: BTreeSet<&String> = sets.iter().flat_map(BTreeMap::keys).collect();
    let differ = |name: &str| {
        let with = all.iter().filter(|one| one.scores.is_some()).zip(&sets);
        let mut with = with.filter(|(one, _)| is_number(&one.run.figures, name)).map(|(_, set)| set);
        with.next().is_some_and(|first| with.any(|set| set != first))
    };
    let of_sets = DEFINITIONS.iter().filter(|definition| definition.over == Over::Set);
    let own = of_sets.map(|definition| definition.name).filter(|name| differ(name)).collect();
    let with_scores = all.iter_mut().filter_map(|one| Some((&mut one.run, one.scores.as_ref()?)));
    for ((run, scores), set) in with_scores.zip(&sets) {
        let said: HashSet<&String> = run.left_out.iter().map(|sample| &sample.name).collect();
        let missing = any.iter().filter(|name| !set.contains_key(**name) && !said.contains(**name));
        let reason = || "its evaluation does not have it".to_owned();
        let missing: Vec<BadSample> =
            missing.map(|name| BadSample { name: (*name).clone(), reason: reason() }).collect();
        run.left_out.extend(missing);
        take_over(&mut run.figures, scores, &shared);
    }
    own
}

/// Replaces the means over images, their intervals, and the worst and best images by those over the
/// `shared` images.
fn take_over(figures: &mut Map<String, Value>, scores: &Scores, shared: &HashSet<String>) {
    let mut scores = scores.only(shared);
    scores.columns.retain(|column| is_number(figures, column.name));
    for column in &scores.columns {
        for end in ["low", "high"] {
            figures.remove(&format!("{}_{end}", column.name));
        }
        if shared.is_empty() {
            figures.insert(column.name.into(), Value::Null);
            figures.insert(format!("{}_note", column.name), json!("no image is in every evaluation"));
        }
    }
    figures.insert("images_shared".into(), json!(shared.len()));
    if shared.is_empty() {
        return;
    }
    figures.extend(scores.means(true).flat());
    if let Some(extremes) = scores.extremes(1) {
        figures.insert("ranked_by".into(), json!(extremes.metric));
        for (key, images) in [("worst_image", &extremes.worst), ("best_image", &extremes.best)] {
            figures.insert(key.into(), json!(images.first().map(|(name, _)| name)));
        }
    }
}

/// The values of the images of an evaluation, by figure.
pub(super) type Aligned = BTreeMap<&'static str, Vec<f64>>;

/// The values of each evaluation over the images that all of them have, where row i is the same
/// image in all; `None` for failed runs. Figures without a value for every image are omitted.
pub(super) fn aligned(all: &[Evaluated]) -> Vec<Option<Aligned>> {
    let sets: Vec<Counted> =
        all.iter().filter_map(|one| Some(counted(&one.scores.as_ref()?.names))).collect();
    let Some(first) = sets.first() else { return all.iter().map(|_| None).collect() };
    let shared = in_all(first, &sets);
    all.iter().map(|one| Some(in_order(one.scores.as_ref()?, &shared))).collect()
}

/// The values of the `shared` images by their names. Images of one name keep their order.
fn in_order(scores: &Scores, shared: &HashSet<String>) -> Aligned {
    let names = &scores.names;
    let mut rows: Vec<usize> = (0..names.len()).filter(|&row| shared.contains(&names[row])).collect();
    rows.sort_by(|&a, &b| names[a].cmp(&names[b]));
    let columns = scores.columns.iter().map(|column| {
        let values: Vec<f64> = rows.iter().map(|&row| column.values[row]).collect();
        (column.name, values)
    });
    columns.filter(|(_, values)| values.iter().all(|value| value.is_finite())).collect()
}

/// The names that all sets have equally often.
fn in_all(first: &Counted, sets: &[Counted]) -> HashSet<String> {
    let in_all = |name: &String, count: usize| sets.iter().all(|set| set.get(name) == Some(&count));
    let shared = first.iter().filter(|(name, count)| in_all(name, **count));
    shared.map(|(name, _)| name.clone()).collect()
}

fn is_number(figures: &Map<String, Value>, name: &str) -> bool {
    figures.get(name).is_some_and(Value::is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An evaluation of these images with their decibels.
    fn evaluated(arm: usize, values: &[(&str, f64)], left_out: &[&str]) -> Evaluated {
        let rows: String = values.iter().map(|(name, value)| format!("{name},{value}\n")).collect();
        let scores = Scores::from_csv(format!("image,psnr_db\n{rows}").as_bytes()).unwrap();
        let mean = values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64;
        let figures = json!({"images": values.len(), "psnr_db": mean, "psnr_db_low": 1.0, "rfid": 3.0,
            "usage": null, "bits_per_token": 10.0, "worst_image": "c"});
        let left_out =
            left_out.iter().map(|&name| BadSample { name: name.into(), reason: "broken PNG".into() });
        let run = Run {
            seed: None,
            path: String::new(),
            figures: figures.as_object().unwrap().clone(),
            failure: None,
            left_out: left_out.collect(),
            notes: vec![],
        };
        Evaluated { arm, run, scores: Some(scores) }
    }

    fn failed() -> Evaluated {
        Evaluated { scores: None, ..evaluated(2, &[("a", 1.0)], &[]) }
    }

    #[test]
    fn a_copy_whose_worst_image_is_broken_ties_with_the_whole_one() {
        let all = [("a", 30.0), ("b", 29.5), ("c", 12.25), ("d", 31.0)];
        let mut both = [evaluated(0, &all, &[]), evaluated(1, &[all[0], all[1], all[3]], &["c"]), failed()];
        assert!(both[0].run.figures["psnr_db"].as_f64() < both[1].run.figures["psnr_db"].as_f64());
        assert_eq!(share_images(&mut both), ["rfid"]);
        let (whole, broken) = (&both[0].run, &both[1].run);
        assert_eq!(whole.figures["psnr_db"], json!((30.0 + 29.5 + 31.0) / 3.0));
        assert_eq!(whole.figures["psnr_db"], broken.figures["psnr_db"]);
        assert_eq!(whole.figures["psnr_db_low"], broken.figures["psnr_db_low"]);
        assert_ne!(whole.figures["psnr_db_low"], json!(1.0));
        assert_eq!((&whole.figures["images"], &broken.figures["images"]), (&json!(4), &json!(3)));
        assert_eq!(
            (&whole.figures["images_shared"], &whole.figures["worst_image"]),
            (&json!(3), &json!("b"))
        );
        assert_eq!(whole.figures["rfid"], json!(3.0), "what is of a whole set stays as it was");
        assert!(whole.left_out.is_empty());
        assert_eq!(broken.left_out.len(), 1, "what is known is not said twice");
        assert_eq!(broken.left_out[0].reason, "broken PNG");
    }

    #[test]
    fn rows_of_all_evaluations_are_the_same_images() {
        let all = [
            evaluated(0, &[("b", 1.0), ("a", 2.0), ("c", 3.0), ("c", 4.0)], &[]),
            evaluated(1, &[("c", 30.0), ("c", 40.0), ("d", 50.0), ("a", 20.0)], &[]),
            failed(),
        ];
        let rows = aligned(&all);
        assert_eq!(rows[0].as_ref().unwrap()["psnr_db"], [2.0, 3.0, 4.0]);
        assert_eq!(rows[1].as_ref().unwrap()["psnr_db"], [20.0, 30.0, 40.0]);
        assert!(rows[2].is_none());
    }

    #[test]
    fn the_same_images_change_nothing() {
        let mut both = [
            evaluated(0, &[("a", 30.0), ("b", 20.0)], &["c"]),
            evaluated(1, &[("a", 3.0), ("b", 2.0)], &["c"]),
        ];
        let before: Vec<_> = both.iter().map(|one| one.run.clone()).collect();
        assert!(share_images(&mut both).is_empty());
        assert!(both.iter().map(|one| &one.run).eq(&before));
    }

    #[test]
    fn a_name_that_one_evaluation_has_fewer_times_is_shared_by_none() {
        let twice = [("a", 30.0), ("b", 20.0), ("b", 10.0)];
        let mut both = [evaluated(0, &twice, &[]), evaluated(1, &twice[..2], &["b"])];
        share_images(&mut both);
        for one in &both {
            assert_eq!(one.run.figures["psnr_db"], json!(30.0));
        }
    }

    #[test]
    fn what_no_evaluation_shares_has_no_mean_and_what_is_missing_is_named() {
        let mut both = [evaluated(0, &[("a", 30.0)], &[]), evaluated(1, &[("b", 20.0)], &[])];
        share_images(&mut both);
        for one in &both {
            assert_eq!(one.run.figures["psnr_db"], Value::Null);
            assert_eq!(one.run.figures["psnr_db_note"], "no image is in every evaluation");
            assert!(!one.run.figures.contains_key("psnr_db_low"));
        }
        assert_eq!(both[0].run.left_out[0].name, "b");
        assert!(both[0].run.left_out[0].reason.contains("does not have it"));
    }

    #[test]
    fn a_figure_of_sets_is_its_own_only_where_those_that_have_it_differ() {
        let mut three = [
            evaluated(0, &[("a", 30.0), ("b", 20.0)], &[]),
            evaluated(1, &[("a", 30.0), ("b", 20.0)], &[]),
            evaluated(2, &[("a", 30.0)], &["b"]),
        ];
        for tokens in &mut three[..2] {
            tokens.run.figures.insert("usage".into(), json!(0.5));
        }
        assert_eq!(share_images(&mut three), ["rfid"]);
        three[2].run.figures.insert("usage".into(), json!(0.25));
        assert_eq!(share_images(&mut three), ["rfid", "usage"]);
    }
}
