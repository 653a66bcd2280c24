//! What the training loop has to know of the errors of its images, losses and evaluations.

use crate::codec::CodecError;
use crate::evaluate::EvaluateError;
use crate::loss::LossError;
use crate::quantizer::QuantizerError;
use crate::train::{About, TaskError, TrainError};
use pixtok_base::{Class, Classified};
use pixtok_images::data::{DataError, TooManyBad};

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
