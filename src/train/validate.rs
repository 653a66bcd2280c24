//! The trainer's evaluations: figures to the logs, pictures to the run folder, the collapse watch.

use std::sync::Arc;

use super::TrainError;
use super::bad_log::{Part, bad_of};
use super::collapse::Over;
use super::trainer::Trainer;
use crate::batches::Loader;
use crate::codec::{CodecError, Own, Vocabulary};
use crate::evaluate::{self, EvaluateError, Evaluation, Measures, Subject, evaluate};
use pixtok_images::picture::sheet;
use pixtok_torch::Precision;

/// Pictures on a sample sheet.
const SHEET_PICTURES: usize = 8;

impl Trainer {
    /// Evaluates raw and averaged weights; returns the raw ones' figures. Bad validation images and the like end
    /// the training, and what was trained until then is saved.
    pub(super) fn evaluate(&mut self) -> Result<Option<evaluate::Figures>, TrainError> {
        self.finite.finish()?;
        self.measure().or_else(|error| {
            if !matches!(
                error,
                TrainError::Evaluate(EvaluateError::Codec { source: CodecError::NotFinite(_), .. })
            ) {
                self.save(None, false)?;
            }
            Err(error)
        })
    }

    fn measure(&mut self) -> Result<Option<evaluate::Figures>, TrainError> {
        let step = self.state.step;
        let evaluation = match self.evaluate_weights() {
            Err(TrainError::Evaluate(EvaluateError::Data(error))) => {
                // Listed; that they are too many is what the error says in its own words.
                let _ = self.record_bad(Part::Val, bad_of(&error));
                return Err(EvaluateError::Data(error).into());
            }
            other => other?,
        };
        let mut row = prefixed("val", &evaluation.figures);
        if let Some(average) = self.average.take() {
            let averaged = average.in_place(|| self.evaluate_weights());
            self.average = Some(average);
            row.extend(prefixed("val_ema", &averaged?.figures));
        }
        let logged = self.logger.log(step, &row);
        self.warn_of(logged);
        self.show(&evaluation);
        let remedy = self.collapse_remedy();
        let collapse = &self.parts.train.collapse;
        if let (Some(codebook), Some(Vocabulary { size, .. })) = (&evaluation.codebook, evaluation.vocabulary)
            && let Some(warning) =
                collapse.watch(&mut self.state.collapse, Over::Evaluations, codebook, size, &remedy)
        {
            self.logger.warn(&warning);
        }
        self.record_bad(Part::Val, evaluation.bad)?;
        self.state.evaluated = step;
        self.window.restart_clock();
        Ok(Some(evaluation.figures))
    }

    fn evaluate_weights(&self) -> Result<Evaluation, TrainError> {
        let eval = &self.parts.eval;
        let val_set = Arc::clone(&self.parts.val_set);
        let pictures = evaluate::picture_names(&val_set, eval.bound(), SHEET_PICTURES);
        let loader =
            Loader::eval(val_set, &self.parts.data, eval.batch_size, eval.bound(), self.parts.device)?;
        let codec = Own { tokenizer: self.parts.objective.tokenizer(), precision: Precision::Fp32 };
        let subject = Subject::Codec { codec: &codec, loader, stability: false };
        let options = evaluate::Options { device: self.parts.device, pictures, foreign: false };
        Ok(evaluate(subject, &Measures::cheap(), &options)?)
    }

    /// A line, a sample sheet and histograms of codes and digits. Pictures that cannot be written stop nothing.
    fn show(&mut self, evaluation: &Evaluation) {
        let step = self.state.step;
        let value = |name| evaluation.figures.value(name).unwrap_or(f64::NAN);
        let line = format!(
            "step {step}: val psnr_db {:.2}, usage {:.3}, perplexity {:.1}",
            value("psnr_db"),
            value("usage"),
            value("perplexity")
        );
        self.logger.note(&line);
        if let Some(vocabulary) = evaluation.vocabulary {
            let codes = vocabulary.codebooks * vocabulary.size;
            let logged = self.logger.histogram(step, "val/code_counts", codes, &evaluation.counts);
            self.warn_of(logged);
            self.show_digits(evaluation, vocabulary);
        }
        let samples = self.parts.run.folder().path().join("samples");
        let originals = evaluation.originals.iter().map(|(_, picture)| picture.clone()).collect();
        let picture = sheet(&[originals, evaluation.reconstructions.clone()]);
        let Ok(png) = picture.to_png() else { return };
        let path = samples.join(format!("step-{step:06}.png"));
        // Only this folder is made, not those above: a deleted run folder must not come back
        // without its config.
        let made = match std::fs::create_dir(&samples) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        };
        let written = made.and_then(|()| std::fs::write(&path, &png));
        if let Err(error) = written {
            self.logger.warn(&format!("cannot write {}: {error}", path.display()));
        }
        let logged = self.logger.picture(step, "val/reconstructions", picture.width, picture.height, &png);
        self.warn_of(logged);
    }

    /// A histogram per latent dimension, where codes are made of digits.
    fn show_digits(&mut self, evaluation: &Evaluation, Vocabulary { codebooks, size }: Vocabulary) {
        let step = self.state.step;
        let Some(radix) = self.parts.objective.tokenizer().quantizer.digits() else { return };
        let mut histograms = vec![];
        // In the order of the codes, so each codebook's are together.
        for of_codebook in evaluation.counts.chunk_by(|a, b| a.0 / size == b.0 / size) {
            let codebook = of_codebook[0].0 / size;
            let own: Vec<_> = of_codebook.iter().map(|&(code, count)| (code % size, count)).collect();
            for ((dimension, level), counts) in radix.levels().iter().enumerate().zip(radix.histograms(&own))
            {
                let tag = match codebooks {
                    1 => format!("val/digits/{dimension}"),
                    _ => format!("val/digits/{codebook}/{dimension}"),
                };
                histograms.push((tag, *level, counts));
            }
        }
        for (tag, level, counts) in histograms {
            let logged = self.logger.histogram(step, &tag, level, &counts);
            self.warn_of(logged);
        }
    }
}

fn prefixed(prefix: &str, figures: &evaluate::Figures) -> Vec<(String, f64)> {
    figures.watched().into_iter().map(|(name, value)| (format!("{prefix}/{name}"), value)).collect()
}
