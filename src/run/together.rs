//! What several processes do together before they train: they agree on the run, and check that
//! their settings and data are the same.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value};
use tch::Device;
use toml::Table;

use super::CONFIG;
use super::libtorch::libtorch_version;
use super::resume::Earlier;
use super::settings::TrainOptions;
use super::task::RunTask;
use super::training::run_folder;
use crate::checkpoint::{RunFolder, RunWriter};
use crate::config::RootConfig;
use crate::train::{self, Task};
use crate::world::{World, WorldError};
use pixtok_base::Misuse;

/// The largest number of numbers of processes that an error names.
const FITTING: usize = 8;
/// The longest value that an error shows. Longer ones are hashes, which tell the user nothing.
const SHOWN: usize = 60;
/// The largest number of differences that an error names.
const NAMED: usize = 5;

/// Turns `--or-resume` into a resume or a new run. Process 0 decides, since it creates the folder.
/// A job that its launcher has restarted resumes without the flag.
pub(super) fn options(options: &TrainOptions, world: &World) -> Result<TrainOptions> {
    let mut options = options.clone();
    let run = run_folder(&options);
    // On several hosts, torchrun counts the restarts of each, so any process may know of one.
    let again = options.or_resume || world.restarts() > 0;
    let found = world.writes() && run.join(CONFIG).is_file();
    let own = serde_json::to_string(&[again, found])?;
    let all = world.exchange("the choice between a new run and a resume", &own)?;
    let all: Vec<[bool; 2]> =
        all.iter().map(|flags| serde_json::from_str(flags)).collect::<Result<_, _>>()?;
    let any = |place: usize| all.iter().any(|flags| flags[place]);
    if options.resume.is_none() && any(0) && any(1) {
        // A run that was stopped before its first checkpoint has nothing to go on from.
        options.restart = RunFolder::open(&run)?.checkpoints()?.is_empty();
        options.init_from = options.init_from.filter(|_| options.restart);
        options.resume = Some(run);
        options.run = None;
    }
    Ok(options)
}

/// Creates the run folder in process 0, and waits for it in the others.
pub(super) fn create(path: &Path, world: &World) -> Result<RunWriter> {
    if world.writes() {
        let run = RunWriter::create(path)?;
        world.wait_for_the_first()?;
        return Ok(run);
    }
    world.wait_for_the_first()?;
    RunWriter::beside(path).map_err(|_| {
        let (rank, path) = (world.rank(), path.display());
        let words = format!(
            "process {rank} doesn't see {path}, which process 0 has created; put the run on a file system that all processes share"
        );
        Misuse(words).into()
    })
}

/// Refuses a batch that the processes can't divide, and processes that start from different
/// settings, versions or checkpoints.
pub(super) fn check<R: RunTask>(
    config: &R::Config,
    earlier: Option<&Earlier<R>>,
    (run, device): (&Path, Device),
    world: &World,
) -> Result<()> {
    check_batch(config.train(), world.size() as usize, earlier.is_some())?;
    if world.size() == 1 {
        return Ok(());
    }
    let table = Table::try_from(config)?;
    let mut own = Map::new();
    own.insert("the config".to_owned(), serde_json::to_value(&table)?);
    own.insert("the version of pixtok".to_owned(), env!("CARGO_PKG_VERSION").into());
    own.insert("the version of libtorch".to_owned(), libtorch_version().into());
    own.insert("the kind of device".to_owned(), if device.is_cuda() { "CUDA" } else { "CPU" }.into());
    let (step, content) = earlier.and_then(Earlier::checkpoint).unzip();
    own.insert("the step to resume from".to_owned(), step.into());
    own.insert("the content of the checkpoint".to_owned(), content.into());
    own.insert("the run folder".to_owned(), run.display().to_string().into());
    compare("the comparison of settings", &Value::Object(own), world)
}

/// Refuses processes that see different data.
pub(super) fn check_task(task: &impl Task, world: &World) -> Result<()> {
    if world.size() == 1 {
        return Ok(());
    }
    let own = task.sources().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
    compare("the comparison of data", &Value::Object(own.collect()), world)
}

/// Refuses values that differ from those of process 0. The error names both.
fn compare(what: &str, own: &Value, world: &World) -> Result<()> {
    // Almost always they are alike, so the values themselves need not travel.
    let text = serde_json::to_string(own)?;
    let hashes = world.exchange(what, blake3::hash(text.as_bytes()).to_hex().as_str())?;
    if hashes.iter().all(|hash| *hash == hashes[0]) {
        return Ok(());
    }
    let all = world.exchange(what, &text)?;
    let all: Vec<Value> = all.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let Some((first, others)) = all.split_first() else { return Ok(()) };
    for (rank, other) in (1..).zip(others) {
        let found = differences(first, other, "");
        if found.is_empty() {
            continue;
        }
        let more = found.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let list: Vec<String> = found
            .into_iter()
            .take(NAMED)
            .map(|(path, [first, other])| {
                if first.len().max(other.len()) > SHOWN {
                    return format!("process {rank} differs from process 0 in {path}");
                }
                format!("{path} is {first} in process 0 and {other} in process {rank}")
            })
            .collect();
        return Err(WorldError::Differs(format!(
            "all processes must have the same settings and data, but {}{more}. Give every process the same command, program and files",
            list.join("; ")
        ))
        .into());
    }
    Ok(())
}

/// The paths at which two values differ, with both values.
fn differences(first: &Value, other: &Value, path: &str) -> Vec<(String, [String; 2])> {
    let (Value::Object(a), Value::Object(b)) = (first, other) else {
        let shown = |value: &Value| if value.is_null() { "absent".to_owned() } else { value.to_string() };
        return if first == other { vec![] } else { vec![(path.to_owned(), [shown(first), shown(other)])] };
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    let below = |key: &String| match path {
        "" | "the config" => key.clone(),
        path => format!("{path}.{key}"),
    };
    keys.flat_map(|key| {
        let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        differences(&value(a), &value(b), &below(key))
    })
    .collect()
}

/// Refuses a batch that `processes` can't divide equally.
fn check_batch(train: &train::Config, processes: usize, resumed: bool) -> Result<()> {
    let (batch, parts) = (train.batch_size, train.micro_batches);
    if !batch.is_multiple_of(processes) {
        if resumed {
            let fitting = (1..=batch).filter(|processes| batch.is_multiple_of(*processes));
            let fitting: Vec<String> = fitting.take(FITTING).map(|processes| processes.to_string()).collect();
            return Err(Misuse(format!(
                "{processes} processes can't divide the run's train.batch_size {batch} equally; go on with a number of \
                 processes that can: {}",
                fitting.join(", ")
            ))
            .into());
        }
        let lower = batch / processes * processes;
        let words =
            if lower > 0 { format!("{lower} or {}", lower + processes) } else { processes.to_string() };
        return Err(Misuse(format!(
            "train.batch_size is {batch}, which {processes} processes can't divide equally; it counts the images of all \
             processes together, so set it to {words}"
        ))
        .into());
    }
    if !(batch / processes).is_multiple_of(parts) {
        return Err(Misuse(format!(
            "each of {processes} processes has {} images of train.batch_size {batch}, which can't be divided into \
             train.micro_batches {parts}; change one of the two",
            batch / processes
        ))
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_is_divided_equally_or_refused() {
        let of = |batch_size, micro_batches, processes| {
            let train = train::Config { batch_size, micro_batches, ..train::Config::default() };
            check_batch(&train, processes, false).map_err(|error| error.to_string())
        };
        assert_eq!(of(32, 4, 2), Ok(()));
        assert!(of(32, 1, 3).unwrap_err().contains("set it to 30 or 33"));
        assert!(of(2, 1, 3).unwrap_err().contains("set it to 3"));
        let train = train::Config { batch_size: 16, ..train::Config::default() };
        let resumed = check_batch(&train, 3, true).unwrap_err().to_string();
        assert!(resumed.ends_with("a number of processes that can: 1, 2, 4, 8, 16"), "{resumed}");
        assert!(of(12, 4, 2).unwrap_err().contains("has 6 images of train.batch_size 12"));
    }

    #[test]
    fn differences_are_named_by_their_keys() {
        let first = json!({ "the config": { "train": { "steps": 5 }, "seed": 1 }, "pixtok": "1" });
        let other = json!({ "the config": { "train": { "steps": 6 } }, "pixtok": "1" });
        let found = differences(&first, &other, "");
        let named = |path: &str, a: &str, b: &str| (path.to_owned(), [a.to_owned(), b.to_owned()]);
        assert_eq!(found, [named("seed", "1", "absent"), named("train.steps", "5", "6")]);
        assert_eq!(differences(&first, &first, ""), []);
    }
}
