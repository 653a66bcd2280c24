//! `changes.jsonl`: the settings of a run that changed while it trained. `config.toml` keeps the
//! original ones.
//!
//! ```text
//! {"step":400,"key":"optimizer.lr","from":0.001,"to":0.0005}
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::error::ConfigError;
use super::keys::{table_at_mut, value_at};
use super::root::may_change;
use super::{KeyPath, KnownKey, RootConfig, known, overrides_set};

/// The name of the file in a run folder and in the folder of an exported model.
pub const CHANGES_FILE: &str = "changes.jsonl";

/// Keys that a resumed run of a tokenizer may change although they alter what is computed.
pub(super) const CHANGEABLE: [KnownKey; 7] = [
    known::OPTIMIZER_LR,
    known::OPTIMIZER_CLIP_NORM,
    known::OPTIMIZER_WARMUP_STEPS,
    known::OPTIMIZER_MUON_LR,
    known::ADVERSARIAL_LR,
    known::ADVERSARIAL_CLIP_NORM,
    known::ADVERSARIAL_WARMUP_STEPS,
];

/// A setting that changed: one line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunChange {
    /// The number of completed steps before the change.
    pub step: u64,
    /// The key that changed.
    pub key: KeyPath,
    /// The value before the change.
    pub from: Number,
    /// The value after the change.
    pub to: Number,
}

/// A value of a key that may change. JSON has no infinity, so it is written as the text `inf`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "serde_json::Value", try_from = "serde_json::Value")]
pub enum Number {
    /// A number of steps.
    Whole(i64),
    /// Any other value.
    Real(f64),
}

impl From<Number> for serde_json::Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Whole(number) => number.into(),
            Number::Real(number) if number.is_finite() => number.into(),
            Number::Real(number) => number.to_string().into(),
        }
    }
}

impl TryFrom<serde_json::Value> for Number {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let text = || value.as_str()?.parse().ok();
        let whole = value.as_i64().map(Self::Whole);
        whole
            .or_else(|| value.as_f64().or_else(text).map(Self::Real))
            .ok_or_else(|| format!("{value} is no number"))
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Whole(number) => number.into(),
            Number::Real(number) => number.into(),
        }
    }
}

impl fmt::Display for Number {
    /// Formats the value as TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Value::from(*self), f)
    }
}

impl fmt::Display for RunChange {
    /// `optimizer.lr: 0.002 -> 0.001 from step 400 on`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {} from step {} on", self.key, self.from, self.to, self.step)
    }
}

impl RunChange {
    /// Reads the changes in `folder`, that of a run with a config of type `C`, in order; empty if there
    /// is no file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn read<C: RootConfig>(folder: &Path) -> Result<Vec<Self>, ConfigError> {
        let path = folder.join(CHANGES_FILE);
        let origin = path.display().to_string();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            text => text.map_err(|error| ConfigError::Unreadable {
                origin: origin.clone(),
                reason: error.to_string(),
            })?,
        };
        let rows = text.lines().enumerate().map(|(at, line)| {
            let fail = |reason: String| ConfigError::Changes { origin: origin.clone(), line: at + 1, reason };
            let row: Self = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            if !may_change::<C>(&row.key) {
                return Err(fail(format!("{} is no key that a run may change", row.key)));
            }
            Ok(row)
        });
        rows.collect()
    }

    /// The text of a file with these changes.
    ///
    /// # Errors
    /// When JSON cannot express a change.
    pub fn lines(changes: &[Self]) -> Result<String, serde_json::Error> {
        changes.iter().map(|change| Ok(serde_json::to_string(change)? + "\n")).collect()
    }
}

/// [`RootConfig::changed`].
pub(super) fn changed<C: RootConfig>(config: &C, changes: &[RunChange]) -> Result<C, ConfigError> {
    let mut table = table_of(config)?;
    for change in changes {
        let here = number_at(&table, &change.key);
        if here != Some(change.from) {
            let here = here.map_or_else(|| "not set".to_owned(), |here| here.to_string());
            return Err(inconsistent(format!(
                "it changes {} from {} at step {}, where the run has it {here}",
                change.key, change.from, change.step
            )));
        }
        set(&mut table, &change.key, change.to);
    }
    config_of(table)
}

/// [`RootConfig::with_changes_of`].
pub(super) fn with_changes_of<C: RootConfig>(
    config: &C,
    began: &C,
    changes: &[RunChange],
    overrides: &[String],
) -> Result<C, ConfigError> {
    let replayed = table_of(&changed(began, changes)?)?;
    let (began, mut table) = (table_of(began)?, table_of(config)?);
    for &key in C::CHANGEABLE {
        let given = overrides_set(overrides, key);
        let path = KeyPath::from(key);
        if let Some(value) = number_at(&replayed, &path)
            && !given
            && number_at(&table, &path) == number_at(&began, &path)
        {
            set(&mut table, &path, value);
        }
    }
    config_of(table)
}

/// [`RootConfig::changes_at`].
pub(super) fn changes_at<C: RootConfig>(
    config: &C,
    earlier: &C,
    step: u64,
) -> Result<Vec<RunChange>, ConfigError> {
    let (before, now) = (table_of(earlier)?, table_of(config)?);
    let change = |key: &KnownKey| {
        let key = KeyPath::from(*key);
        let (from, to) = (number_at(&before, &key)?, number_at(&now, &key)?);
        (from != to).then_some(RunChange { step, key, from, to })
    };
    Ok(C::CHANGEABLE.iter().filter_map(change).collect())
}

/// [`RootConfig::as_begun`].
pub(super) fn as_begun<C: RootConfig>(config: &C, began: &C) -> Result<C, ConfigError> {
    let (began, mut table) = (table_of(began)?, table_of(config)?);
    for path in C::CHANGEABLE.iter().map(|key| KeyPath::from(*key)) {
        if let Some(value) = number_at(&began, &path) {
            set(&mut table, &path, value);
        }
    }
    config_of(table)
}

fn number_at(table: &Table, path: &KeyPath) -> Option<Number> {
    match value_at(table, path.names())? {
        Value::Integer(number) => Some(Number::Whole(*number)),
        Value::Float(number) => Some(Number::Real(*number)),
        _ => None,
    }
}

/// Sets a key whose table exists.
fn set(table: &mut Table, path: &KeyPath, value: Number) {
    let Some((last, parents)) = path.names().split_last() else { return };
    if let Some(table) = table_at_mut(table, parents) {
        table.insert(last.clone(), value.into());
    }
}

fn table_of<C: RootConfig>(config: &C) -> Result<Table, ConfigError> {
    Table::try_from(config).map_err(|error| inconsistent(error.to_string()))
}

fn config_of<C: RootConfig>(table: Table) -> Result<C, ConfigError> {
    table.try_into().map_err(|error: toml::de::Error| inconsistent(error.to_string()))
}

fn inconsistent(reason: String) -> ConfigError {
    ConfigError::Inconsistent { file: CHANGES_FILE, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(overrides: &[&str]) -> Config {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let text = "[quantizer]\nkind = \"fsq\"\nlevels = [8, 5, 5, 5]\n[adversarial.optimizer.schedule]\nkind = \"cosine\"\nwarmup_steps = 50\n";
        super::super::layers::read::<Config>(text, "x.toml", &overrides).unwrap().0.resolved()
    }

    fn words(changes: &[RunChange]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn changes_are_found_written_read_and_applied() {
        let began = config(&[]);
        let now = config(&[
            "optimizer.lr=1e-4",
            "optimizer.clip_norm=inf",
            "adversarial.optimizer.schedule.warmup_steps=7",
            "train.steps=9",
        ]);
        let changes = now.changes_at(&began, 400).unwrap();
        assert_eq!(
            words(&changes),
            [
                "optimizer.lr: 0.001 -> 0.0001 from step 400 on",
                "optimizer.clip_norm: 1.0 -> inf from step 400 on",
                "adversarial.optimizer.schedule.warmup_steps: 50 -> 7 from step 400 on",
            ]
        );
        let lines = RunChange::lines(&changes).unwrap();
        assert!(lines.starts_with("{\"step\":400,\"key\":\"optimizer.lr\",\"from\":0.001,\"to\":0.0001}\n"));
        let run = tempfile::tempdir().unwrap();
        assert_eq!(RunChange::read::<Config>(run.path()).unwrap(), []);
        fs::write(run.path().join(CHANGES_FILE), lines).unwrap();
        let read = RunChange::read::<Config>(run.path()).unwrap();
        assert_eq!(read, changes);
        assert_eq!(now.as_begun(&began).unwrap(), config(&["train.steps=9"]));
        assert_eq!(config(&["train.steps=9"]).changed(&read).unwrap(), now);
    }

    #[test]
    fn a_resume_replays_what_its_flags_leave_alone() {
        let began = config(&[]);
        let changes =
            config(&["optimizer.lr=1e-4", "optimizer.clip_norm=0.5"]).changes_at(&began, 4).unwrap();
        let resumed = |sets: &[&str]| {
            let given: Vec<String> = sets.iter().map(|&text| text.to_owned()).collect();
            let config = config(sets).with_changes_of(&began, &changes, &given).unwrap();
            (config.optimizer.lr, config.optimizer.clip_norm)
        };
        assert_eq!(resumed(&["train.steps=9"]), (1e-4, 0.5));
        // Back to the value that it began with: only the flag shows that this is a change.
        assert_eq!(resumed(&["optimizer.lr = 1e-3"]), (1e-3, 0.5));
        assert_eq!(resumed(&["optimizer={lr=2e-3}"]), (2e-3, 1.0));
        // The value comes from an edited config file.
        let edited = config(&["optimizer.lr=0.5"]).with_changes_of(&began, &changes, &[]).unwrap();
        assert_eq!((edited.optimizer.lr, edited.optimizer.clip_norm), (0.5, 0.5));
    }

    #[test]
    fn a_file_that_is_not_the_runs_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let refused = |text: &str| {
            fs::write(run.path().join(CHANGES_FILE), text).unwrap();
            RunChange::read::<Config>(run.path())
                .and_then(|changes| config(&[]).changed(&changes))
                .unwrap_err()
                .to_string()
        };
        let row = "{\"step\":4,\"key\":\"optimizer.lr\",\"from\":0.001,\"to\":0.5}\n";
        let message = refused(&format!("{row}{{\"step\":"));
        assert!(message.contains("changes.jsonl:2: ") && message.contains("restore"), "{message}");
        let message = refused(&row.replace("optimizer.lr", "train.batch_size"));
        assert!(message.contains("train.batch_size is no key that a run may change"), "{message}");
        let message = refused(&row.replace("0.001", "0.002"));
        assert!(
            message.contains("optimizer.lr from 0.002 at step 4, where the run has it 0.001"),
            "{message}"
        );
    }
}
