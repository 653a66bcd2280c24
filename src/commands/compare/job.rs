//! One arm with one seed: trained, evaluated, marked as done.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::child::{Children, Ended};
use super::layout::{self, Layout};
use crate::checkpoint::write_atomic;
use crate::cli::{CompareArgs, MeasureArgs};
use crate::sweep::{Plan, Source};
use crate::torch::DeviceChoice;

/// Exit code of a run folder that another process still holds.
const IN_USE: i32 = 3;
/// Seconds that a training which lost its comparison gets to save and leave.
const PATIENCE_SECS: u32 = 60;

/// What there is to do for an arm and a seed.
pub(super) struct Job {
    /// In the plan.
    pub arm: usize,
    /// Absent for what is not trained here.
    pub seed: Option<u64>,
    /// For people.
    pub label: String,
    /// The run folder, or where the evaluation lies.
    pub folder: PathBuf,
    /// The training's config as TOML; absent where there is none.
    config: Option<String>,
    /// The tokenizer that is evaluated.
    tokenizer: PathBuf,
    protocol: PathBuf,
}

/// Where and how.
pub(super) struct Place {
    pub device: DeviceChoice,
    pub threads: Option<u32>,
}

/// `done.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    format_version: u32,
    /// Of the config, the protocol and what is measured.
    fingerprint: String,
}

/// All jobs, seed by seed, so that a whole table is there as early as can be.
pub(super) fn jobs(plan: &Plan, layout: &Layout) -> Result<Vec<Job>> {
    let mut jobs = vec![];
    for (i, &seed) in plan.seeds.iter().enumerate() {
        for (arm, planned) in plan.arms.iter().enumerate() {
            let name = &planned.name;
            match &planned.source {
                Source::Trained(_) => {
                    let folder = layout.run(name, Some(seed));
                    let config = planned.config(seed).map(|config| config.to_toml()).transpose()?;
                    jobs.push(Job {
                        arm,
                        seed: Some(seed),
                        label: format!("{name} seed {seed}"),
                        tokenizer: folder.clone(),
                        folder,
                        config,
                        protocol: layout.protocol(),
                    });
                }
                // Once, whatever the seeds.
                Source::Existing { path, .. } if i == 0 => jobs.push(Job {
                    arm,
                    seed: None,
                    label: name.clone(),
                    tokenizer: path.clone(),
                    folder: layout.run(name, None),
                    config: None,
                    protocol: layout.protocol(),
                }),
                Source::Existing { .. } => {}
            }
        }
    }
    Ok(jobs)
}

impl Job {
    /// Whether a training and its evaluation are there, whole and as now asked for. What is not trained here is always
    /// evaluated again: it may have changed.
    pub fn is_done(&self, measures: &MeasureArgs) -> Result<bool> {
        if self.config.is_none() {
            return Ok(false);
        }
        let Ok(text) = fs::read_to_string(self.marker()) else { return Ok(false) };
        Ok(serde_json::from_str::<Done>(&text).ok() == Some(self.done(measures)?))
    }

    /// Does it; in words why it failed, if it did.
    pub fn run(
        &self,
        place: &Place,
        args: &CompareArgs,
        children: &Children,
        tell: &dyn Fn(&str),
    ) -> Result<Option<String>> {
        let parent = self.folder.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        let log = self.folder.with_extension("log");
        if let Some(config) = &self.config {
            let path = self.folder.with_extension("toml");
            write_atomic(&path, config.as_bytes())?;
            let mut words = vec!["train".into(), text(&path), "--run".into(), text(&self.folder)];
            if self.folder.exists() {
                words.push("--resume".into());
            }
            words.extend(place.words());
            let mut ended = children.run(&words, &log, tell)?;
            for _ in 0..PATIENCE_SECS {
                if ended.code != Some(IN_USE) {
                    break;
                }
                sleep(Duration::from_secs(1));
                ended = children.run(&words, &log, |_| {})?;
            }
            if let Some(failure) = failure("training", &ended, &log) {
                return Ok(Some(failure));
            }
        }
        let ended = children.run(&self.eval_words(place, &args.measures), &log, tell)?;
        if let Some(failure) = failure("evaluation", &ended, &log) {
            return Ok(Some(failure));
        }
        let marker = serde_json::to_string_pretty(&self.done(&args.measures)?)? + "\n";
        write_atomic(&self.marker(), marker.as_bytes())?;
        Ok(None)
    }

    /// `pixtok eval …` with all that the report shows.
    fn eval_words(&self, place: &Place, measures: &MeasureArgs) -> Vec<String> {
        let folder = layout::evaluation(&self.folder);
        let mut words = vec!["eval".into(), text(&self.tokenizer), "--protocol".into(), text(&self.protocol)];
        for (flag, name) in [
            ("--json", "figures.json"),
            ("--per-image", "per_image.csv"),
            ("--code-counts", "code_counts.csv"),
            ("--pictures", ""),
        ] {
            words.extend([flag.into(), text(&folder.join(name))]);
        }
        words.extend(measures.words());
        words.extend(place.words());
        words
    }

    fn done(&self, measures: &MeasureArgs) -> Result<Done> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.config.as_deref().unwrap_or_default().as_bytes());
        hasher.update(&fs::read(&self.protocol).context("cannot read the protocol")?);
        hasher.update(measures.words().join("\n").as_bytes());
        Ok(Done { format_version: 1, fingerprint: hasher.finalize().to_hex().to_string() })
    }

    fn marker(&self) -> PathBuf {
        layout::evaluation(&self.folder).join("done.json")
    }
}

impl Place {
    fn words(&self) -> Vec<String> {
        let mut words = vec!["--device".into(), self.device.to_string()];
        if let Some(threads) = self.threads {
            words.extend(["--threads".into(), threads.to_string()]);
        }
        words
    }
}

impl MeasureArgs {
    /// The flags that say the same.
    fn words(&self) -> Vec<String> {
        let mut words = vec![];
        if !self.metrics.is_empty() {
            let names: Vec<&str> = self.metrics.iter().map(|metric| metric.name()).collect();
            words.extend(["--metrics".into(), names.join(",")]);
        }
        for path in &self.lpips_weights {
            words.extend(["--lpips-weights".into(), text(path)]);
        }
        if let Some(path) = &self.fid_weights {
            words.extend(["--fid-weights".into(), text(path)]);
        }
        if self.stability {
            words.push("--stability".into());
        }
        words
    }
}

/// In words, unless the child ended well.
fn failure(what: &str, ended: &Ended, log: &Path) -> Option<String> {
    let code = match ended.code {
        Some(0) => return None,
        Some(code) => format!("exit code {code}"),
        None => "killed".into(),
    };
    let error = ended.error.as_deref().unwrap_or("it gave no reason");
    // The file's place is the same in every folder of this comparison.
    let log = log.iter().rev().take(2).map(|part| part.to_string_lossy()).collect::<Vec<_>>();
    Some(format!("{what} failed ({code}): {error}; see arms/{}/{}", log[1], log[0]))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
