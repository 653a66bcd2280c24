//! The evaluations during training: figures for the logs, and pictures for the run folder.

use std::collections::HashSet;
use std::sync::Arc;

use super::TokenizerTask;
use crate::batches::{Loader, share_of};
use crate::codec::{Own, Vocabulary};
use crate::evaluate::{self, EvaluateError, Evaluation, Measures, Passed, Subject, evaluate_watched};
use crate::train::Surroundings;
use crate::world::World;
use pixtok_torch::Precision;

impl TokenizerTask {
    /// The validation images through the tokenizer. `status` gets a line about each batch.
    pub(super) fn evaluate(
        &self,
        world: &World,
        status: &mut dyn FnMut(&str),
    ) -> Result<Evaluation, EvaluateError> {
        let eval = &self.eval;
        let val_set = Arc::clone(&self.val_set);
        let device = self.objective.device();
        let loader = Loader::eval(val_set, &self.data, eval.batch_size, eval.bound(), device, world)?;
        let codec = Own { tokenizer: self.objective.tokenizer(), precision: Precision::Fp32 };
        let subject = Subject::Codec { codec: &codec, loader, stability: false };
        let options =
            evaluate::Options { device, pictures: HashSet::new(), foreign: false, world: world.clone() };
        let (images, mut seen) = (self.val_set.evaluated_by(share_of(world), eval.bound()).len(), 0);
        let mut watch = |passed: &Passed| {
            seen += passed.names.len() + passed.bad.len();
            status(&format!("evaluating: {seen} of {images}"));
        };
        evaluate_watched(subject, &Measures::cheap(), &options, &mut watch)
    }

    /// Shows a line, a sample sheet and histograms of codes and digits.
    pub(super) fn exhibit(&self, evaluation: &Evaluation, around: &mut Surroundings) {
        let step = around.step;
        let value = |name| evaluation.figures.value(name).unwrap_or(f64::NAN);
        let line = format!(
            "step {step}: val psnr_db {:.2}, usage {:.3}, perplexity {:.1}",
            value("psnr_db"),
            value("usage"),
            value("perplexity")
        );
        around.logger.note(&line);
        if let Some(vocabulary) = evaluation.vocabulary {
            let codes = vocabulary.codebooks * vocabulary.size;
            let logged = around.logger.histogram(step, "val/code_counts", codes, &evaluation.counts);
            around.warn_of(logged);
            self.show_digits(evaluation, vocabulary, around);
        }
        self.show_samples(around);
    }

    /// Writes the sample sheet of this step. If it cannot be made or written, the training goes on.
    pub(super) fn show_samples(&self, around: &mut Surroundings) {
        let codec = Own { tokenizer: self.objective.tokenizer(), precision: Precision::Fp32 };
        let sheet = self.samples.sheet(&codec, self.objective.device(), self.eval.batch_size);
        let png = sheet
            .and_then(|sheet| Ok(sheet.map(|sheet| sheet.to_png().map(|png| (sheet, png))).transpose()?));
        let (picture, png) = match png {
            Ok(Some(made)) => made,
            Ok(None) => return,
            Err(error) => {
                return around.logger.warn(&format!("no sample sheet of step {}: {error}", around.step));
            }
        };
        let (step, folder) = (around.step, around.run.folder().path().join("samples"));
        let path = folder.join(format!("step-{step:06}.png"));
        // Creates only this folder, not its parents: a deleted run folder must not reappear without
        // its config.
        let made = match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        };
        let written = made.and_then(|()| std::fs::write(&path, &png));
        if let Err(error) = written {
            around.logger.warn(&format!("cannot write {}: {error}", path.display()));
        }
        let logged = around.logger.picture(step, "val/reconstructions", picture.width, picture.height, &png);
        around.warn_of(logged);
    }

    /// Shows a histogram for each latent dimension, if codes consist of digits.
    fn show_digits(
        &self,
        evaluation: &Evaluation,
        Vocabulary { codebooks, size }: Vocabulary,
        around: &mut Surroundings,
    ) {
        let step = around.step;
        let Some(radix) = self.objective.tokenizer().quantizer.digits() else { return };
        let mut histograms = vec![];
        // In the order of the codes, so that the entries of each codebook are adjacent.
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
            let logged = around.logger.histogram(step, &tag, level, &counts);
            around.warn_of(logged);
        }
    }
}
