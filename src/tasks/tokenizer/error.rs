//! Errors of a run's circumstances, and what the training loop has to know of the errors of its
//! images, losses and evaluations.

use crate::codec::CodecError;
use crate::evaluate::EvaluateError;
use crate::loss::LossError;
use crate::model::ModelError;
use crate::quantizer::QuantizerError;
use crate::train::{About, StateError, TaskError, TrainError};
use pixtok_base::{Class, Classified};
use pixtok_images::data::{DataError, TooManyBad};

/// A checkpoint was saved under other circumstances, so that the run would not be the same.
#[derive(Debug, thiserror::Error)]
pub enum CircumstancesError {
    /// Another thread count or kind of device.
    #[error(transparent)]
    Inexact(#[from] StateError),
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
    /// The checkpoint's version drew random numbers by micro-batch.
    #[error(
        "the checkpoint was saved by an earlier version, which drew the random numbers of \
         quantizer.noise_probability, of restarted codes and of adversarial.augment for each \
         micro-batch; now each image has its own, so the run cannot go on exactly. Finish it with the \
         version that began it, start a new run with --init-from, or use --accept-inexact to go on all \
         the same"
    )]
    Noise,
}

impl Classified for CircumstancesError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl From<CircumstancesError> for TrainError {
    fn from(error: CircumstancesError) -> Self {
        TaskError::new(error.class(), About::Other, error).into()
    }
}

impl From<ModelError> for TrainError {
    fn from(error: ModelError) -> Self {
        TaskError::new(error.class(), About::Other, error).into()
    }
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        TaskError::new(error.class(), About::Data, error).into()
    }
}

impl From<TooManyBad> for TrainError {
    fn from(error: TooManyBad) -> Self {
        TaskError::new(error.class(), About::Data, error).into()
    }
}

impl From<EvaluateError> for TrainError {
    fn from(error: EvaluateError) -> Self {
        let of_weights = matches!(error, EvaluateError::Codec { source: CodecError::NotFinite(_), .. });
        let about = if of_weights { About::Weights } else { About::Other };
        TaskError::new(error.class(), about, error).into()
    }
}

impl From<QuantizerError> for TrainError {
    fn from(error: QuantizerError) -> Self {
        // The settings were checked before: what cannot start a codebook are its latents.
        TaskError::new(Class::NotFinite, About::Other, error).into()
    }
}

impl From<LossError> for TrainError {
    fn from(error: LossError) -> Self {
        TaskError::new(error.class(), About::Other, error).into()
    }
}
