//! The only training loop.

use std::sync::Arc;

use tch::Tensor;

use super::bad_log::{BAD_SAMPLES_FILE, BadLog, Part, bad_of};
use super::collapse::{CollapseCount, Over};
use super::duel::Duel;
use super::files;
use super::finite::{FiniteCheck, GroupNumbers, GroupTensors};
use super::group::Group;
use super::objective::At;
use super::parts::{Outcome, Parts};
use super::persist::Live;
use super::start::{Source, Start, start_quantizer};
use super::window::{Window, of_group};
use super::{State, TrainError};
use crate::batches::{Batch, Loader};
use crate::checkpoint::Resumed;
use crate::logger::{Logger, LoggerError, LoggerOptions, METRICS_FILE, check_rows};
use crate::model::{TokenShape, images_from_bytes};
use crate::optim::WeightAverage;
use crate::quantizer::{Monitor, merge};
use pixtok_images::data::{BadSample, BadSamples, DataError};
use pixtok_torch::{catching, to_device_async, with_precision, with_tf32};

/// A training under way.
pub struct Trainer {
    pub(super) parts: Parts,
    pub(super) state: State,
    pub(super) groups: Vec<Group>,
    pub(super) average: Option<WeightAverage>,
    pub(super) logger: Logger,
    pub(super) bad: BadLog,
    pub(super) finite: FiniteCheck,
    pub(super) window: Window,
    /// A resumed run counts anew: its first row holds fewer tokens than the undisturbed run's.
    rows_collapsed: CollapseCount,
    /// The same.
    duel: Duel,
}

impl Trainer {
    /// Loads the checkpoint, if there is one, and opens the logs at its step. Nothing on disk
    /// changes unless the checkpoint fits.
    ///
    /// # Errors
    /// A checkpoint that does not fit, or logs that cannot be opened.
    pub fn new(mut parts: Parts) -> Result<Self, TrainError> {
        let groups: Vec<Group> = parts.objective.groups().into_iter().map(Group::new).collect();
        let average = (parts.train.ema_decay > 0.0).then(|| parts.weight_average());
        let mut state = parts.state.clone();
        let (mut notes, mut other_images) = (vec![], None);
        let resumed = parts.resumed.is_some();
        let Resumed { loaded, damaged } = parts.resumed.take().unwrap_or_default();
        if let Some(loaded) = loaded {
            let live = Live { objective: &*parts.objective, groups: &groups, average: average.as_ref() };
            let saved = loaded.snapshot.state.clone();
            notes = state
                .resume(saved.clone(), parts.accept_inexact, &parts.data)
                .map_err(|error| error.with_changes(parts.run.folder().path(), &parts.train_set))?;
            live.restore(&loaded.snapshot)?;
            if let Some((data, eval)) = &parts.before {
                let (folder, now) = (parts.run.folder(), &state.circumstances.val_data);
                other_images =
                    parts.validation().differs(folder, (data, eval), &State::parse(saved)?, now)?;
            }
        }
        let run = parts.run.folder().path();
        for log in [METRICS_FILE, BAD_SAMPLES_FILE] {
            check_rows(&run.join(log))?;
        }
        for damaged in &damaged {
            let (path, aside) = (damaged.path.display(), parts.run.set_aside(damaged)?);
            notes.push(format!("{path} is damaged: {}; it is now {}", damaged.reason, aside.display()));
        }
        if resumed {
            // If the run now keeps fewer checkpoints, this frees space. The checkpoint it resumes
            // from is the newest.
            parts.run.retain(parts.train.keep_checkpoints)?;
        }
        let options = LoggerOptions { total_steps: parts.train.steps, start_step: state.step, resumed };
        files::keep(run, &parts.train_set)?;
        let mut logger = Logger::open(run, options)?;
        for note in notes {
            logger.note(&note);
        }
        let count = |total: usize| BadSamples::new(total, parts.data.max_bad_fraction);
        let validated = parts.eval.images_of(parts.val_set.len());
        let bad = BadLog::open(run, state.step, count(parts.train_set.len()), count(validated))?;
        let finite = FiniteCheck::new(parts.device);
        let window = Window::new(&parts.objective.tokenizer().codebook());
        let mut trainer = Self {
            parts,
            state,
            groups,
            average,
            logger,
            bad,
            finite,
            window,
            rows_collapsed: CollapseCount::default(),
            duel: Duel::default(),
        };
        if let Some(other) = other_images {
            trainer.note_other_images(other)?;
        }
        Ok(trainer)
    }

    /// Trains to the last step, or until a signal.
    pub(super) fn train(&mut self) -> Result<Outcome, TrainError> {
        let text = self.parts.config_text.clone();
        let logged = self.logger.text(0, "config", &text);
        self.warn_of(logged);
        if self.state.step == 0 {
            if self.parts.save_first {
                self.save(None, true)?;
            }
            if self.start()? == Start::Stopped
                && let Some(signal) = self.parts.signals.came()
            {
                let saved = self.save(None, true)?;
                let checkpoint = saved.unwrap_or_else(|| self.parts.run.folder().checkpoint_path(0));
                return Ok(Outcome::Interrupted { signal, checkpoint });
            }
            self.window.restart_clock();
        }
        let mut loader = Loader::train(
            Arc::clone(&self.parts.train_set),
            &self.parts.data,
            self.parts.train.batch_size,
            self.parts.seed,
            self.state.cursor,
            self.parts.device,
        )?;
        let mut saved = None;
        if self.owes_evaluation() {
            let figures = self.evaluate()?;
            saved = self.save(figures, true)?;
        }
        self.logger.begin_steps();
        while self.state.step < self.parts.train.steps {
            let batch = match self.next_batch(&mut loader) {
                Err(error @ (TrainError::TooManyBad(_) | TrainError::Data(_))) if self.state.step > 0 => {
                    self.save(None, false)?;
                    return Err(error);
                }
                other => other?,
            };
            self.step(&batch)?;
            self.state.step += 1;
            self.state.cursor = batch.cursor;
            let last = self.state.step == self.parts.train.steps;
            let signal = self.parts.signals.came();
            if self.due(self.parts.train.log_every) || last {
                self.log_window()?;
            }
            let figures = if self.due(self.parts.train.eval_every) || last { self.evaluate()? } else { None };
            let best = figures.as_ref().is_some_and(|figures| self.is_best(figures));
            if self.due(self.parts.train.checkpoint_every) || best || last || signal.is_some() {
                saved = self.save(figures, last || signal.is_some())?.or(saved);
            }
            if let (Some(signal), Some(checkpoint)) = (signal, &saved) {
                return Ok(Outcome::Interrupted { signal, checkpoint: checkpoint.clone() });
            }
        }
        let checkpoint = saved.unwrap_or_else(|| self.parts.run.folder().checkpoint_path(self.state.step));
        Ok(Outcome::Finished { checkpoint })
    }

    /// Whether the checkpoint was saved because its evaluation failed.
    fn owes_evaluation(&self) -> bool {
        let (state, train) = (&self.state, &self.parts.train);
        let wanted = self.due(train.eval_every) || state.step == train.steps;
        state.step > 0 && wanted && state.evaluated != state.step
    }

    fn due(&self, every: u64) -> bool {
        self.state.step.is_multiple_of(every)
    }

    fn start(&mut self) -> Result<Start, TrainError> {
        let parts = &mut self.parts;
        let source = Source {
            dataset: &parts.train_set,
            data: &parts.data,
            train: &parts.train,
            seed: parts.seed,
            device: parts.device,
            precision: parts.precision,
            signals: &parts.signals,
        };
        let started = start_quantizer(&mut *parts.objective, &source, &mut self.logger);
        if let Err(TrainError::Data(error)) = &started {
            // Listed; that they are too many is what the error says in its own words.
            let _ = self.record_bad(Part::Train, bad_of(error));
        }
        let started = started?;
        if let (Start::Done, Some(average)) = (started, &mut self.average) {
            // What the start wrote is no step of the average.
            *average = self.parts.weight_average();
        }
        Ok(started)
    }

    /// What to try when the codebook collapses.
    pub(super) fn collapse_remedy(&self) -> String {
        let (parts, tokenizer) = (&self.parts, self.parts.objective.tokenizer());
        // Of a size that was checked.
        let positions = tokenizer.shape(parts.data.image_size).map_or(0, TokenShape::positions) as i64;
        tokenizer.quantizer.collapse_remedy(positions.saturating_mul(parts.train.batch_size as i64))
    }

    fn next_batch(&mut self, loader: &mut Loader) -> Result<Batch, TrainError> {
        let mut next = loader.next().ok_or_else(|| DataError::Loader("it ended".into()))?;
        let bad = next.as_mut().map_or_else(|error| bad_of(error), |batch| std::mem::take(&mut batch.bad));
        let counted = self.record_bad(Part::Train, bad);
        let batch = next?;
        counted?;
        Ok(batch)
    }

    /// Lists bad images; a list that cannot be written stops nothing.
    pub(super) fn record_bad(&mut self, part: Part, bad: Vec<BadSample>) -> Result<(), TrainError> {
        // The step under way, or the one just done.
        let step = self.state.step + u64::from(part == Part::Train);
        let recorded = self.bad.record(step, part, bad);
        if recorded.new > 0 {
            let (new, set) = (recorded.new, part.name());
            self.logger
                .warn(&format!("step {step}: skipped {new} bad {set} image(s), see bad_samples.jsonl"));
        }
        if let Some(error) = recorded.unwritten {
            self.logger.warn(&format!("cannot write bad_samples.jsonl: {error}; it will be tried again"));
        }
        Ok(self.bad.check(part)?)
    }

    /// One optimizer step: micro-batches, clipping, the finite check, the optimizers, the quantizer, the average.
    fn step(&mut self, batch: &Batch) -> Result<(), TrainError> {
        let tf32 = self.parts.train.tf32;
        let (numbers, monitors) = catching(|| with_tf32(tf32, || self.step_on_device(batch)))??;
        self.window.images += batch.names.len();
        if let Some(numbers) = numbers {
            let shown = [("loss", numbers[0].loss), ("images/s", self.window.images_per_sec())];
            self.logger.progress(self.state.step + 1, &shown);
            self.window.numbers = numbers;
        }
        self.window.add_monitors(monitors);
        Ok(())
    }

    fn step_on_device(
        &mut self,
        batch: &Batch,
    ) -> Result<(Option<Vec<GroupNumbers>>, Vec<Monitor>), TrainError> {
        let (train, precision, step) = (&self.parts.train, self.parts.precision, self.state.step);
        let seed = self.parts.seed.derive("step", &[step]);
        for group in &mut self.groups {
            group.optimizer.drop_grads()?;
        }
        let micro_batches = train.micro_batches as f64;
        let mut losses: Vec<Vec<Tensor>> = self.groups.iter().map(|_| vec![]).collect();
        let (mut statistics, mut monitors) = (vec![], vec![]);
        self.window.begin_step();
        for (i, bytes) in batch.images.chunk(train.micro_batches as i64, 0).iter().enumerate() {
            let images = images_from_bytes(&to_device_async(bytes, self.parts.device));
            let objective = &mut self.parts.objective;
            let at = At { step, micro_batch: i, seed: seed.derive("micro-batch", &[i as u64]) };
            let out = with_precision(precision, || objective.step(&images, at));
            for (group, loss) in out.groups {
                let share = loss / micro_batches;
                share.backward();
                losses[group].push(share.detach());
            }
            self.window.add_terms(out.terms, micro_batches);
            self.window.add_indices(&out.indices);
            statistics.push(out.statistics);
            monitors.extend(out.monitors);
        }
        let mut learning = vec![];
        for (group, losses) in self.groups.iter().zip(&losses).filter(|(_, losses)| !losses.is_empty()) {
            let loss = Tensor::stack(losses, 0).sum(tch::Kind::Float);
            learning.push(GroupTensors { name: group.name, loss, grad_norm: group.optimizer.clip()? });
        }
        let (found_inf, numbers) = self.finite.take(step + 1, &learning, &batch.names)?;
        // On CUDA a bad step is known one step later. Until then only the optimizers are held back; nothing is
        // evaluated or saved before the check.
        for (group, _) in self.groups.iter_mut().zip(&losses).filter(|(_, losses)| !losses.is_empty()) {
            group.step(step, train.steps, self.parts.device.is_cuda().then_some(&found_inf))?;
        }
        if let Some(average) = &mut self.average {
            average.update(step);
        }
        let update = self.parts.objective.after_step(&merge(statistics), seed.derive("update", &[]));
        for rows in update.replaced_rows {
            for group in &mut self.groups {
                group.optimizer.clear_rows(&rows.variable, &rows.mask);
            }
            if let Some(average) = &mut self.average {
                average.copy_rows(&rows.variable, &rows.mask);
            }
        }
        monitors.extend(update.monitors);
        Ok((numbers, monitors))
    }

    fn log_window(&mut self) -> Result<(), TrainError> {
        if let Some(numbers) = self.finite.finish()? {
            self.window.numbers = numbers;
        }
        let (mut row, codebook) = self.window.finish();
        let step = self.state.step - 1;
        for (i, group) in self.groups.iter().enumerate().filter(|(_, group)| step >= group.start) {
            row.push((of_group("optim/lr", i, group.name), group.lr(step, self.parts.train.steps)));
        }
        let logged = self.logger.log(self.state.step, &row);
        self.warn_of(logged);
        let remedy = self.collapse_remedy();
        let size = self.parts.objective.tokenizer().quantizer.codebook().size;
        let collapse = &self.parts.train.collapse;
        if let Some(warning) =
            collapse.watch(&mut self.rows_collapsed, Over::LogRows, &codebook, size, &remedy)
        {
            self.logger.warn(&warning);
        }
        if let Some(warning) = self.duel.watch(&row) {
            self.logger.warn(&warning);
        }
        Ok(())
    }

    pub(super) fn warn_of(&mut self, logged: Result<(), LoggerError>) {
        if let Err(error) = logged {
            self.logger.warn(&error.to_string());
        }
    }
}
