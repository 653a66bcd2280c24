//! The program's exit codes: 0 done, 1 failed, 2 misuse or bad config, 3 run folder in use, 4 a save failed,
//! 5 non-finite loss or weights, 6 too many bad images, 128 + n after signal n.

use crate::checkpoint;
use crate::codec::{AdapterError, CodecError};
use crate::config::{ConfigError, ResolveError};
use crate::evaluate::EvaluateError;
use crate::export::ExportError;
use crate::model::ModelError;
use crate::pretrained::NetError;
use crate::sweep::SweepError;
use crate::train::TrainError;
use pixtok_base::Misuse;
use pixtok_images::data::DataError;
use pixtok_tokens::TokensError;
use pixtok_torch::TorchError;

const FAILED: u8 = 1;
const MISUSE: u8 = 2;
const IN_USE: u8 = 3;
const SAVE_FAILED: u8 = 4;
const NOT_FINITE: u8 = 5;
const TOO_MANY_BAD: u8 = 6;

/// What is done to files that are being written.
const WRITING: [&str; 4] = ["create", "write", "make the folder", "rename"];

/// The exit code for an error.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            if cause.is::<Misuse>()
                || cause.is::<ConfigError>()
                || cause.is::<AdapterError>()
                || cause.is::<SweepError>()
                || cause.is::<NetError>()
                || cause.is::<ModelError>()
                || cause.is::<ResolveError>()
            {
                return Some(MISUSE);
            }
            None.or_else(|| cause.downcast_ref().map(of_training))
                .or_else(|| cause.downcast_ref().map(of_checkpoint))
                .or_else(|| cause.downcast_ref().map(of_data))
                .or_else(|| cause.downcast_ref().map(of_evaluation))
                .or_else(|| cause.downcast_ref().map(of_export))
                .or_else(|| cause.downcast_ref().map(of_tokens))
                .or_else(|| cause.downcast_ref().map(of_torch))
        })
        .unwrap_or(FAILED)
}

fn of_training(error: &TrainError) -> u8 {
    match error {
        TrainError::Config(_) | TrainError::State(_) | TrainError::Loss(_) => MISUSE,
        TrainError::NotFinite { .. } | TrainError::WeightsNotFinite { .. } => NOT_FINITE,
        TrainError::Diverged { cause, .. } => of_training(cause),
        TrainError::TooManyBad(_) => TOO_MANY_BAD,
        TrainError::Checkpoint(error) => of_checkpoint(error),
        TrainError::Data(error) => of_data(error),
        TrainError::Evaluate(error) => of_evaluation(error),
        TrainError::Quantizer(_) => NOT_FINITE,
        _ => FAILED,
    }
}

fn of_checkpoint(error: &checkpoint::Error) -> u8 {
    use checkpoint::Error;
    match error {
        Error::InUse { .. } => IN_USE,
        Error::SaveFailed { .. } => SAVE_FAILED,
        Error::NotWritable { source, .. } if checkpoint::is_full(source) => SAVE_FAILED,
        Error::Exists { .. }
        | Error::Remains { .. }
        | Error::NotARun { .. }
        | Error::NoCheckpoint { .. }
        | Error::NoAverage
        | Error::Mismatch { .. } => MISUSE,
        _ => FAILED,
    }
}

fn of_data(error: &DataError) -> u8 {
    match error {
        DataError::Setting { .. }
        | DataError::Missing(_)
        | DataError::NotAFolder(_)
        | DataError::NotImages(_)
        | DataError::Empty(_)
        | DataError::AllOmitted { .. }
        | DataError::EmptySplit { .. }
        | DataError::BatchTooLarge { .. }
        | DataError::NoInput(_)
        | DataError::UnknownInput(_)
        | DataError::Special { .. }
        | DataError::Compressed(_)
        | DataError::Ambiguous { .. }
        | DataError::Unclear(_)
        | DataError::NoImageColumn { .. }
        | DataError::SchemaDiffers { .. }
        | DataError::UnsafeKey { .. }
        | DataError::KeysClash { .. }
        | DataError::BadLine { .. } => MISUSE,
        DataError::NoGoodImages { .. } => TOO_MANY_BAD,
        _ => FAILED,
    }
}

fn of_evaluation(error: &EvaluateError) -> u8 {
    match error {
        EvaluateError::Data(error) => of_data(error),
        EvaluateError::NoImages(_) => TOO_MANY_BAD,
        EvaluateError::Pairs(_) => MISUSE,
        EvaluateError::Codec { source: CodecError::NotFinite(_), .. } => NOT_FINITE,
        EvaluateError::Codec { source: CodecError::Disagrees(_) | CodecError::Refuses { .. }, .. } => MISUSE,
        _ => FAILED,
    }
}

fn of_export(error: &ExportError) -> u8 {
    match error {
        ExportError::Output(_) | ExportError::KeysClash { .. } => MISUSE,
        ExportError::NoImages { .. } => TOO_MANY_BAD,
        ExportError::Data(error) => of_data(error),
        ExportError::Tokens(error) => of_tokens(error),
        ExportError::Saved(error) => of_checkpoint(error),
        ExportError::Io { action, .. } if WRITING.contains(action) => SAVE_FAILED,
        ExportError::Codec { source: CodecError::NotFinite(_), .. } => NOT_FINITE,
        ExportError::Codec { source: CodecError::Disagrees(_) | CodecError::Refuses { .. }, .. } => MISUSE,
        _ => FAILED,
    }
}

fn of_tokens(error: &TokensError) -> u8 {
    match error {
        TokensError::Unsuitable(_) => MISUSE,
        TokensError::Io { action, .. } if WRITING.contains(action) => SAVE_FAILED,
        _ => FAILED,
    }
}

fn of_torch(error: &TorchError) -> u8 {
    if matches!(error, TorchError::NoDevice(_)) { MISUSE } else { FAILED }
}
