//! The tokenizer as a task: images through encoder, quantizer and decoder, and back.
//!
//! `objective` is what is minimised: `reconstruction`, and with an adversary `adversarial` too.
//! `batches` is where images come from, `start` is k-means before step 0, `validate` measures and
//! shows. `collapse` and `duel` warn of what goes wrong. `state`, `best`, `files` and `bad_log` are
//! what a run keeps of its images.

mod adversarial;
mod bad_log;
mod batches;
mod best;
mod collapse;
mod duel;
mod files;
mod objective;
mod reconstruction;
mod start;
mod state;
mod validate;

use std::sync::Arc;

use serde_json::{Map, Value};
use tch::{Device, Tensor};

pub use adversarial::Opponent;
pub use batches::ImageBatches;
pub use best::{IMAGES_CHANGED, OtherImages, Validation};
pub use collapse::CollapseCount;
pub use files::changed_files;
pub use objective::{ImageStep, Objective};
pub use reconstruction::Reconstruction;
pub use state::{Circumstances, LossWeights, State};

use crate::checkpoint::RunFolder;
use crate::codec::Vocabulary;
use crate::evaluate::{self, EvaluateError, Evaluation};
use crate::logger::check_rows;
use crate::metrics::{CodebookFigures, CodebookUse};
use crate::model::{TokenShape, images_from_bytes};
use crate::quantizer::{Statistic, UpdateReport};
use crate::train::{
    self, At, Batches, Begun, ParameterGroup, Ranked, StepOutput, Surroundings, Task, TrainError, Validated,
};
use crate::variables::Variable;
use crate::world::World;
use bad_log::{BAD_SAMPLES_FILE, BadLog, Split, bad_of};
use collapse::Over;
use duel::Duel;
use pixtok_base::seed::Seed;
use pixtok_images::data::{self, BadSamples, Dataset};
use pixtok_torch::{Precision, no_grad, to_device_async};
use start::{Passes, start_quantizer};

/// What a [`TokenizerTask`] is made of.
pub struct Setup {
    /// What is minimised, on `device`.
    pub objective: Objective,
    /// Of the loop.
    pub train: train::Config,
    /// Of the images.
    pub data: data::Config,
    /// Of the evaluations.
    pub eval: evaluate::Config,
    /// Where it trains.
    pub device: Device,
    /// In what number format.
    pub precision: Precision,
    /// Training images.
    pub train_set: Arc<Dataset>,
    /// Validation images.
    pub val_set: Arc<Dataset>,
    /// The circumstances of this process.
    pub circumstances: Circumstances,
    /// The earlier settings of images and evaluations, if the run existed before.
    pub before: Option<(data::Config, evaluate::Config)>,
    /// Go on with another thread count or kind of device than the checkpoint's.
    pub accept_inexact: bool,
}

/// Trains a tokenizer, with or without an adversary.
pub struct TokenizerTask {
    objective: Objective,
    train: train::Config,
    data: data::Config,
    eval: evaluate::Config,
    device: Device,
    precision: Precision,
    train_set: Arc<Dataset>,
    val_set: Arc<Dataset>,
    circumstances: Circumstances,
    before: Option<(data::Config, evaluate::Config)>,
    accept_inexact: bool,
    /// Evaluations in a row with a collapsed codebook.
    collapse: CollapseCount,
    /// Of the tokens since the last log row, or since the process began.
    used: CodebookUse,
    /// Of the last log row.
    figures: Option<CodebookFigures>,
    /// A resumed run counts from 0 again: its first row holds fewer tokens than the undisturbed run's.
    rows_collapsed: CollapseCount,
    /// The same.
    duel: Duel,
    /// Bad validation images; opened with the logs.
    bad: Option<BadLog>,
    /// What to report when the logs are open.
    other_images: Option<OtherImages>,
}

impl TokenizerTask {
    /// Of its parts.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let used = fresh_use(&setup.objective);
        Self {
            objective: setup.objective,
            train: setup.train,
            data: setup.data,
            eval: setup.eval,
            device: setup.device,
            precision: setup.precision,
            train_set: setup.train_set,
            val_set: setup.val_set,
            circumstances: setup.circumstances,
            before: setup.before,
            accept_inexact: setup.accept_inexact,
            collapse: CollapseCount::default(),
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

    /// What to try when the codebook collapses.
    fn collapse_remedy(&self) -> String {
        let tokenizer = self.objective.tokenizer();
        // Of a size that was checked.
        let positions = tokenizer.shape(self.data.image_size).map_or(0, TokenShape::positions) as i64;
        tokenizer.quantizer.collapse_remedy(positions.saturating_mul(self.train.batch_size as i64))
    }

    fn note_bad(&mut self, bad: Vec<data::BadSample>, around: &mut Surroundings) -> Result<(), TrainError> {
        self.bad.as_mut().map_or(Ok(()), |log| log.note(bad, around))
    }
}

/// No tokens yet.
fn fresh_use(objective: &Objective) -> CodebookUse {
    let codebook = objective.tokenizer().codebook();
    CodebookUse::new(codebook.codebooks, codebook.size)
}

impl Task for TokenizerTask {
    /// `[B, 3, H, W]` uint8 on the CPU.
    type Batch = Tensor;

    type Exhibits = Evaluation;

    const SAMPLES: &'static str = "images";

    fn groups(&self) -> Vec<ParameterGroup> {
        self.objective.groups()
    }

    fn begin(
        &mut self,
        batches: &mut dyn Batches<Tensor>,
        around: &mut Surroundings,
        seed: Seed,
    ) -> Result<Begun, TrainError> {
        let Self { device, precision, .. } = *self;
        let passes = Passes { micro_batches: self.train.micro_batches, device, precision };
        start_quantizer(&mut self.objective, passes, batches, around, seed)
    }

    fn split(batch: &Tensor, parts: usize) -> Vec<Tensor> {
        batch.chunk(parts as i64, 0)
    }

    fn step(&mut self, batch: &Tensor, at: At) -> Result<StepOutput, TrainError> {
        let images = images_from_bytes(&to_device_async(batch, self.device));
        let ImageStep { output, indices } = self.objective.step(&images, at)?;
        no_grad(|| self.used.add(&indices));
        Ok(output)
    }

    fn after_step(&mut self, merged: &[Statistic], _world: &World, seed: Seed) -> UpdateReport {
        self.objective.after_step(merged, seed)
    }

    fn validate(&mut self, around: &mut Surroundings) -> Result<Validated<Evaluation>, TrainError> {
        match self.evaluate(around.world) {
            Err(EvaluateError::Data(error)) => {
                // Listed; that they are too many is what the error says in its own words.
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
        let best = self.train.best_metric;
        let (_, value) = figures.iter().find(|(name, _)| *name == best.name())?;
        Some(Ranked {
            metric: best.name(),
            value: *value,
            higher_is_better: best.higher_is_better(),
            images: self.validation().images(&self.circumstances.val_data),
        })
    }

    fn show(&mut self, evaluation: Evaluation, around: &mut Surroundings) -> Result<(), TrainError> {
        self.exhibit(&evaluation, around);
        let remedy = self.collapse_remedy();
        let watched = evaluation.codebook.as_ref().zip(evaluation.vocabulary);
        if let Some((codebook, Vocabulary { size, .. })) = watched
            && let Some(warning) =
                self.train.collapse.watch(&mut self.collapse, Over::Evaluations, codebook, size, &remedy)
        {
            around.logger.warn(&warning);
        }
        self.note_bad(evaluation.bad, around)
    }

    fn row(&mut self) -> Vec<(String, f64)> {
        let figures = std::mem::replace(&mut self.used, fresh_use(&self.objective)).figures();
        let named = figures.named().into_iter().map(|(name, value)| (format!("codebook/{name}"), value));
        let row = named.collect();
        self.figures = Some(figures);
        row
    }

    fn watch(&mut self, row: &[(String, f64)], around: &mut Surroundings) {
        let remedy = self.collapse_remedy();
        let size = self.objective.tokenizer().quantizer.codebook().size;
        if let Some(codebook) = self.figures.take()
            && let Some(warning) =
                self.train.collapse.watch(&mut self.rows_collapsed, Over::LogRows, &codebook, size, &remedy)
        {
            around.logger.warn(&warning);
        }
        if let Some(warning) = self.duel.watch(row) {
            around.logger.warn(&warning);
        }
    }

    fn state(&self) -> serde_json::Result<Map<String, Value>> {
        let collapse = serde_json::to_value(self.collapse)?;
        let circumstances = serde_json::to_value(&self.circumstances)?;
        Ok([("collapse".to_owned(), collapse), ("circumstances".to_owned(), circumstances)]
            .into_iter()
            .collect())
    }

    fn resume(&mut self, saved: Option<&Value>, run: &RunFolder) -> Result<Vec<String>, TrainError> {
        let mut notes = vec![];
        if let Some(saved) = saved {
            let mut state = State::new(self.circumstances.clone());
            notes = state
                .resume(saved.clone(), self.accept_inexact, &self.data)
                .map_err(|error| error.with_changes(run.path(), &self.train_set))?;
            self.collapse = state.collapse;
            if let Some((data, eval)) = &self.before {
                let now = &self.circumstances.val_data;
                let then = State::parse(saved.clone()).map_err(TrainError::from)?;
                self.other_images = self.validation().differs(run, (data, eval), &then, now)?;
            }
        }
        check_rows(&run.path().join(BAD_SAMPLES_FILE))?;
        Ok(notes)
    }

    fn opened(&mut self, around: &mut Surroundings) -> Result<(), TrainError> {
        let run = around.run.folder().path();
        files::keep(run, &self.train_set)?;
        let validated = self.eval.images_of(self.val_set.len());
        let counted = BadSamples::new(validated, self.data.max_bad_fraction);
        self.bad = Some(BadLog::open(run, around.step, Split::Val, counted)?);
        self.other_images.take().map_or(Ok(()), |other| other.note(around))
    }
}
