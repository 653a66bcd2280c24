//! The root config of a tokenizer's training.

use serde::{Deserialize, Serialize};

use super::TrainConfig;
use crate::quantizer::QuantizerConfig;
use crate::tasks::{ResolveError, TaskKind};
use crate::train::TrainError;
use crate::variables::Component;
use crate::{adversarial, evaluate, loss, model, optim};
use pixtok_images::data;
use pixtok_report::definition;

/// All settings that define a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained; absent: a tokenizer.
    #[serde(default, skip_serializing_if = "TaskKind::is_default")]
    pub task: TaskKind,
    /// The seed of all random decisions.
    #[serde(default)]
    pub seed: u64,
    /// The images: where they are and how they are prepared.
    #[serde(default)]
    pub data: data::Config,
    /// The encoder and the decoder.
    #[serde(default, with = "model::written")]
    pub model: model::Config,
    /// The quantizer; the only part without a default.
    pub quantizer: QuantizerConfig,
    /// The terms of the loss.
    #[serde(default)]
    pub loss: loss::Config,
    /// The discriminator and its loss; `None` trains without an adversary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<adversarial::Config>,
    /// The optimizer and its schedule.
    #[serde(default)]
    pub optimizer: optim::Config,
    /// The settings of the training loop, and the parts of the tokenizer that stay as they are.
    #[serde(default)]
    pub train: TrainConfig,
    /// The evaluations.
    #[serde(default)]
    pub eval: evaluate::Config,
}

impl Config {
    /// The config with the defaults of absent keys filled in.
    #[must_use]
    pub fn resolved(self) -> Self {
        Self { model: self.model.resolved(), quantizer: self.quantizer.resolved(), ..self }
    }

    /// Checks every value, and that the parts fit together. Reads no files.
    ///
    /// # Errors
    /// [`ResolveError`], which names the key, its value and the remedy.
    pub fn check(&self) -> Result<(), ResolveError> {
        if self.task != TaskKind::Tokenizer {
            return Err(ResolveError::Other(format!(
                "task is {}; give the config of a tokenizer",
                self.task
            )));
        }
        if i64::try_from(self.seed).is_err() {
            return Err(ResolveError::Other(format!("seed is {}; it must be under 2^63", self.seed)));
        }
        if self.eval.batch_size == 0 {
            return Err(ResolveError::Other("eval.batch_size is 0; it must be 1 or more".into()));
        }
        self.data.check()?;
        self.plan()?;
        self.loss.check(self.image_size()).map_err(TrainError::from)?;
        if let Some(adversarial) = &self.adversarial {
            adversarial.check(self.image_size())?;
            adversarial.check_steps(self.train.steps)?;
            let adaptive = matches!(adversarial.weighting, adversarial::Weighting::Adaptive { .. });
            if adaptive && self.train.freeze.contains(&Component::Decoder) {
                return Err(ResolveError::Other(
                    "adversarial.weighting is adaptive, which needs the decoder's gradients, but train.freeze contains the decoder; \
                     choose kind = \"fixed\", or do not freeze the decoder"
                        .into(),
                ));
            }
        }
        self.check_buckets()?;
        self.optimizer.check(self.train.steps).map_err(TrainError::from)?;
        self.train.check()?;
        let step = self.quantizer.settings().check_step(self.vectors_of_a_micro_batch()?);
        Ok(step.map_err(model::ModelError::from)?)
    }

    /// Checks what depends on the size of the images, for each bucket.
    fn check_buckets(&self) -> Result<(), ResolveError> {
        let Some(sizes) = &self.data.buckets else { return Ok(()) };
        let discriminator = self.adversarial.as_ref().map(|adversarial| &adversarial.discriminator);
        if sizes.len() > 1
            && let Some(adversarial::DiscriminatorConfig::Stylegan(_)) = discriminator
        {
            return Err(ResolveError::Other(
                "adversarial.discriminator.kind is stylegan, which takes images of one size, and data.buckets has several; \
                 choose kind = \"patch\", or leave data.buckets out"
                    .into(),
            ));
        }
        let plan = self.plan()?;
        let (multiple, only) = (plan.side_multiple(), plan.only_size());
        for size in sizes {
            let fail = |reason: String| ResolveError::Other(format!("data.buckets has {size}: {reason}"));
            for side in [size.height, size.width].map(i64::from) {
                if side < multiple || side % multiple != 0 {
                    return Err(fail(format!(
                        "{side} is no multiple of {multiple}, as the model needs; the nearest that are: {}",
                        model::nearest_multiples(side, multiple)
                    )));
                }
            }
            if let Some(only) = only.filter(|only| only != size) {
                return Err(fail(format!(
                    "the model takes images of {only} alone; choose model.positions = \"rope\", or model.extension = \
                     \"interpolate\" where the network has it, or leave data.buckets out"
                )));
            }
            let pixels = (i64::from(size.height), i64::from(size.width));
            self.loss.check(pixels).map_err(|error| fail(error.to_string()))?;
            if let Some(adversarial) = &self.adversarial {
                adversarial.check(pixels).map_err(|error| fail(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Refuses settings that a new training must not start with, although earlier runs with them
    /// still open and resume. Reads no files.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn check_new_training(&self) -> Result<(), ResolveError> {
        self.check_best_metric()?;
        // A frozen quantizer does not learn, so these settings do no harm.
        if self.train.keeps_tokens() {
            return Ok(());
        }
        Ok(self.quantizer.settings().check_new_training().map_err(model::ModelError::from)?)
    }

    /// Refuses a `train.best_metric` that cannot be computed on images of this size.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn check_best_metric(&self) -> Result<(), ResolveError> {
        let (height, width) = self.image_size();
        let metric = self.train.best_metric.name();
        let least = definition(metric).map_or(1, |known| known.least_side);
        if height.min(width) < least {
            return Err(ResolveError::Other(format!(
                "train.best_metric is {metric}, which needs images of at least {least} pixels on each side, but data.image_size \
                 is {}; choose psnr_db or l1, or raise data.image_size",
                self.data.image_size
            )));
        }
        Ok(())
    }

    /// Advice on settings that work but are discouraged, or that have no effect: one sentence each.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn advice(&self) -> Result<Vec<String>, ResolveError> {
        let settings = self.quantizer.settings();
        let mut advice: Vec<String> = if self.train.freeze.contains(&Component::Quantizer) {
            settings.check_new_training().err().map(|error| error.to_string()).into_iter().collect()
        } else {
            settings.advice(self.vectors_of(self.train.batch_size)?).iter().map(ToString::to_string).collect()
        };
        advice.extend(self.optimizer.warmup_advice("optimizer", self.train.steps));
        advice.extend(self.adversarial.iter().flat_map(|adversarial| adversarial.advice(self.train.steps)));
        Ok(advice)
    }

    /// The largest number of latent vectors that the quantizer gets per micro-batch in training.
    ///
    /// # Errors
    /// The same as [`Config::check`].
    pub fn vectors_of_a_micro_batch(&self) -> Result<i64, ResolveError> {
        self.vectors_of(self.train.batch_size / self.train.micro_batches)
    }

    /// The encoder and the decoder that these settings make, before they are built.
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    pub fn plan(&self) -> Result<Box<dyn model::Plan>, model::ModelError> {
        let network = self.model.settings();
        let plan = network.plan(&self.quantizer, (&self.data).into())?;
        if let Some(&settings) = network.tail_drop() {
            model::tail_drop::check(settings, plan.shape())?;
        }
        Ok(plan)
    }

    /// The number of latent vectors of images of the largest size.
    fn vectors_of(&self, images: usize) -> Result<i64, ResolveError> {
        let shape = self.plan()?.shape();
        let growth = if shape.grid().is_some() { self.largest_growth() } else { 1.0 };
        let positions = (shape.positions() as f64 * growth).round() as i64;
        Ok(positions.saturating_mul(images as i64))
    }

    /// The pixels of the largest training images as a multiple of those of `data.image_size`, for
    /// which the network is planned.
    #[must_use]
    pub fn largest_growth(&self) -> f64 {
        self.data.largest_size().pixels() as f64 / self.data.image_size.pixels() as f64
    }

    /// Whether training draws random numbers for single images, apart from how they are cropped and
    /// mirrored.
    #[must_use]
    pub fn draws_noise(&self) -> bool {
        let augments = self.adversarial.as_ref().is_some_and(|adversarial| !adversarial.augment.is_empty());
        augments || self.model.settings().draws_noise() || self.quantizer.settings().draws_noise()
    }

    /// Describes how a step in micro-batches differs from one on the whole batch, apart from
    /// rounding. `None` if it does not.
    #[must_use]
    pub fn micro_batch_terms(&self) -> Option<String> {
        let parts = self.train.micro_batches;
        let quantizer = self.quantizer.settings().batch_terms();
        let quantizer = quantizer.into_iter().map(|key| format!("the entropy loss (quantizer.{key})"));
        let adversarial = self.adversarial.iter().flat_map(adversarial::Config::batch_terms);
        let terms: Vec<String> = quantizer.chain(adversarial).collect();
        (parts > 1 && !terms.is_empty()).then(|| {
            format!(
                "{parts} of {} images; computed over each micro-batch, not over the {} images of the step: {}",
                self.train.batch_size / parts,
                self.train.batch_size,
                terms.join(", ")
            )
        })
    }

    /// Height and width of the images that the model sees, in pixels.
    #[must_use]
    pub fn image_size(&self) -> (i64, i64) {
        let size = self.data.image_size;
        (i64::from(size.height), i64::from(size.width))
    }
}
