//! The speeds of all arms, measured in turn by one process once everything else is done. Each
//! evaluation measures a speed too, but minutes or hours apart, when the machine may be faster or
//! slower: it is replaced.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::CompareOptions;
use super::child::Children;
use super::diverged::Machine;
use super::job::Job;
use super::layout::{self, Layout};
use super::queue::{self, watched};
use super::work::Work;
use crate::checkpoint::write_atomic;
use crate::inference::{SpeedOptions, SpeedRecord, Speeds};
use crate::run::Tell;
use crate::train::Signals;

/// The figures of the speed of encoding and of decoding: the median, and the ends of the range.
const ENCODE: [&str; 3] =
    ["encode_images_per_sec", "encode_images_least_per_sec", "encode_images_greatest_per_sec"];
const DECODE: [&str; 3] =
    ["decode_images_per_sec", "decode_images_least_per_sec", "decode_images_greatest_per_sec"];
/// A figure that only tokenizers have.
const OF_TOKENS: &str = "codebook_size";

/// Measures the speeds of all arms with tokens and writes them into the figures of the run that was
/// measured: of each arm the first one that did not fail, since its seeds share one network. Speeds
/// that were measured for these very evaluations are taken as they are. Returns a note if the speeds
/// could not be measured.
pub(super) fn measure(
    jobs: &[Job],
    outcomes: &[Option<String>],
    layout: &Layout,
    options: &CompareOptions,
    signals: &Signals,
    tell: Tell,
) -> Result<Option<String>> {
    let whole: Vec<&Job> =
        jobs.iter().zip(outcomes).filter(|(_, failure)| failure.is_none()).map(|(job, _)| job).collect();
    let mut measured: Vec<&Job> = vec![];
    for &job in &whole {
        let known = measured.iter().any(|other| other.arm == job.arm);
        if !known && figures(job)?.get(OF_TOKENS).is_some_and(Value::is_number) {
            measured.push(job);
        }
    }
    if measured.is_empty() {
        return Ok(None);
    }
    let compute = queue::alone(options);
    let machine = serde_json::to_string(&Machine::of(compute)?)?;
    let work = SpeedOptions {
        tokenizers: measured.iter().map(|job| job.tokenizer.clone()).collect(),
        protocol: layout.protocol(),
        compute,
        fingerprint: fingerprint(&measured, &machine),
        out: layout.speeds(),
    };
    let record = match recorded(&work) {
        Some(record) => record,
        None => {
            tell.note(&format!("measuring the speeds of {} arms in turn", measured.len()));
            let log = layout.out().join("speeds.log");
            let children = Children::default();
            let ended = watched(signals, &children, || {
                children.run(&Work::Speeds(work.clone()), &log, "speeds", tell)
            })?;
            let failure = ended.failure("the measurement of speeds", "speeds.log");
            match (failure, recorded(&work)) {
                (None, Some(record)) => record,
                (failure, _) => {
                    let failure = failure.unwrap_or_else(|| "it left no record".to_owned());
                    return Ok(Some(format!(
                        "the speeds are those of each evaluation by itself, perhaps hours apart, so do not compare \
                         them: {failure}"
                    )));
                }
            }
        }
    };
    for job in whole {
        let speeds = measured.iter().position(|other| other.label == job.label);
        let speeds = speeds.and_then(|place| record.speeds.get(place).copied().flatten());
        let before = figures(job)?;
        let after = with_speeds(before.clone(), speeds);
        if after != before {
            let json = serde_json::to_string_pretty(&after)? + "\n";
            write_atomic(&layout::figures(&job.folder), json.as_bytes())?;
        }
    }
    Ok(None)
}

/// Identifies what is measured, and where.
fn fingerprint(measured: &[&Job], machine: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in measured.iter().flat_map(|job| [&job.label, &job.fingerprint]) {
        hasher.update(part.as_bytes()).update(b"\0");
    }
    hasher.update(machine.as_bytes()).finalize().to_hex().to_string()
}

/// The record of this measurement, if there is one.
fn recorded(work: &SpeedOptions) -> Option<SpeedRecord> {
    let record: SpeedRecord = serde_json::from_slice(&fs::read(&work.out).ok()?).ok()?;
    let is_its = record.fingerprint == work.fingerprint && record.speeds.len() == work.tokenizers.len();
    is_its.then_some(record)
}

/// The figures of a run's evaluation.
fn figures(job: &Job) -> Result<Map<String, Value>> {
    let file = layout::figures(&job.folder);
    let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))
}

/// Figures with these speeds instead of those that were there.
fn with_speeds(mut figures: Map<String, Value>, speeds: Option<Speeds>) -> Map<String, Value> {
    for name in ENCODE.into_iter().chain(DECODE) {
        figures.remove(name);
    }
    if let Some(Speeds { encode, decode }) = speeds {
        for (names, spread) in [(ENCODE, encode), (DECODE, decode)] {
            for (name, value) in names.into_iter().zip([spread.median, spread.least, spread.greatest]) {
                figures.insert(name.to_owned(), json!(value));
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Spread;

    #[test]
    fn speeds_of_the_turns_replace_those_of_the_evaluation() {
        let figures =
            json!({"psnr_db": 27.5, "encode_images_per_sec": 990.0, "decode_images_per_sec": 156.0});
        let figures = figures.as_object().unwrap();
        let spread = |least: f64| Spread { least, median: least + 1.0, greatest: least + 3.0 };
        let speeds = Speeds { encode: spread(10.0), decode: spread(20.0) };
        let with = with_speeds(figures.clone(), Some(speeds));
        assert_eq!(
            Value::Object(with.clone()),
            json!({
                "psnr_db": 27.5,
                "encode_images_per_sec": 11.0,
                "encode_images_least_per_sec": 10.0,
                "encode_images_greatest_per_sec": 13.0,
                "decode_images_per_sec": 21.0,
                "decode_images_least_per_sec": 20.0,
                "decode_images_greatest_per_sec": 23.0,
            })
        );
        // A seed that was not measured has none.
        assert_eq!(Value::Object(with_speeds(with, None)), json!({"psnr_db": 27.5}));
        // What depends on the clock is known by its name.
        assert!(ENCODE.iter().chain(&DECODE).all(|name| name.ends_with("_per_sec")));
    }
}
