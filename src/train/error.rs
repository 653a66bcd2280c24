//! Why a training ended early.

use crate::codec::CodecError;
use crate::evaluate::EvaluateError;
use crate::loss::LossError;
use crate::model::ModelError;
use crate::optim::OptimError;
use crate::quantizer::QuantizerError;
use crate::{checkpoint, logger};
use pixtok_base::{Class, Classified};
use pixtok_images::data::{DataError, TooManyBad};
use pixtok_torch::TorchError;

/// An error of the loop; some variants have an exit code of their own.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting is out of its range.
    #[error("{0}")]
    Config(String),
    /// The loss or its gradient is NaN or infinite; the weights are those before the step.
    #[error(
        "step {step} stopped before the optimizer: the {group}'s {what} (images of the batch: {})",
        .names.join(", ")
    )]
    NotFinite {
        /// Counted from 1.
        step: u64,
        /// The group of parameters.
        group: &'static str,
        /// Which number, and what it is.
        what: String,
        /// Files of the batch.
        names: Vec<String>,
    },
    /// A step made weights that are NaN or infinite; they are not saved.
    #[error("the weights after step {step} are not finite ({name}), so they were not saved")]
    WeightsNotFinite {
        /// Steps done.
        step: u64,
        /// One of the weights.
        name: String,
        /// Whether it belongs to the discriminator, which trains beside the model.
        of_companion: bool,
    },
    /// An error about non-finite numbers, with a way to go on.
    #[error("{}; {remedy}", chain(.cause))]
    Diverged {
        /// What happened.
        cause: Box<TrainError>,
        /// From which checkpoint to go on, with which settings.
        remedy: String,
    },
    /// More unreadable images than `data.max_bad_fraction` allows.
    #[error(transparent)]
    TooManyBad(#[from] TooManyBad),
    /// The last checkpoint could not be saved.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Saved state that does not fit this run.
    #[error(transparent)]
    State(#[from] StateError),
    /// Reading images failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The evaluation failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The encoder takes no images of this size.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// From the quantizer's start.
    #[error(transparent)]
    Quantizer(#[from] QuantizerError),
    /// From the optimizer.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// Of the loss settings.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Logger(#[from] logger::LoggerError),
    /// From libtorch, memory exhausted among others.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A file of the run folder that is neither log nor checkpoint.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The saved state belongs to other circumstances.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error(
        "the checkpoint's state.json does not fit this version of pixtok ({0}); go on with the version that wrote it, or start a new run \
         with --init-from"
    )]
    Unreadable(#[from] serde_json::Error),
    /// Another thread count.
    #[error(
        "the run was trained with {saved} and would go on with {now}, which rounds differently; use {remedy}, or \
         --accept-inexact to go on all the same"
    )]
    Inexact {
        /// Then.
        saved: String,
        /// Now.
        now: String,
        /// The flag that makes them the same.
        remedy: String,
    },
    /// Other images.
    #[error(
        "the images in {folder} are not those that the run began with ({what}); name the run's own folder with --data and \
         --val-data, restore the files, or start a new run with --init-from"
    )]
    Data {
        /// Where they are.
        folder: String,
        /// What differs.
        what: String,
    },
    /// Other weights of the loss.
    #[error(
        "the run began with other weights of loss.network than these; give the file it began with by --lpips-weights, or start a \
         new run with --init-from"
    )]
    LossWeights,
}

impl Classified for StateError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl TrainError {
    /// Whether an evaluation met numbers that are not finite, so that the weights are no use.
    pub(super) fn is_of_evaluated_weights(&self) -> bool {
        matches!(self, Self::Evaluate(EvaluateError::Codec { source: CodecError::NotFinite(_), .. }))
    }

    /// Whether reading the training's data failed, which says nothing against the weights.
    pub(super) fn is_of_data(&self) -> bool {
        matches!(self, Self::TooManyBad(_) | Self::Data(_))
    }
}

impl Classified for TrainError {
    fn class(&self) -> Class {
        match self {
            Self::Config(_) => Class::Misuse,
            Self::NotFinite { .. } | Self::WeightsNotFinite { .. } => Class::NotFinite,
            Self::Diverged { cause, .. } => cause.class(),
            Self::TooManyBad(error) => error.class(),
            Self::Checkpoint(error) => error.class(),
            Self::State(error) => error.class(),
            Self::Data(error) => error.class(),
            Self::Evaluate(error) => error.class(),
            Self::Model(error) => error.class(),
            // The settings were checked before: what cannot start a codebook are its latents.
            Self::Quantizer(_) => Class::NotFinite,
            Self::Optim(error) => error.class(),
            Self::Loss(error) => error.class(),
            Self::Logger(error) => error.class(),
            Self::Torch(error) => error.class(),
            Self::Write { .. } => Class::Failed,
        }
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
