//! A comparison as CSV, for other programs.

use serde_json::Value;

use super::{Comparison, Run};
use crate::definition::DEFINITIONS;

/// One row per run: arm, series, seed, every figure that occurs, in the order of the definitions,
/// the failure, the omitted images with the reasons, the names of the figures that are only over
/// its own images, and notes. Absent values are empty; numbers have all their digits.
///
/// # Errors
/// If a row cannot be written.
pub fn csv(comparison: &Comparison) -> Result<Vec<u8>, ::csv::Error> {
    let runs = || comparison.arms.iter().flat_map(|arm| &arm.runs);
    let occurs = |name: &&str| runs().any(|run| run.figures.contains_key(*name));
    let names: Vec<&str> = DEFINITIONS.iter().map(|definition| definition.name).filter(occurs).collect();
    let mut writer = ::csv::Writer::from_writer(vec![]);
    writer.write_record(["arm", "series", "seed"].into_iter().chain(names.iter().copied()).chain([
        "failure",
        "left_out",
        "of_own_images",
        "notes",
    ]))?;
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

fn figure(run: &Run, name: &str) -> String {
    match run.figures.get(name) {
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
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
