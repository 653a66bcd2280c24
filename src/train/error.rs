//! Why a training ended early.

use crate::codec::CodecError;
use crate::evaluate::EvaluateError;
use crate::loss::LossError;
use crate::optim::OptimError;
use crate::quantizer::QuantizerError;
use crate::{checkpoint, logger};
use pixtok_base::{Class, Classified};
use pixtok_images::data::{DataError, TooManyBad};
use pixtok_torch::TorchError;

/// An error of the training loop. Its class decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting is out of its range. The text names it, its value and what is allowed.
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
        /// The name of the group of parameters.
        group: &'static str,
        /// Which number is not finite, and its value.
        what: String,
        /// The files of the batch.
        names: Vec<String>,
    },
    /// A step made weights that are NaN or infinite; they are not saved.
    #[error("the weights after step {step} are not finite ({name}), so they were not saved")]
    WeightsNotFinite {
        /// The number of completed steps.
        step: u64,
        /// The name of one such weight.
        name: String,
        /// Whether it belongs to the discriminator, which trains beside the model.
        of_companion: bool,
    },
    /// Numbers that are not finite, with advice on how to go on.
    #[error("{}; {remedy}", chain(.cause))]
    Diverged {
        /// The original error.
        cause: Box<TrainError>,
        /// The checkpoint and the settings to go on with.
        remedy: String,
    },
    /// More unreadable images than `data.max_bad_fraction` allows.
    #[error(transparent)]
    TooManyBad(#[from] TooManyBad),
    /// The last checkpoint could not be saved.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The saved state does not fit this run.
    #[error(transparent)]
    State(#[from] StateError),
    /// Reading images failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The evaluation failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The quantizer could not be started.
    #[error(transparent)]
    Quantizer(#[from] QuantizerError),
    /// The optimizer failed.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// The loss settings are wrong.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Logger(#[from] logger::LoggerError),
    /// libtorch failed, for instance because memory is exhausted.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A file in the run folder, other than a log or a checkpoint, could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// The saved state does not fit the circumstances of this process.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state cannot be read.
    #[error(
        "the checkpoint's state.json does not fit this version of pixtok ({0}); go on with the version that wrote it, or start a new run \
         with --init-from"
    )]
    Unreadable(#[from] serde_json::Error),
    /// The thread count, the hardware or the software differs.
    #[error(
        "the run was trained with {saved} and would go on with {now}, which rounds differently; use {remedy}, or \
         --accept-inexact to go on all the same"
    )]
    Inexact {
        /// What the run was trained with.
        saved: String,
        /// What it would go on with.
        now: String,
        /// The flag that makes them equal.
        remedy: String,
    },
    /// The images differ.
    #[error(
        "the images in {folder} are not those that the run began with ({what}); name the run's own folder with --data and \
         --val-data, restore the files, or start a new run with --init-from"
    )]
    Data {
        /// The folder of the images.
        folder: String,
        /// What differs.
        what: String,
    },
    /// The weights of the loss's network differ.
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
    /// Whether an evaluation met numbers that are not finite, so that the weights are useless.
    pub(super) fn is_of_evaluated_weights(&self) -> bool {
        matches!(self, Self::Evaluate(EvaluateError::Codec { source: CodecError::NotFinite(_), .. }))
    }

    /// Whether the training data could not be read, which says nothing about the weights.
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
            // The settings were checked before, so only bad latents can keep a codebook from
            // starting.
            Self::Quantizer(_) => Class::NotFinite,
            Self::Optim(error) => error.class(),
            Self::Loss(error) => error.class(),
            Self::Logger(error) => error.class(),
            Self::Torch(error) => error.class(),
            Self::Write { .. } => Class::Failed,
        }
    }
}

/// The messages of an error and of its causes, joined.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
