//! The tokenizer as a task: images go through encoder, quantizer and decoder.
//!
//! `objective` is what is minimised: `reconstruction`, and with an adversary `adversarial` too.
//! `batches` is where images come from, `start` is k-means before step 0, `validate` measures and
//! shows, `samples` are the pictures. `collapse` and `duel` warn of what goes wrong, `error` says
//! what the loop has to know of errors. `state`, `best`, `files` and `bad_log` are what a run keeps
//! of its images. `config` is the root config, and `training` its `[train]`.

mod adversarial;
mod bad_log;
mod batches;
mod best;
mod collapse;
mod config;
mod duel;
mod error;
mod files;
mod objective;
mod reconstruction;
mod samples;
mod start;
mod state;
mod training;
mod validate;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use tch::Tensor;

pub use adversarial::Opponent;
pub use batches::ImageBatches;
pub use best::{IMAGES_CHANGED, OtherImages, Validation};
pub use collapse::{Collapse, CollapseCount};
pub use config::Config;
pub use error::CircumstancesError;
pub use files::changed_files;
pub use objective::{ImageStep, Objective};
pub use reconstruction::Reconstruction;
pub use samples::Samples;
pub use state::{Circumstances, LossWeights, NoiseSource, State};
pub use training::{BestMetric, TrainConfig};

use crate::checkpoint::{RunFolder, RunWriter};
use crate::codec::Vocabulary;
use crate::evaluate::{self, EvaluateError, Evaluation};
use crate::logger::check_rows;
use crate::metrics::{CodebookFigures, CodebookUse};
use crate::model::{TokenShape, images_from_bytes};
use crate::statistics::{Statistic, UpdateReport};
use crate::train::{
    At, Batches, Begun, ParameterGroup, Passes, Ranked, StepOutput, Surroundings, Task, TrainError, Validated,
};
use crate::variables::Variable;
use crate::world::{World, WorldError};
use bad_log::{BAD_SAMPLES_FILE, BadLog, Split, bad_of};
use collapse::Over;
use duel::Duel;
use pixtok_base::seed::Seed;
use pixtok_images::data::{self, BadSamples, Dataset};
use pixtok_torch::{no_grad, to_device_async};
use start::start_quantizer;

/// The parts of a [`TokenizerTask`].
pub struct Setup {
    /// The networks and losses, on `device`.
    pub objective: Objective,
    /// Of an optimizer step.
    pub batch_size: usize,
    /// What decides which checkpoint is best.
    pub best_metric: BestMetric,
    /// When to warn of a collapsing codebook.
    pub collapse: Collapse,
    /// Of the images.
    pub data: data::Config,
    /// Settings of the evaluations.
    pub eval: evaluate::Config,
    /// Training images.
    pub train_set: Arc<Dataset>,
    /// Validation images.
    pub val_set: Arc<Dataset>,
    /// Those that are shown.
    pub samples: Samples,
    /// The circumstances of this process.
    pub circumstances: Circumstances,
    /// The earlier settings of images and evaluations, if the run is resumed.
    pub before: Option<(data::Config, evaluate::Config)>,
    /// Whether to go on with a different thread count or kind of device than the checkpoint's.
    pub accept_inexact: bool,
}

/// Trains a tokenizer, with or without an adversary.
pub struct TokenizerTask {
    objective: Objective,
    batch_size: usize,
    best_metric: BestMetric,
    collapse: Collapse,
    data: data::Config,
    eval: evaluate::Config,
    train_set: Arc<Dataset>,
    val_set: Arc<Dataset>,
    samples: Samples,
    circumstances: Circumstances,
    before: Option<(data::Config, evaluate::Config)>,
    accept_inexact: bool,
    /// Evaluations in a row with a collapsed codebook.
    evaluations_collapsed: CollapseCount,
    /// Of the tokens since the last log row, or since the process began.
    used: CodebookUse,
    /// Codebook figures of the last log row.
    figures: Option<CodebookFigures>,
    /// Log rows in a row with a collapsed codebook. A resumed run counts from 0 again, since its
    /// first row holds fewer tokens than the uninterrupted run's.
    rows_collapsed: CollapseCount,
    /// Log rows in a row with a winner. A resumed run counts from 0 again.
    duel: Duel,
    /// The list of bad validation images, opened with the logs.
    bad: Option<BadLog>,
    /// A report that is made once the logs are open.
    other_images: Option<OtherImages>,
}

impl TokenizerTask {
    /// Makes the task from its parts.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let used = fresh_use(&setup.objective);
        Self {
            objective: setup.objective,
            batch_size: setup.batch_size,
            best_metric: setup.best_metric,
            collapse: setup.collapse,
            data: setup.data,
            eval: setup.eval,
            train_set: setup.train_set,
            val_set: setup.val_set,
            samples: setup.samples,
            circumstances: setup.circumstances,
            before: setup.before,
            accept_inexact: setup.accept_inexact,
            evaluations_collapsed: CollapseCount::default(),
            used,
            figures: None,
            rows_collapsed: CollapseCount::default(),
            duel: Duel::default(),
            bad: None,
            other_images: None,
        }
    }

    /// The settings of the evaluations.
    fn validation(&self) -> Validation {
        Validation { data: self.data.clone(), eval: self.eval.clone(), total: self.val_set.len() }
    }

    /// Advice for a collapsing codebook.
    fn collapse_remedy(&self) -> String {
        let tokenizer = self.objective.tokenizer();
        // The size was checked before.
        let positions = tokenizer.shape(self.data.image_size).map_or(0, TokenShape::positions) as i64;
        tokenizer.quantizer.collapse_remedy(positions.saturating_mul(self.batch_size as i64)).to_string()
    }

    fn note_bad(&mut self, bad: Vec<data::BadSample>, around: &mut Surroundings) -> Result<(), TrainError> {
        self.bad.as_mut().map_or(Ok(()), |log| log.note(bad, around.step, around))
    }
}

/// A count of codes without any tokens.
fn fresh_use(objective: &Objective) -> CodebookUse {
    let codebook = objective.tokenizer().codebook();
    CodebookUse::new(codebook.codebooks, codebook.size)
}

impl Task for TokenizerTask {
    /// Images, `[B, 3, H, W]` uint8 on the CPU.
    type Batch = Tensor;

    type Exhibits = Evaluation;

    const SAMPLES: &'static str = "images";

    const COMPANIONS: &'static str = "discriminator";

    fn groups(&self) -> Vec<ParameterGroup> {
        self.objective.groups()
    }

    fn begin(
        &mut self,
        batches: &mut dyn Batches<Tensor>,
        around: &mut Surroundings,
        passes: Passes,
        seed: Seed,
    ) -> Result<Begun, TrainError> {
        let begun = start_quantizer(&mut self.objective, passes, batches, around, seed)?;
        if begun != Begun::Stopped && around.world.writes() {
            self.show_samples(around);
        }
        Ok(begun)
    }

    fn split(batch: &Tensor, parts: usize) -> Vec<Tensor> {
        batch.chunk(parts as i64, 0)
    }

    fn step(&mut self, batch: &Tensor, at: At) -> Result<StepOutput, TrainError> {
        let images = images_from_bytes(&to_device_async(batch, self.objective.device()));
        let ImageStep { output, indices } = self.objective.step(&images, at)?;
        no_grad(|| self.used.add(&indices));
        Ok(output)
    }

    fn after_step(&mut self, merged: &[Statistic], world: &World, seed: Seed) -> UpdateReport {
        self.objective.after_step(merged, world, seed)
    }

    fn validate(&mut self, around: &mut Surroundings) -> Result<Validated<Evaluation>, TrainError> {
        match self.evaluate(&around.world, &mut |text| around.logger.status(text)) {
            Err(EvaluateError::Data(error)) => {
                // The images are listed here; the error itself says that there are too many.
                let _ = self.note_bad(bad_of(&error), around);
                Err(EvaluateError::Data(error).into())
            }
            evaluation => {
                let exhibits = evaluation?;
                Ok(Validated { figures: exhibits.figures.watched(), exhibits })
            }
        }
    }

    fn model(&self) -> Vec<Variable> {
        self.objective.variables()
    }

    fn companions(&self) -> Vec<Variable> {
        self.objective.companions()
    }

    fn rank(&self, figures: &[(String, f64)]) -> Option<Ranked> {
        let best = self.best_metric;
        let (_, value) = figures.iter().find(|(name, _)| *name == best.name())?;
        Some(Ranked {
            metric: best.name(),
            value: *value,
            higher_is_better: best.higher_is_better(),
            images: self.validation().images(&self.circumstances.val_data),
        })
    }

    fn show(&mut self, evaluation: Evaluation, around: &mut Surroundings) -> Result<(), TrainError> {
        if around.world.writes() {
            self.exhibit(&evaluation, around);
        }
        let remedy = self.collapse_remedy();
        let watched = evaluation.codebook.as_ref().zip(evaluation.vocabulary);
        if let Some((codebook, Vocabulary { size, .. })) = watched
            && let Some(warning) = self.collapse.watch(
                &mut self.evaluations_collapsed,
                Over::Evaluations,
                codebook,
                size,
                &remedy,
            )
        {
            around.warn_once(&warning);
        }
        self.note_bad(evaluation.bad, around)
    }

    fn row(&mut self, world: &World) -> Result<Vec<(String, f64)>, WorldError> {
        let used = std::mem::replace(&mut self.used, fresh_use(&self.objective));
        let figures = used.of_all(world)?.figures();
        let named = figures.named().into_iter().map(|(name, value)| (format!("codebook/{name}"), value));
        let row = named.collect();
        self.figures = Some(figures);
        Ok(row)
    }

    fn watch(&mut self, row: &[(String, f64)], around: &mut Surroundings) {
        let remedy = self.collapse_remedy();
        let size = self.objective.tokenizer().quantizer.codebook().size;
        if let Some(codebook) = self.figures.take()
            && let Some(warning) =
                self.collapse.watch(&mut self.rows_collapsed, Over::LogRows, &codebook, size, &remedy)
        {
            around.warn_once(&warning);
        }
        if let Some(warning) = self.duel.watch(row) {
            around.warn_once(&warning);
        }
    }

    fn state(&self) -> serde_json::Result<Map<String, Value>> {
        let circumstances = self.circumstances.clone();
        let state = State { collapse: self.evaluations_collapsed, circumstances };
        Map::deserialize(serde_json::to_value(state)?)
    }

    /// Times of files may differ: they may be copies on each host's own disk.
    fn sources(&self) -> Vec<(&'static str, String)> {
        let Circumstances { data, val_data, loss_weights, .. } = &self.circumstances;
        let weights = loss_weights.as_ref().map(|weights| weights.blake3.clone()).unwrap_or_default();
        let mut sources = vec![
            ("the training images' names or sizes", data.without_times()),
            ("the validation images' names or sizes", val_data.without_times()),
            ("the weights of the loss's network", weights),
        ];
        // A header that one process cannot read would move its image to another bucket.
        let buckets = self.train_set.bucket_digest(&self.data);
        let named = |digest| ("the data.buckets that headers of training images give", digest);
        sources.extend(buckets.map(named));
        sources
    }

    fn resume(&mut self, saved: Option<&Value>, run: &RunFolder) -> Result<Vec<String>, TrainError> {
        let mut notes = vec![];
        if let Some(saved) = saved {
            let saved = State::parse(saved)?;
            let mut state = State::new(self.circumstances.clone());
            notes = state
                .resume(&saved, self.accept_inexact, &self.data)
                .map_err(|error| error.with_changes(run.path(), &self.train_set))?;
            self.evaluations_collapsed = state.collapse;
            if let Some((data, eval)) = &self.before {
                let now = &self.circumstances.val_data;
                self.other_images = self.validation().differs(run, (data, eval), &saved, now)?;
            }
        }
        check_rows(&run.path().join(BAD_SAMPLES_FILE))?;
        Ok(notes)
    }

    fn prepare(&mut self, run: &RunWriter) -> Result<(), TrainError> {
        files::keep(run.folder().path(), &self.train_set)
    }

    fn opened(&mut self, around: &mut Surroundings) -> Result<(), TrainError> {
        let run = around.run.folder().path();
        let validated = self.eval.images_of(self.val_set.len());
        let counted = BadSamples::new(validated, self.data.max_bad_fraction);
        let writes = around.world.writes();
        self.bad = Some(BadLog::open(run, around.step, Split::Val, counted, writes)?);
        self.other_images.take().map_or(Ok(()), |other| other.note(around))
    }
}
