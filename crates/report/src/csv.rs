//! A comparison as CSV, for other programs.

use serde_json::Value;

use super::columns::summary;
use super::main_table::to_best;
use super::ranking::{Ranking, is_trained_here, level, range_names};
use super::{Comparison, Run, Sample};
use crate::definition::DEFINITIONS;

/// One row per run: arm, series, seed, every figure that occurs, in the order of the definitions,
/// the failure, the omitted images with the reasons, the names of the figures that are only over
/// its own images, and notes. Absent values are empty; numbers have all their digits.
///
/// # Errors
/// If a row cannot be written.
pub fn csv(comparison: &Comparison) -> Result<Vec<u8>, ::csv::Error> {
    let names = names(comparison);
    let mut writer = ::csv::Writer::from_writer(vec![]);
    writer.write_record(
        ["arm", "series", "seed"].into_iter().chain(names.iter().map(String::as_str)).chain([
            "failure",
            "left_out",
            "of_own_images",
            "notes",
        ]),
    )?;
    for arm in &comparison.arms {
        for run in &arm.runs {
            let seed = run.seed.map_or_else(String::new, |seed| seed.to_string());
            let figures = names.iter().map(|name| figure(run, name));
            let cells = [arm.name.clone(), arm.series.clone(), seed].into_iter().chain(figures);
            let left_out = run.left_out.iter().map(|sample| format!("{}: {}", sample.name, sample.reason));
            let own = comparison.of_own_images.iter().filter(|name| !figure(run, name).is_empty()).cloned();
            let ends = [left_out.collect::<Vec<_>>(), own.collect(), run.notes.clone()];
            let failure = run.failure.clone().unwrap_or_default();
            writer.write_record(cells.chain([failure]).chain(ends.map(|end| end.join("; "))))?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// One row per arm, in the order of the main table: its place, then the mean of each figure over
/// seeds and, as `NAME_sd`, the standard deviation. `group` numbers the arms of about the same rate,
/// `rank` those of a group by the headline's figure; both are empty for arms that are not ranked.
/// `to_best` is the difference to the best of the group in that figure, with its 95 % interval and
/// what that is over; `ranked_by` names the figure. Absent values are empty; numbers have all their digits.
///
/// # Errors
/// If a row cannot be written.
pub fn summary_csv(comparison: &Comparison) -> Result<Vec<u8>, ::csv::Error> {
    const PLACE: [&str; 7] = ["arm", "series", "trained_here", "group", "rank", "n", "parameters"];
    const DIFFERENCE: [&str; 6] =
        ["to_best", "to_best_low", "to_best_high", "to_best_over", "level_with_best", "ranked_by"];
    let (mut names, ranking) = (names(comparison), Ranking::of(comparison));
    names.retain(|name| (0..comparison.arms.len()).any(|arm| summary(comparison, arm, name).is_some()));
    let figures = names.iter().flat_map(|name| [name.clone(), format!("{name}_sd")]);
    let mut writer = ::csv::Writer::from_writer(vec![]);
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    writer.write_record([owned(&PLACE), figures.collect(), owned(&DIFFERENCE)].concat())?;
    let ranked = ranking.groups.iter().flat_map(|group| &group.arms);
    for &arm in ranked.chain(&ranking.foreign).chain(&ranking.without) {
        let figures = names.iter().flat_map(|name| {
            let found = summary(comparison, arm, name);
            [found.map(|found| found.mean), found.and_then(|found| found.deviation)].map(printed)
        });
        let figures = figures.collect();
        writer.write_record(
            [place(comparison, &ranking, arm), figures, difference(comparison, &ranking, arm)].concat(),
        )?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// Which arm it is, and where it stands.
fn place(comparison: &Comparison, ranking: &Ranking, arm: usize) -> Vec<String> {
    let group = ranking.groups.iter().position(|group| group.arms.contains(&arm));
    let rank = ranking.group_of(arm).and_then(|group| group.arms.iter().position(|other| *other == arm));
    let seeds = ranking.headline.and_then(|headline| summary(comparison, arm, headline.name));
    let of = &comparison.arms[arm];
    vec![
        of.name.clone(),
        of.series.clone(),
        is_trained_here(of).to_string(),
        printed(group.map(|at| at + 1)),
        printed(rank.map(|at| at + 1)),
        printed(seeds.map(|summary| summary.seeds)),
        printed(of.parameters),
    ]
}

/// The difference of an arm to the best of its group, empty for the best one and for unranked ones;
/// and the figure that ranks it.
fn difference(comparison: &Comparison, ranking: &Ranking, arm: usize) -> Vec<String> {
    let (Some(found), Some(headline)) = (to_best(comparison, ranking, arm), ranking.headline) else {
        let by = ranking.headline.filter(|_| ranking.group_of(arm).is_some());
        return [vec![String::new(); 5], vec![by.map(|by| by.name.to_owned()).unwrap_or_default()]].concat();
    };
    let over = found.interval.map(|interval| match interval.over {
        Sample::Seeds(count) => format!("{count} seeds"),
        Sample::Images(count) => format!("{count} images"),
    });
    let best = ranking.group_of(arm).and_then(|group| group.arms.first());
    let level = best.map(|best| level(comparison, headline, arm, *best));
    vec![
        found.value.to_string(),
        printed(found.interval.map(|interval| interval.low)),
        printed(found.interval.map(|interval| interval.high)),
        over.unwrap_or_default(),
        printed(level),
        headline.name.to_owned(),
    ]
}

fn printed(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The names of the figures that occur, in the order of the definitions; a speed's least and
/// greatest measurement stand behind it.
fn names(comparison: &Comparison) -> Vec<String> {
    let runs = || comparison.arms.iter().flat_map(|arm| &arm.runs);
    let all = DEFINITIONS.iter().flat_map(|definition| {
        let name = definition.name.to_owned();
        std::iter::once(name).chain(range_names(definition.name).into_iter().flatten())
    });
    all.filter(|name| runs().any(|run| run.figures.contains_key(name))).collect()
}

fn figure(run: &Run, name: &str) -> String {
    match run.figures.get(name) {
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Interval, Pair, fixture};
    use super::*;
    use pixtok_images::data::BadSample;
    use serde_json::json;

    fn text(comparison: &Comparison) -> String {
        String::from_utf8(csv(comparison).unwrap()).unwrap()
    }

    #[test]
    fn runs_are_rows_and_what_is_absent_is_empty() {
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[json!({"usage": 0.25, "psnr_db": 27.125, "own": 3}), json!({"psnr_db": null})]),
            ("b", "t", &[json!({"psnr_db": 26})]),
        ]);
        comparison.arms[1].runs[0].seed = None;
        assert_eq!(
            text(&comparison),
            "arm,series,seed,psnr_db,usage,failure,left_out,of_own_images,notes\n\
             a,s,0,27.125,0.25,,,,\na,s,1,,,,,,\nb,t,,26,,,,,\n"
        );
    }

    #[test]
    fn arms_are_rows_of_means_in_the_order_of_their_ranks() {
        let figures = |db: f64| json!({"psnr_db": db, "bits_per_pixel": 0.5});
        let mut comparison = fixture::comparison(&[
            (
                "foreign",
                "f",
                &[json!({"psnr_db": 30.0, "encode_images_per_sec": 9, "encode_images_least_per_sec": 8})],
            ),
            ("a", "s", &[figures(26.0), json!({"psnr_db": 27.0, "bits_per_pixel": 0.5, "ms_ssim": null})]),
            ("b", "s", &[figures(27.25), figures(27.25)]),
        ]);
        comparison.arms[0].runs[0].seed = None;
        let interval = Interval { low: -1.5, high: 0.0, over: Sample::Seeds(2) };
        let arms = ["a".to_owned(), "b".to_owned()];
        comparison.pairs =
            vec![Pair { figure: "psnr_db".into(), arms, difference: -0.75, interval: Some(interval) }];
        let text = String::from_utf8(summary_csv(&comparison).unwrap()).unwrap();
        let deviation = comparison.arms[1].summary["psnr_db"].deviation.unwrap();
        assert_eq!(
            text,
            format!(
                "arm,series,trained_here,group,rank,n,parameters,psnr_db,psnr_db_sd,bits_per_pixel,bits_per_pixel_sd,\
                 encode_images_per_sec,encode_images_per_sec_sd,encode_images_least_per_sec,\
                 encode_images_least_per_sec_sd,to_best,to_best_low,to_best_high,to_best_over,level_with_best,ranked_by\n\
                 b,s,true,1,1,2,250123,27.25,0,0.5,0,,,,,,,,,,psnr_db\n\
                 a,s,true,1,2,2,250123,26.5,{deviation},0.5,0,,,,,-0.75,-1.5,0,2 seeds,true,psnr_db\n\
                 foreign,f,false,,,1,250123,30,,,,9,,8,,,,,,,\n"
            )
        );
        assert!(self::text(&comparison).starts_with(
            "arm,series,seed,psnr_db,ms_ssim,bits_per_pixel,encode_images_per_sec,encode_images_least_per_sec,failure"
        ));
    }

    #[test]
    fn commas_quotes_and_line_ends_are_quoted() {
        let mut comparison = fixture::comparison(&[("a,b \"c\"", "s", &[json!({})])]);
        comparison.arms[0].runs[0].failure = Some("step 3:\nloss is NaN".into());
        let text = text(&comparison);
        assert!(text.ends_with("\n\"a,b \"\"c\"\"\",s,0,\"step 3:\nloss is NaN\",,,\n"), "{text}");
    }

    #[test]
    fn what_was_left_out_stands_in_the_row_of_its_run() {
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[json!({"rfid": 3, "usage": 0.5})]),
            ("b", "s", &[json!({"rfid": 2})]),
        ]);
        comparison.of_own_images = vec!["rfid".into(), "usage".into()];
        let broken = |name: &str| BadSample { name: name.into(), reason: "broken PNG".into() };
        comparison.arms[1].runs[0].left_out = vec![broken("x.png"), broken("y.png")];
        comparison.arms[1].runs[0].notes = vec!["it is green".into()];
        let text = text(&comparison);
        assert!(text.contains("\na,s,0,3,0.5,,,rfid; usage,\n"), "{text}");
        assert!(
            text.ends_with("\nb,s,0,2,,,x.png: broken PNG; y.png: broken PNG,rfid,it is green\n"),
            "{text}"
        );
    }
}
