//! The program's exit codes: 0 done, 1 failed, 2 misuse or bad config, 3 run folder in use, 4 a
//! save failed, 5 non-finite loss or weights, 6 too many bad images, 128 + n after signal n.

use std::error::Error;

use crate::adversarial::AdversarialError;
use crate::checkpoint::{self, SaveCause, WhichError};
use crate::codec::AdapterError;
use crate::config::{ConfigError, ResolveError};
use crate::evaluate::EvaluateError;
use crate::export::ExportError;
use crate::logger::LoggerError;
use crate::loss::LossError;
use crate::metrics::FrechetError;
use crate::model::ModelError;
use crate::optim::OptimError;
use crate::pretrained::NetError;
use crate::quantizer::QuantizerError;
use crate::sweep::SweepError;
use crate::tasks::tokenizer::CircumstancesError;
use crate::train::{StateError, TrainError};
use crate::world::{LaunchError, WorldError};
use pixtok_base::{Class, Classified, Misuse};
use pixtok_images::data::{DataError, Panicked, TooManyBad};
use pixtok_images::picture::PictureError;
use pixtok_report::ReportError;
use pixtok_tokens::TokensError;
use pixtok_torch::TorchError;
use pixtok_torch::tensors::{CopyError, WriteError};

/// Asks an error for its class, if it is of a certain type.
type Ask = fn(&(dyn Error + 'static)) -> Option<Class>;

/// The types of errors that know their class. They are listed because behind `anyhow` an error
/// reveals its type only to code that names it. `CodecError` is not listed: evaluations and exports
/// wrap it, and where a command meets it elsewhere, its code is 1.
const ASKED: &[Ask] = &[
    of::<AdapterError>,
    of::<AdversarialError>,
    of::<CircumstancesError>,
    of::<ConfigError>,
    of::<CopyError>,
    of::<DataError>,
    of::<EvaluateError>,
    of::<ExportError>,
    of::<FrechetError>,
    of::<LaunchError>,
    of::<LaunchError>,
    of::<LoggerError>,
    of::<LossError>,
    of::<Misuse>,
    of::<ModelError>,
    of::<NetError>,
    of::<OptimError>,
    of::<Panicked>,
    of::<PictureError>,
    of::<QuantizerError>,
    of::<ReportError>,
    of::<ResolveError>,
    of::<SaveCause>,
    of::<StateError>,
    of::<SweepError>,
    of::<TokensError>,
    of::<TooManyBad>,
    of::<TorchError>,
    of::<TrainError>,
    of::<WhichError>,
    of::<WorldError>,
    of::<WriteError>,
    of::<checkpoint::Error>,
];

fn of<E: Classified + Error + 'static>(error: &(dyn Error + 'static)) -> Option<Class> {
    error.downcast_ref::<E>().map(Classified::class)
}

/// The exit code for an error: the code of the first error in its chain that knows its class.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let class_of = |cause: &(dyn Error + 'static)| ASKED.iter().find_map(|ask| ask(cause));
    error.chain().find_map(class_of).unwrap_or(Class::Failed).exit_code()
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context, anyhow};

    use super::*;
    use crate::codec::{CodecError, Half};
    use pixtok_base::Action;
    use pixtok_images::data::BadSample;

    fn code(error: impl Into<anyhow::Error>) -> u8 {
        exit_code(&error.into())
    }

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    fn not_finite() -> TrainError {
        TrainError::NotFinite {
            step: 3,
            group: 0,
            name: "tokenizer",
            what: "loss is NaN".into(),
            samples: "images",
            names: vec![],
        }
    }

    fn too_many_bad() -> TooManyBad {
        let sample = BadSample { name: "a.png".into(), reason: "broken PNG".into() };
        TooManyBad { count: 2, total: 7, limit: 0.01, first: vec![sample] }
    }

    #[test]
    fn each_class_has_its_code() {
        let in_use = checkpoint::Error::InUse { folder: "run".into() };
        let cause = SaveCause::DiskFull { needed_bytes: 9, free_bytes: None };
        let unsaved = checkpoint::Error::SaveFailed { path: "run".into(), cause };
        assert_eq!(code(anyhow!("no class")), 1);
        assert_eq!(code(Misuse("give another".into())), 2);
        assert_eq!(code(in_use), 3);
        assert_eq!(code(unsaved), 4);
        assert_eq!(code(not_finite()), 5);
        assert_eq!(code(too_many_bad()), 6);
    }

    #[test]
    fn the_first_cause_with_a_class_decides_and_words_decide_nothing() {
        let wrapped = Err::<(), _>(not_finite()).context("cannot write checkpoints/run").unwrap_err();
        assert_eq!(code(wrapped), 5);
        let outer = Err::<(), _>(full()).context("cannot write the file, a misuse").unwrap_err();
        assert_eq!(code(outer), 1);
        // A base that cannot work is a mistake in the sweep, whatever is wrong with it.
        let source = ResolveError::Data(DataError::NoGoodImages { total: 2, bad: vec![] });
        assert_eq!(code(SweepError::Base { path: "base.toml".into(), source }), 2);
    }

    #[test]
    fn an_error_that_passes_on_another_has_its_class() {
        let diverged = |cause| TrainError::Diverged { cause: Box::new(cause), remedy: "lower it".into() };
        assert_eq!(code(diverged(not_finite())), 5);
        assert_eq!(code(TrainError::from(too_many_bad())), 6);
        assert_eq!(code(TrainError::from(EvaluateError::NoImages("none".into()))), 6);
        assert_eq!(code(TrainError::from(CircumstancesError::LossWeights)), 2);
        assert_eq!(code(TrainError::from(DataError::Missing("photos".into()))), 2);
        assert_eq!(code(TrainError::from(DataError::Loader("a thread is gone".into()))), 1);
        let in_use = checkpoint::Error::InUse { folder: "run".into() };
        assert_eq!(code(TrainError::from(in_use)), 3);
        let tokens = TokensError::Unsuitable("too many ids".into());
        assert_eq!(code(ExportError::from(tokens)), 2);
        // At the start a quantizer's error is about latents; in a config it is about a setting.
        let quantizer = || QuantizerError("not finite".into());
        assert_eq!(code(TrainError::from(quantizer())), 5);
        assert_eq!(code(ModelError::from(quantizer())), 2);
    }

    #[test]
    fn what_a_codec_does_is_told_apart_by_evaluations_and_exports() {
        for (number, expected) in [(0, 5), (1, 2), (2, 2), (3, 1)] {
            let source = || match number {
                0 => CodecError::NotFinite("latents"),
                1 => CodecError::Disagrees("other sizes".into()),
                2 => CodecError::Refuses { half: Half::Encoder, count: 3, reason: "shape".into() },
                _ => CodecError::Torch(TorchError::OutOfMemory("9 bytes".into())),
            };
            assert_eq!(code(EvaluateError::Codec { first: "a.png".into(), source: source() }), expected);
            assert_eq!(code(ExportError::Codec { key: "a".into(), source: source() }), expected);
            assert_eq!(code(source()), 1, "by itself");
        }
    }

    #[test]
    fn what_the_system_refused_decides_whether_a_save_failed() {
        for (action, expected) in [
            (Action::Create, 4),
            (Action::MakeFolder, 4),
            (Action::Write, 4),
            (Action::Rename, 4),
            (Action::Read, 1),
            (Action::Remove, 1),
        ] {
            let path = || "tokens".into();
            assert_eq!(code(ExportError::Io { action, path: path(), source: full() }), expected, "{action}");
            assert_eq!(code(TokensError::Io { action, path: path(), source: full() }), expected, "{action}");
        }
        let folder = || "run".into();
        let read_only = io::ErrorKind::PermissionDenied.into();
        assert_eq!(code(checkpoint::Error::NotWritable { folder: folder(), source: read_only }), 1);
        assert_eq!(code(checkpoint::Error::NotWritable { folder: folder(), source: full() }), 4);
        assert_eq!(code(checkpoint::Error::Io { action: "lock", path: folder(), source: full() }), 1);
    }

    #[test]
    fn a_checkpoint_that_was_asked_for_wrongly_is_told_from_a_damaged_one() {
        use checkpoint::Error;
        let path = || "run".into();
        let reason = || "it is empty".to_owned();
        assert_eq!(code(Error::Exists { folder: path() }), 2);
        assert_eq!(code(Error::Remains { folder: path() }), 2);
        assert_eq!(code(Error::NotARun { folder: path(), reason: reason() }), 2);
        assert_eq!(code(Error::NoAverage), 2);
        assert_eq!(code(Error::Mismatch { what: reason(), differences: reason() }), 2);
        assert_eq!(code(Error::Damaged { path: path(), reason: reason() }), 1);
        assert_eq!(code(Error::UnknownFormat { path: path(), found: 7, known: 1 }), 1);
    }
}
