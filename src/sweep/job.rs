//! A job of a comparison: one arm with one seed is trained, evaluated and marked as done.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::child::Children;
use super::diverged::Machine;
use super::work::Work;
use super::{diverged, layout};
use crate::checkpoint::{RunFolder, Which, write_atomic};
use crate::config::{Config, RunChange};
use crate::inference::{AbsentPrefix, EvaluateOptions, MeasureOptions};
use crate::run::libtorch::libtorch_version;
use crate::run::{Compute, ModelChoice, Pick, Run, Tell, TrainOptions};
use crate::tasks::tokenizer::{State, changed_files};
use pixtok_base::paths::make_folder;
use pixtok_base::{Class, Misuse};
use pixtok_images::data::{Dataset, Difference, Fingerprint};

/// Seconds that a training which lost its comparison gets to save and leave.
const PATIENCE_SECS: u32 = 60;

/// The work for an arm and a seed.
pub(super) struct Job {
    /// The index of the arm in the plan.
    pub arm: usize,
    /// The seed; absent for an arm that is not trained here.
    pub seed: Option<u64>,
    /// The name of the job for people.
    pub label: String,
    /// The run folder, or the folder of the evaluation.
    pub folder: PathBuf,
    /// The config of the training; absent if there is none.
    pub config: Option<Config>,
    /// The weights of the network that the loss needs, if it needs one.
    pub loss_weights: Option<PathBuf>,
    /// The tokenizer to evaluate.
    pub tokenizer: PathBuf,
    pub protocol: PathBuf,
    /// The fingerprint of everything that determines the figures.
    pub fingerprint: String,
    /// The fingerprint of the training images.
    pub train_set: Option<Fingerprint>,
    /// Notes on evaluated images that the tokenizer is or was trained on.
    pub trained_on: Vec<String>,
    /// Those that the comparison runs on.
    pub machines: Vec<Machine>,
}

/// The content of `done.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    format_version: u32,
    fingerprint: String,
    /// The fingerprint of the training images.
    train_set: Option<Fingerprint>,
    /// The device of the evaluation, and of the training if there was one.
    pub device: String,
    pub threads: u32,
    pub processor: String,
    pub pixtok: String,
    pub libtorch: String,
}

impl Job {
    /// Adds notes on evaluated images that the tokenizer is or was trained on, which its evaluation
    /// then states.
    pub fn note_training_images(&mut self, notes: Vec<String>) {
        if !notes.is_empty() {
            let parts = [&self.fingerprint[..], &notes.join("\0")].join("\0");
            self.fingerprint = blake3::hash(parts.as_bytes()).to_hex().to_string();
        }
        self.trained_on = notes;
    }

    /// Refuses a run folder that was trained with a config or images other than those of
    /// `train_set`, or whose settings changed during training. If it were continued, its figures
    /// would belong to neither.
    pub fn check_unchanged(&self, train_set: Option<&Dataset>) -> Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        if !Run::is_one(&self.folder) {
            return Ok(());
        }
        let earlier = Run::find(&self.folder)?.config()?;
        let differences = config.differences(&earlier)?;
        let mut differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        differences.extend(RunChange::read::<Config>(&self.folder)?.iter().map(ToString::to_string));
        differences.extend(self.other_images(config, train_set)?);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Misuse(format!(
            "{} was trained otherwise ({}); give the arm another name, or another --out, or remove that folder",
            self.folder.display(),
            differences.join("; ")
        ))
        .into())
    }

    /// The difference between the images of its training so far and the present images, if there is
    /// one.
    pub fn difference(&self) -> Result<Option<Difference>> {
        let Some(now) = &self.train_set else { return Ok(None) };
        let state = match RunFolder::open(&self.folder) {
            Ok(run) => run.newest_state()?,
            Err(_) => None,
        };
        let then = state.and_then(|state| State::training_images(&state));
        let then = then.or_else(|| self.done().and_then(|done| done.train_set));
        Ok(then.and_then(|then| now.difference(&then)))
    }

    /// Describes the difference, with a changed file, if the images differ.
    fn other_images(&self, config: &Config, train_set: Option<&Dataset>) -> Result<Option<String>> {
        let Some(what) = self.difference()?.and_then(Difference::change) else { return Ok(None) };
        let files = train_set.map(|images| format!(": {}", changed_files(&self.folder, images)));
        let (folder, files) = (&config.data.train, files.unwrap_or_default());
        Ok(Some(format!("other files in {folder}, since {what}{files}")))
    }

    /// Whether the training, if there is one, and the evaluation are complete and match the request.
    pub fn is_done(&self) -> bool {
        layout::figures(&self.folder).exists() && self.current().is_some()
    }

    /// The content of its marker, if it belongs to this evaluation.
    pub fn current(&self) -> Option<Done> {
        self.done().filter(|done| done.fingerprint == self.fingerprint)
    }

    fn done(&self) -> Option<Done> {
        serde_json::from_str(&fs::read_to_string(self.marker()).ok()?).ok()
    }

    /// Whether the last step is saved, so that only the evaluation is missing.
    fn is_trained(&self, config: &Config) -> bool {
        let last = RunFolder::open(&self.folder).and_then(|run| run.select(Which::Last));
        last.is_ok_and(|step| step == config.train.steps)
    }

    /// The reason why its training failed, if it diverged and would do so again.
    pub fn diverged(&self) -> Option<String> {
        let config = self.config.as_ref().filter(|config| !self.is_trained(config));
        config.and_then(|_| diverged::failure(&self.folder, &self.machines, self.train_set.as_ref()))
    }

    /// Runs the job. Returns why it failed, if it did.
    pub fn run(
        &self,
        compute: Compute,
        measures: &MeasureOptions,
        children: &Children,
        tell: Tell,
    ) -> Result<Option<String>> {
        let parent = self.folder.parent().unwrap_or(Path::new(""));
        make_folder(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        let log = self.folder.with_extension("log");
        match &self.config {
            Some(config) if self.is_trained(config) => {
                tell.note(&format!("{}: trained earlier; evaluating", self.label));
            }
            Some(config) => {
                if let Some(failure) = self.train(config, compute, children, &log, tell)? {
                    return Ok(Some(failure));
                }
                if let Some(difference) = self.other_images(config, None)? {
                    return Ok(Some(format!("its images changed while the comparison ran ({difference})")));
                }
            }
            None => {}
        }
        // An earlier evaluation, perhaps on other images, must not mix with this one.
        let evaluation = layout::evaluation(&self.folder);
        if evaluation.exists() {
            // The marker is removed first, so that an unfinished job is not taken for a done one.
            let _ = fs::remove_file(self.marker());
            fs::remove_dir_all(&evaluation)
                .with_context(|| format!("cannot remove {}", evaluation.display()))?;
        }
        let ended =
            children.run(&Work::Evaluate(self.evaluation(compute, measures)), &log, &self.label, tell)?;
        if let Some(failure) = ended.failure("evaluation", &layout::place(&log)) {
            return Ok(Some(failure));
        }
        let Machine { device, processor, threads } = Machine::of(compute)?;
        let done = Done {
            format_version: 1,
            fingerprint: self.fingerprint.clone(),
            device,
            train_set: self.train_set.clone(),
            threads,
            processor,
            pixtok: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch_version(),
        };
        write_atomic(&self.marker(), (serde_json::to_string_pretty(&done)? + "\n").as_bytes())?;
        Ok(None)
    }

    fn train(
        &self,
        config: &Config,
        compute: Compute,
        children: &Children,
        log: &Path,
        tell: Tell,
    ) -> Result<Option<String>> {
        let path = self.folder.with_extension("toml");
        write_atomic(&path, config.to_toml()?.as_bytes())?;
        let work = Work::Train(self.training(path, compute)?);
        diverged::forget(&self.folder)?;
        let mut ended = children.run(&work, log, &self.label, tell)?;
        for _ in 0..PATIENCE_SECS {
            if !ended.is_of(Class::InUse) {
                break;
            }
            sleep(Duration::from_secs(1));
            ended = children.run(&work, log, &self.label, tell)?;
        }
        let Some(failure) = ended.failure("training", &layout::place(log)) else { return Ok(None) };
        // On CUDA the next try may end well, unless its kernels are deterministic.
        let repeats = config.train.deterministic || !compute.device.resolve()?.is_cuda();
        if !ended.is_of(Class::NotFinite) || !repeats {
            return Ok(Some(failure));
        }
        // The remedy of the training's own message is for a run outside a comparison.
        let failure = format!(
            "{failure}; in a comparison, change the settings in the sweep: of this arm under another name, or of all \
             with another --out. As it is, it is trained again only after {} is removed",
            layout::place(&self.folder)
        );
        diverged::record(&self.folder, &Machine::of(compute)?, self.train_set.as_ref(), &failure)?;
        Ok(Some(failure))
    }

    /// The options of its training with the config at `path`: a new one, or the continuation of an
    /// earlier one.
    fn training(&self, path: PathBuf, compute: Compute) -> Result<TrainOptions> {
        let begun = Run::is_one(&self.folder);
        let folder = |asked: bool| asked.then(|| self.folder.clone());
        Ok(TrainOptions {
            config: Some(path),
            overrides: vec![],
            data: None,
            val_data: None,
            pick: Pick::default(),
            val_split: None,
            run: folder(!begun),
            resume: folder(begun),
            // If it was stopped before its first checkpoint, a restart loses nothing.
            restart: begun && RunFolder::open(&self.folder)?.checkpoints()?.is_empty(),
            accept_inexact: false,
            or_resume: false,
            init_from: None,
            lpips_weights: self.loss_weights.clone(),
            check_data: false,
            overlap_told: true,
            compute,
        })
    }

    /// The options of its evaluation, with everything that the report shows.
    fn evaluation(&self, compute: Compute, measures: &MeasureOptions) -> EvaluateOptions {
        let folder = layout::evaluation(&self.folder);
        let file = |name: &str| Some(folder.join(name));
        EvaluateOptions {
            tokenizer: self.tokenizer.clone(),
            choice: ModelChoice::default(),
            compute,
            data: None,
            pick: Pick::default(),
            protocol: Some(self.protocol.clone()),
            batch_size: None,
            background: None,
            measures: measures.clone(),
            absent_prefixes: AbsentPrefix::LeaveOut,
            trained_on: Some(self.trained_on.clone()),
            json: file("figures.json"),
            per_image: file("per_image.csv"),
            code_counts: file("code_counts.csv"),
            pictures: Some(folder),
        }
    }

    fn marker(&self) -> PathBuf {
        layout::evaluation(&self.folder).join("done.json")
    }
}
