//! The only training loop, for every task.
//!
//! `Trainer::new` opens a run at its checkpoint. `Trainer::run` goes from step to step: it logs,
//! measures and saves when that is due, and ends at a signal. `Trainer::step_on_device` is one
//! step.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::error::chain;
use super::finite::{FiniteCheck, GroupNumbers, GroupTensors};
use super::persist::{Live, Progress};
use super::task::{
    At, Batches, Begun, Bookmark, Fetched, GroupId, Monitor, ParameterGroup, Passes, Surroundings, Task,
    merge,
};
use super::window::{Window, of_group};
use super::{Config, Signals, TrainError};
use crate::checkpoint::{Error, Resumed, RunWriter};
use crate::logger::{Logger, LoggerOptions, METRICS_FILE, check_rows};
use crate::optim::{self, Optimizer, WeightAverage};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, Precision, catching, with_precision, with_tf32};

/// Everything that a training is made of.
pub struct Parts<T: Task> {
    /// The seed of every random decision.
    pub seed: Seed,
    /// Settings of the loop.
    pub train: Config,
    /// The resolved config, for the logs.
    pub config_text: String,
    /// The task, with its networks on `device`.
    pub task: T,
    /// The batches to train on.
    pub batches: Box<dyn Batches<T::Batch>>,
    /// The device that it trains on.
    pub device: Device,
    /// The precision of the forward and backward pass.
    pub precision: Precision,
    /// The run folder, locked.
    pub run: RunWriter,
    /// The checkpoint that an existing run resumes from.
    pub resumed: Option<Resumed>,
    /// Whether to save at step 0, because the starting weights are nowhere else in the run folder.
    pub save_first: bool,
    /// The signals that end a training.
    pub signals: Signals,
    /// The processes that train together.
    pub world: World,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
    /// A signal arrived; everything is saved.
    Interrupted {
        /// The number of the signal.
        signal: i32,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
}

/// A training under way.
pub struct Trainer<T: Task> {
    seed: Seed,
    pub(super) settings: Config,
    config_text: String,
    device: Device,
    precision: Precision,
    save_first: bool,
    task: T,
    batches: Box<dyn Batches<T::Batch>>,
    pub(super) around: Surroundings,
    pub(super) groups: Vec<Group>,
    average: Option<WeightAverage>,
    finite: FiniteCheck,
    window: Window,
    /// The step of the last evaluation that gave figures.
    evaluated: u64,
    /// The place in the sequence of batches after the last step.
    bookmark: Bookmark,
}

/// A group of parameters and its optimizer.
pub(super) struct Group {
    pub name: &'static str,
    /// The config table of the optimizer's settings.
    pub table: &'static str,
    pub config: optim::Config,
    pub optimizer: Optimizer,
    /// The step at which it starts to learn.
    start: u64,
}

impl Group {
    /// A group whose optimizer has not taken a step.
    fn new(group: ParameterGroup) -> Self {
        let ParameterGroup { name, parameters, optimizer: config, table, start } = group;
        let optimizer = Optimizer::new(&config, parameters);
        Self { name, table, config, optimizer, start }
    }

    /// The learning rate at `step` of a run of `steps`. Before the group's start it is the rate of
    /// its first step.
    fn lr(&self, step: u64, steps: u64) -> f64 {
        self.config.rate(step, self.start, steps)
    }

    /// Takes one step, which the device skips if `found_inf` is not 0.
    fn step(&mut self, step: u64, steps: u64, found_inf: Option<&Tensor>) -> Result<(), TrainError> {
        let schedule = &self.config.schedule;
        let factor = schedule.factor(step.saturating_sub(self.start), steps.saturating_sub(self.start));
        Ok(self.optimizer.step(factor, found_inf)?)
    }
}

/// A weight average that starts from the current parameters of the model.
fn weight_average<T: Task>(task: &T, decay: f64) -> WeightAverage {
    WeightAverage::new(decay, task.groups().swap_remove(0).parameters)
}

impl<T: Task> Trainer<T> {
    /// Loads the checkpoint, if there is one, and opens the logs at its step. Nothing on disk
    /// changes unless the checkpoint fits.
    ///
    /// # Errors
    /// When the checkpoint does not fit, or the logs cannot be opened.
    pub fn new(parts: Parts<T>) -> Result<Self, TrainError> {
        let Parts { seed, train, mut task, batches, device, run, resumed, signals, world, .. } = parts;
        let groups: Vec<Group> = task.groups().into_iter().map(Group::new).collect();
        let average = (train.ema_decay > 0.0).then(|| weight_average(&task, train.ema_decay));
        let exists = resumed.is_some();
        let Resumed { loaded, damaged } = resumed.unwrap_or_default();
        let saved = loaded.as_ref().map(|loaded| &loaded.snapshot);
        let state = saved.map(|saved| Progress::split(&saved.state)).transpose()?;
        let mut notes = task.resume(state.as_ref().map(|(_, own)| own), run.folder())?;
        let beginning = || Progress { step: 0, evaluated: 0, cursor: batches.beginning() };
        let progress = state.map_or_else(beginning, |(progress, _)| progress);
        if let Some(saved) = saved {
            Live { task: &task, groups: &groups, average: average.as_ref() }.restore(saved)?;
        }
        check_rows(&run.folder().path().join(METRICS_FILE))?;
        for damaged in damaged.iter().filter(|_| world.writes()) {
            let (path, aside) = (damaged.path.display(), run.set_aside(damaged)?);
            notes.push(format!("{path} is damaged: {}; it is now {}", damaged.reason, aside.display()));
        }
        if exists && world.writes() {
            // If the run now keeps fewer checkpoints, this frees space. The checkpoint it resumes
            // from is the newest.
            run.retain(train.keep_checkpoints)?;
        }
        let Progress { step, evaluated, cursor: bookmark } = progress;
        if world.writes() {
            task.prepare(&run)?;
        }
        let options = LoggerOptions { total_steps: train.steps, start_step: step, resumed: exists };
        let logger = if world.writes() {
            Logger::open(run.folder().path(), options)?
        } else {
            Logger::without_files(options)
        };
        let mut around = Surroundings { step, run, logger, signals, world };
        for note in notes {
            around.logger.note(&note);
        }
        task.opened(&mut around)?;
        Ok(Self {
            seed,
            settings: train,
            config_text: parts.config_text,
            device,
            precision: parts.precision,
            save_first: parts.save_first,
            task,
            batches,
            around,
            groups,
            average,
            finite: FiniteCheck::new(device, T::SAMPLES),
            window: Window::new(),
            evaluated,
            bookmark,
        })
    }

    /// Trains to the last step, or until a signal.
    ///
    /// # Errors
    /// See [`TrainError`]; everything saved before stays. A checkpoint whose weights give a loss
    /// that is not finite is set aside, so that a resumed run goes on from the previous one.
    pub fn run(mut self) -> Result<Outcome, TrainError> {
        self.train().map_err(|error| self.with_remedy(error))
    }

    fn train(&mut self) -> Result<Outcome, TrainError> {
        let logged = self.around.logger.text(0, "config", &self.config_text);
        self.around.warn_of(logged);
        if self.around.step == 0 {
            if self.save_first {
                self.save(None, true)?;
            }
            if self.begin()? == Begun::Stopped
                && let Some(signal) = self.around.interrupted()?
            {
                let saved = self.save(None, true)?;
                return Ok(Outcome::Interrupted { signal, checkpoint: self.checkpoint(saved) });
            }
            self.window.restart_clock();
        }
        self.batches.seek(&self.bookmark, &mut self.around)?;
        // Batches load while an evaluation that is still due runs.
        self.batches.load_ahead()?;
        let mut saved = None;
        if self.owes_evaluation() {
            let figures = self.evaluate()?;
            saved = self.save(Some(figures), true)?;
        }
        self.around.logger.begin_steps();
        while self.around.step < self.settings.steps {
            let fetched = match self.next_batch() {
                Err(error) if error.is_of_data() && self.around.step > 0 => {
                    self.save(None, false)?;
                    return Err(error);
                }
                other => other?,
            };
            self.step(&fetched)?;
            self.around.step += 1;
            self.bookmark = fetched.bookmark;
            let last = self.around.step == self.settings.steps;
            let signal = self.around.interrupted()?;
            if self.due(self.settings.log_every) || last {
                self.log_window()?;
            }
            let evaluated = self.due(self.settings.eval_every) || last;
            let figures = if evaluated { Some(self.evaluate()?) } else { None };
            let best = figures.as_ref().is_some_and(|figures| self.is_best(figures));
            if self.due(self.settings.checkpoint_every) || best || last || signal.is_some() {
                saved = self.save(figures, last || signal.is_some())?.or(saved);
            }
            if let Some(signal) = signal {
                return Ok(Outcome::Interrupted { signal, checkpoint: self.checkpoint(saved) });
            }
        }
        Ok(Outcome::Finished { checkpoint: self.checkpoint(saved) })
    }

    /// Whether the checkpoint was saved after its evaluation failed.
    fn owes_evaluation(&self) -> bool {
        let (step, train) = (self.around.step, &self.settings);
        let wanted = self.due(train.eval_every) || step == train.steps;
        step > 0 && wanted && self.evaluated != step
    }

    fn due(&self, every: u64) -> bool {
        self.around.step.is_multiple_of(every)
    }

    /// The checkpoint that was saved last; where this process saved none, that of this step.
    fn checkpoint(&self, saved: Option<PathBuf>) -> PathBuf {
        saved.unwrap_or_else(|| self.around.run.folder().checkpoint_path(self.around.step))
    }

    fn begin(&mut self) -> Result<Begun, TrainError> {
        let passes = Passes { micro_batches: self.settings.micro_batches, precision: self.precision };
        let begun = self.task.begin(&mut *self.batches, &mut self.around, passes, self.seed)?;
        if let (Begun::Done, Some(average)) = (begun, &mut self.average) {
            // The average must start from the weights that the task's preparation set.
            *average = weight_average(&self.task, self.settings.ema_decay);
        }
        Ok(begun)
    }

    fn next_batch(&mut self) -> Result<Fetched<T::Batch>, TrainError> {
        let next = self.batches.next();
        let counted = self.batches.note_skipped(&mut self.around);
        let fetched = next?;
        counted?;
        Ok(fetched)
    }

    /// One optimizer step, and its part of the logs.
    fn step(&mut self, fetched: &Fetched<T::Batch>) -> Result<(), TrainError> {
        let tf32 = self.settings.tf32;
        let (numbers, monitors) = catching(|| with_tf32(tf32, || self.step_on_device(fetched)))??;
        self.window.samples += fetched.samples;
        if let Some(numbers) = numbers {
            let speed = format!("{}/s", T::SAMPLES);
            let shown = [("loss", numbers[0].loss), (&*speed, self.window.samples_per_sec())];
            self.around.logger.progress(self.around.step + 1, &shown);
            self.window.numbers = numbers;
        }
        self.window.add_monitors(monitors);
        Ok(())
    }

    /// One optimizer step: micro-batches, clipping, the finite check, the optimizers, the weight
    /// average, and the task's updates without gradients.
    fn step_on_device(
        &mut self,
        fetched: &Fetched<T::Batch>,
    ) -> Result<(Option<Vec<GroupNumbers>>, Vec<Monitor>), TrainError> {
        let (train, world, step) = (&self.settings, &self.around.world, self.around.step);
        let seed = self.seed.derive("step", &[step]);
        for group in &mut self.groups {
            group.optimizer.drop_grads()?;
        }

        let micro_batches = train.micro_batches as f64;
        let mut losses: Vec<Vec<Tensor>> = self.groups.iter().map(|_| vec![]).collect();
        let (mut statistics, mut monitors) = (vec![], vec![]);
        self.window.begin_step();
        for (i, batch) in T::split(&fetched.batch, train.micro_batches).iter().enumerate() {
            let at = self.at(i, fetched.samples / train.micro_batches);
            let out = with_precision(self.precision, || self.task.step(batch, at))?;
            for (group, loss) in out.groups {
                let share = loss / micro_batches;
                share.backward();
                losses[group].push(share.detach());
            }
            self.window.add_terms(out.terms, micro_batches);
            statistics.push(out.statistics);
            monitors.extend(out.monitors);
        }

        let mut learning = vec![];
        let taking_part = self.groups.iter().zip(&losses).enumerate();
        for (id, (group, losses)) in taking_part.filter(|(_, (_, losses))| !losses.is_empty()) {
            world.mean_gradients(group.optimizer.parameters())?;
            let loss = world.mean(&Tensor::stack(losses, 0).sum(Kind::Float))?;
            let grad_norm = group.optimizer.clip()?;
            learning.push(GroupTensors { id, name: group.name, loss, grad_norm });
        }
        // Means over all processes, so each of them finds the same.
        let (found_inf, numbers) = self.finite.take(step + 1, &learning, &fetched.names)?;
        // On CUDA a bad step is known one step later. Until then only the optimizers are held back; nothing is
        // evaluated or saved before the check.
        for (group, _) in self.groups.iter_mut().zip(&losses).filter(|(_, losses)| !losses.is_empty()) {
            group.step(step, train.steps, self.device.is_cuda().then_some(&found_inf))?;
        }
        if let Some(average) = &mut self.average {
            average.update(step);
        }

        let update = self.task.after_step(&merge(statistics), world, seed.derive("update", &[]));
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

    /// Where micro-batch `i` of this step is, if each has this number of samples.
    fn at(&self, i: usize, samples: usize) -> At {
        let (world, step) = (&self.around.world, self.around.step);
        let seed = self.seed.derive("step", &[step]);
        let of_process = samples * self.settings.micro_batches;
        let first = world.place((i * samples) as u64, of_process as u64);
        At {
            step,
            micro_batch: i,
            seed: seed.derive("micro-batch", &[i as u64]),
            noise: Noise::new(seed.derive("noise", &[])).at_place(first),
        }
    }

    fn log_window(&mut self) -> Result<(), TrainError> {
        if let Some(numbers) = self.finite.finish()? {
            self.window.numbers = numbers;
        }
        let mut row = self.window.finish(self.task.row(&self.around.world)?, T::SAMPLES);
        let step = self.around.step - 1;
        for (i, group) in self.groups.iter().enumerate().filter(|(_, group)| step >= group.start) {
            row.push((of_group("optim/lr", i, group.name), group.lr(step, self.settings.steps)));
        }
        self.around.log(&row);
        self.task.watch(&row, &mut self.around);
        Ok(())
    }

    /// Evaluates raw and averaged weights; returns the raw ones' figures. Bad data and
    /// the like end the training, and what was trained until then is saved.
    fn evaluate(&mut self) -> Result<Vec<(String, f64)>, TrainError> {
        self.finite.finish()?;
        self.measure().or_else(|error| {
            if !error.is_of_evaluated_weights() {
                self.save(None, false)?;
            }
            Err(error)
        })
    }

    fn measure(&mut self) -> Result<Vec<(String, f64)>, TrainError> {
        let raw = self.task.validate(&mut self.around)?;
        let mut row = prefixed("val", &raw.figures);
        if let Some(average) = &self.average {
            let averaged = average.in_place(|| self.task.validate(&mut self.around))?;
            row.extend(prefixed("val_ema", &averaged.figures));
        }
        self.around.log(&row);
        self.task.show(raw.exhibits, &mut self.around)?;
        self.evaluated = self.around.step;
        self.window.restart_clock();
        Ok(raw.figures)
    }

    /// Whether these figures are better than the best checkpoint's.
    fn is_best(&self, figures: &[(String, f64)]) -> bool {
        let Some(ranked) = self.task.rank(figures) else { return false };
        // An unreadable record was reported when the run was opened, and the next save reports it
        // again.
        self.around.run.folder().is_best(ranked.candidate(self.around.step)).unwrap_or(true)
    }

    /// Records the checkpoint of this step as the best if its `figures` are better than the best so
    /// far.
    fn offer_best(&self, figures: &[(String, f64)]) -> Result<(), Error> {
        let Some(ranked) = self.task.rank(figures) else { return Ok(()) };
        self.around.run.offer_best(ranked.candidate(self.around.step)).map(|_| ())
    }

    /// The group beside the model's that the tensor `name` trains in; for a buffer, the last.
    fn group_beside(&self, name: &str) -> GroupId {
        let groups = self.task.groups();
        let trains = |group: &ParameterGroup| group.parameters.iter().any(|found| found.name == name);
        groups.iter().position(trains).unwrap_or(groups.len() - 1)
    }

    /// Saves; a failure ends the training only when this was the last chance to save. Non-finite
    /// weights are never saved, and always end the training.
    fn save(
        &mut self,
        figures: Option<Vec<(String, f64)>>,
        last_chance: bool,
    ) -> Result<Option<PathBuf>, TrainError> {
        self.finite.finish()?;
        let step = self.around.step;
        let progress = Progress { step, evaluated: self.evaluated, cursor: self.bookmark.clone() };
        let live = Live { task: &self.task, groups: &self.groups, average: self.average.as_ref() };
        let snapshot = live.snapshot(&progress)?;
        if let Some(name) = snapshot.not_finite() {
            let group = if snapshot.model.contains_key(name) { 0 } else { self.group_beside(name) };
            return Err(TrainError::WeightsNotFinite { step, name: name.to_owned(), group });
        }
        if !self.around.world.writes() {
            return Ok(None);
        }
        let saved = self.around.run.save(step, &snapshot);
        // The checkpoint is complete. What follows only tidies the folder.
        let tidied = saved.as_ref().ok().map(|_| {
            let best = figures.as_ref().map_or(Ok(()), |figures| self.offer_best(figures));
            let kept = self.around.run.retain(self.settings.keep_checkpoints);
            best.and(kept)
        });
        if let Some(Err(error)) = tidied {
            self.around.logger.warn(&format!("step {step}: {}", chain(&error)));
        }
        self.window.restart_clock();
        match saved {
            Ok(path) => Ok(Some(path)),
            Err(error) if last_chance => Err(error.into()),
            Err(error) => {
                self.around.logger.warn(&format!("step {step}: {}; training goes on", chain(&error)));
                Ok(None)
            }
        }
    }
}

fn prefixed(prefix: &str, figures: &[(String, f64)]) -> Vec<(String, f64)> {
    figures.iter().map(|(name, value)| (format!("{prefix}/{name}"), *value)).collect()
}
