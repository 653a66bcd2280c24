//! The only training loop, for every task.
//!
//! `Trainer::new` opens a run at its checkpoint. `Trainer::run` goes from step to step: it logs,
//! measures and saves when that is due, and ends at a signal. `Trainer::step_on_device` is one
//! step.

use std::path::PathBuf;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::agreement::Agreement;
use super::error::chain;
use super::finite::{FiniteCheck, GroupTensors, StepNumbers};
use super::group::{Group, sharing};
use super::persist::{Live, Progress};
use super::task::{
    At, Batches, Begun, Bookmark, Fetched, GroupId, Monitor, ParameterGroup, Passes, Surroundings, Task,
    merge, merge_over,
};
use super::window::{Row, Window, of_group};
use super::{Config, Signals, StateError, TrainError};
use crate::checkpoint::{Error, Resumed, RunWriter, Saved, Saver, Snapshot};
use crate::logger::{Logger, LoggerOptions, METRICS_FILE, check_rows};
use crate::optim::{Sharing, WeightAverage};
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
    saver: Saver,
    pub(super) groups: Vec<Group>,
    average: Option<WeightAverage>,
    finite: FiniteCheck,
    window: Window,
    /// The step of the last evaluation that gave figures.
    evaluated: u64,
    /// The place in the sequence of batches after the last step.
    bookmark: Bookmark,
    /// The signal that several processes have agreed to take.
    agreed: Option<i32>,
}

/// A weight average that starts from the current parameters of the model.
fn weight_average<T: Task>(task: &T, decay: f64, sharing: Sharing) -> WeightAverage {
    WeightAverage::new(decay, task.groups().swap_remove(0).parameters, sharing)
}

/// Where micro-batch `i` of a step is, if each has `samples` of the process's `own` number of
/// samples. The seed is the step's.
fn at(world: &World, step: u64, seed: Seed, i: usize, (samples, own): (usize, usize)) -> At<'_> {
    let first = world.place((i * samples) as u64, own as u64);
    At { step, micro_batch: i, noise: Noise::new(seed.derive("noise", &[])).at_place(first), world }
}

impl<T: Task> Trainer<T> {
    /// Loads the checkpoint, if there is one, and opens the logs at its step. Nothing on disk
    /// changes unless the checkpoint fits.
    ///
    /// # Errors
    /// When the checkpoint does not fit, or the logs cannot be opened.
    pub fn new(parts: Parts<T>) -> Result<Self, TrainError> {
        let Parts { seed, train, mut task, batches, device, run, resumed, signals, world, .. } = parts;
        let groups = task.groups().into_iter().map(|group| Group::new(group, &train, &world));
        let groups = groups.collect::<Result<Vec<Group>, TrainError>>()?;
        let sharing = sharing(&train, &world);
        let average = (train.ema_decay > 0.0).then(|| weight_average(&task, train.ema_decay, sharing));
        let exists = resumed.is_some();
        let Resumed { loaded, damaged } = resumed.unwrap_or_default();
        let saved = loaded.as_ref().map(|loaded| &loaded.snapshot);
        let state = saved.map(|saved| Progress::split(&saved.state)).transpose()?;
        let mut notes = task.resume(state.as_ref().map(|(_, own)| own), run.folder())?;
        let processes = world.size();
        let beginning = || Progress { step: 0, evaluated: 0, cursor: batches.beginning(), processes };
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
        let Progress { step, evaluated, cursor: bookmark, processes: before } = progress;
        if before != processes {
            notes.push(format!(
                "saved by {before} process(es), resumed with {processes}: the same {} and noise, but sums round differently",
                T::SAMPLES
            ));
        }
        if world.writes() {
            task.prepare(&run)?;
        }
        let process = (world.size() > 1).then(|| world.rank());
        let options = LoggerOptions { total_steps: train.steps, start_step: step, resumed: exists, process };
        let logger = if world.writes() {
            Logger::open(run.folder().path(), options)?
        } else {
            Logger::beside(run.folder().path(), options)?
        };
        let run = Arc::new(run);
        let saver = Saver::new(Arc::clone(&run));
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
            saver,
            groups,
            average,
            finite: FiniteCheck::new(device, T::SAMPLES),
            window: Window::new(),
            evaluated,
            bookmark,
            agreed: None,
        })
    }

    /// Trains to the last step, or until a signal.
    ///
    /// # Errors
    /// See [`TrainError`]; everything saved before stays. A checkpoint whose weights give a loss
    /// that is not finite is set aside, so that a resumed run goes on from the previous one.
    pub fn run(mut self) -> Result<Outcome, TrainError> {
        let outcome = self.train();
        // A save under way ends before the caller says anything, and before a checkpoint is set
        // aside.
        let saved = self.saver.wait();
        self.report(saved);
        outcome.map_err(|error| match error {
            // An exchange inside the networks can only fail as a computation does.
            TrainError::Torch(error) => self.around.world.fault().map_or(error.into(), TrainError::World),
            error => self.with_remedy(error),
        })
    }

    fn train(&mut self) -> Result<Outcome, TrainError> {
        let logged = self.around.logger.text(0, "config", &self.config_text);
        self.around.warn_of(logged);
        if self.around.step == 0 {
            self.share_weights()?;
            if self.save_first {
                self.save(None, true)?;
            }
            if self.begin()? == Begun::Stopped
                && let Some(signal) = self.around.interrupted()?
            {
                let saved = self.save(None, true)?;
                return Ok(Outcome::Interrupted { signal, checkpoint: self.checkpoint(saved) });
            }
            self.window.restart_clock(&self.around.world);
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
                    self.save_if_alone()?;
                    return Err(error);
                }
                other => other?,
            };
            self.step(&fetched)?;
            self.around.step += 1;
            self.bookmark = fetched.bookmark;
            let last = self.around.step == self.settings.steps;
            let signal = self.signal();
            if self.due(self.settings.log_every) || last {
                self.log_window()?;
            }
            let evaluated = self.due(self.settings.eval_every) || last;
            let figures = if evaluated { Some(self.evaluate()?) } else { None };
            let best = figures.as_ref().map_or(Ok(false), |figures| self.is_best(figures))?;
            if self.due(self.settings.checkpoint_every) || best || last || signal.is_some() {
                saved = self.save(figures, last || signal.is_some())?.or(saved);
            }
            if let Some(signal) = signal {
                return Ok(Outcome::Interrupted { signal, checkpoint: self.checkpoint(saved) });
            }
        }
        Ok(Outcome::Finished { checkpoint: self.checkpoint(saved) })
    }

    /// The signal that ends the training. Several processes agreed on it in the last step.
    fn signal(&self) -> Option<i32> {
        if self.around.world.size() == 1 { self.around.signals.came() } else { self.agreed }
    }

    /// Gives every process the weights of the first: on processors of different kinds the same seed
    /// draws slightly different ones.
    fn share_weights(&self) -> Result<(), TrainError> {
        let all = self.task.model().into_iter().chain(self.task.companions());
        let of_the_first: Vec<(Tensor, u32)> = all.map(|found| (found.tensor, 0)).collect();
        Ok(self.around.world.broadcast_each(&of_the_first)?)
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
        if begun == Begun::Done {
            self.share_weights()?;
        }
        if let (Begun::Done, Some(average)) = (begun, &mut self.average) {
            // The average must start from the weights that the task's preparation set.
            let sharing = sharing(&self.settings, &self.around.world);
            *average = weight_average(&self.task, self.settings.ema_decay, sharing);
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
        let (tf32, step) = (self.settings.tf32, self.around.step + 1);
        self.around.world.at(|| format!("step {step}"));
        let (numbers, monitors) = catching(|| with_tf32(tf32, || self.step_on_device(fetched)))??;
        self.window.samples += fetched.samples;
        if let Some(StepNumbers { groups, signal }) = numbers {
            let speed = format!("{}/s", T::SAMPLES);
            let per_sec = self.window.samples_per_sec() * f64::from(self.around.world.size());
            self.around.logger.progress(step, &[("loss", groups[0].loss), (&*speed, per_sec)]);
            self.window.numbers = groups;
            self.agreed = signal;
        }
        self.window.add_monitors(monitors);
        Ok(())
    }

    /// One optimizer step: micro-batches, clipping, the finite check, the optimizers, the weight
    /// average, and the task's updates without gradients.
    fn step_on_device(
        &mut self,
        fetched: &Fetched<T::Batch>,
    ) -> Result<(Option<StepNumbers>, Vec<Monitor>), TrainError> {
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
            let of_part = fetched.samples / train.micro_batches;
            let at = at(world, step, seed, i, (of_part, fetched.samples));
            let out = with_precision(self.precision, || self.task.step(batch, at))?;
            for (group, loss) in out.groups {
                let share = loss / micro_batches;
                if i + 1 == train.micro_batches {
                    self.groups[group].expect_last_pass()?;
                }
                share.backward();
                losses[group].push(share.detach());
            }
            self.window.add_terms(out.terms, micro_batches);
            statistics.push(out.statistics);
            monitors.extend(out.monitors);
        }

        let mut learning = vec![];
        for (id, losses) in losses.iter().enumerate().filter(|(_, losses)| !losses.is_empty()) {
            learning.push((id, Tensor::stack(losses, 0).sum(Kind::Float)));
        }
        // While the gradients are still on their way.
        let agreement = Agreement::begin(world, &learning, self.around.signals.came())?;
        let mut numbers = vec![];
        for (id, loss) in learning {
            let group = &self.groups[id];
            group.finish_gradients()?;
            numbers.push(GroupTensors { id, name: group.name, loss, grad_norm: group.optimizer.clip()? });
        }
        let votes = agreement.finish(world, &mut numbers)?;
        let (found_inf, read) = self.finite.take(step + 1, &numbers, votes.as_ref(), &fetched.names)?;
        // On CUDA a bad step is known one step later. Until then only the optimizers are held back;
        // nothing is evaluated or saved before the check.
        for (group, _) in self.groups.iter_mut().zip(&losses).filter(|(_, losses)| !losses.is_empty()) {
            group.step(step, train.steps, self.device.is_cuda().then_some(&found_inf), world)?;
        }
        if let Some(average) = &mut self.average {
            average.update(step);
        }

        let statistics = merge_over(merge(statistics), world)?;
        let update = self.task.after_step(&statistics, world, seed.derive("update", &[]));
        for rows in update.replaced_rows {
            for group in &mut self.groups {
                group.optimizer.clear_rows(&rows.variable, &rows.mask);
            }
            if let Some(average) = &mut self.average {
                average.copy_rows(&rows.variable, &rows.mask);
            }
        }
        monitors.extend(update.monitors);
        Ok((read, monitors))
    }

    fn log_window(&mut self) -> Result<(), TrainError> {
        let saved = self.saver.ended();
        self.report(saved);
        self.batches.share_skipped(&mut self.around)?;
        if let Some(numbers) = self.finite.finish()? {
            self.window.numbers = numbers.groups;
            self.agreed = self.agreed.or(numbers.signal);
        }
        let world = &self.around.world;
        let own = self.task.row(world)?;
        let Row { mut row, of_process } = self.window.finish(own, T::SAMPLES, world)?;
        let step = self.around.step - 1;
        for (i, group) in self.groups.iter().enumerate().filter(|(_, group)| step >= group.start) {
            row.push((of_group("optim/lr", i, group.name), group.lr(step, self.settings.steps)));
        }
        self.around.log(&row);
        self.around.log_process(&of_process);
        self.task.watch(&row, &mut self.around);
        Ok(())
    }

    /// Evaluates raw and averaged weights; returns the raw ones' figures. Bad data and
    /// the like end the training, and what was trained until then is saved.
    fn evaluate(&mut self) -> Result<Vec<(String, f64)>, TrainError> {
        self.finite.finish()?;
        self.measure().or_else(|error| {
            if !error.is_of_evaluated_weights() {
                self.save_if_alone()?;
            }
            Err(error)
        })
    }

    /// Saves what was trained before an error ends it. One of several processes can't save without
    /// the others, which may not have this error.
    fn save_if_alone(&mut self) -> Result<(), TrainError> {
        if self.around.world.size() == 1 {
            self.save(None, false)?;
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<Vec<(String, f64)>, TrainError> {
        let raw = self.task.validate(&mut self.around)?;
        let mut row = prefixed("val", &raw.figures);
        if let Some(average) = &self.average {
            let in_place = average.put_in_place(&self.around.world)?;
            let averaged = self.task.validate(&mut self.around)?;
            drop(in_place);
            row.extend(prefixed("val_ema", &averaged.figures));
        }
        self.around.log(&row);
        self.task.show(raw.exhibits, &mut self.around)?;
        // Only process 0 shows something.
        self.around.world.wait_for_the_first()?;
        self.evaluated = self.around.step;
        self.window.restart_clock(&self.around.world);
        Ok(raw.figures)
    }

    /// Whether these figures are better than the best checkpoint's. The process that writes decides
    /// it for all, since no other knows whether its last save has ended.
    fn is_best(&mut self, figures: &[(String, f64)]) -> Result<bool, TrainError> {
        // A save under way may change which checkpoint is best.
        let saved = self.saver.wait();
        self.report(saved);
        let (run, step, world) = (self.around.run.folder(), self.around.step, &self.around.world);
        let ranked = self.task.rank(figures).filter(|_| world.writes());
        // An unreadable record was reported when the run was opened, and the next save reports it
        // again.
        let best = ranked.is_some_and(|ranked| run.is_best(ranked.candidate(step)).unwrap_or(true));
        // Its last save may take longer than an exchange may.
        world.wait_for_the_first()?;
        Ok(world.any(best)?)
    }

    /// The group beside the model's that the tensor `name` trains in; for a buffer, the last.
    fn group_beside(&self, name: &str) -> GroupId {
        let groups = self.task.groups();
        let trains = |group: &ParameterGroup| group.parameters.iter().any(|found| found.name == name);
        groups.iter().position(trains).unwrap_or(groups.len() - 1)
    }

    /// Saves. At the last chance it waits for the checkpoint and returns it, and a failure ends the
    /// training. Otherwise the training goes on meanwhile, and a failure is only warned of, later. A
    /// second save waits for the first. Non-finite weights are never saved, and always end the
    /// training.
    fn save(
        &mut self,
        figures: Option<Vec<(String, f64)>>,
        last_chance: bool,
    ) -> Result<Option<PathBuf>, TrainError> {
        self.finite.finish()?;
        let step = self.around.step;
        self.batches.share_skipped(&mut self.around)?;
        let cursor = self.bookmark_of_all()?;
        let processes = self.around.world.size();
        let progress = Progress { step, evaluated: self.evaluated, cursor, processes };
        let live = Live { task: &self.task, groups: &self.groups, average: self.average.as_ref() };
        if let Some(name) = live.not_finite(&self.around.world)? {
            let group = if live.model().contains_key(&name) { 0 } else { self.group_beside(&name) };
            return Err(TrainError::WeightsNotFinite { step, name, group });
        }
        // If moments and averages are divided, also those processes take part that write nothing.
        let snapshot = live.snapshot(&progress, &self.around.world)?;
        let written =
            if self.around.world.writes() { self.write(&snapshot, figures, last_chance)? } else { None };
        self.around.world.wait_for_the_first()?;
        self.window.restart_clock(&self.around.world);
        Ok(written)
    }

    /// Writes a snapshot, and then decides which checkpoints are kept.
    fn write(
        &mut self,
        snapshot: &Snapshot,
        figures: Option<Vec<(String, f64)>>,
        last_chance: bool,
    ) -> Result<Option<PathBuf>, TrainError> {
        let step = self.around.step;
        let earlier = self.saver.wait();
        self.report(earlier);
        let ranked = figures.and_then(|figures| self.task.rank(&figures));
        let keep_last = self.settings.keep_checkpoints;
        let tidy = move |run: &RunWriter| {
            let candidate = ranked.as_ref().map(|ranked| ranked.candidate(step));
            let best = candidate.map_or(Ok(()), |candidate| run.offer_best(candidate).map(|_| ()));
            let kept = run.retain(keep_last);
            best.and(kept)
        };
        let saved = if last_chance {
            Some(self.saver.save(step, snapshot, tidy))
        } else {
            self.saver.begin(step, snapshot, tidy)
        };
        match saved {
            Some(saved) if last_chance => Ok(Some(self.checkpoint_of(saved)?)),
            saved => {
                self.report(saved);
                Ok(None)
            }
        }
    }

    /// The place in the data after the last step, for all processes.
    fn bookmark_of_all(&self) -> Result<Bookmark, TrainError> {
        let world = &self.around.world;
        if world.size() == 1 {
            return Ok(self.bookmark.clone());
        }
        let of_all = world.gather_bytes(&serde_json::to_vec(&self.bookmark).map_err(StateError::from)?)?;
        let parse = |bytes: &Vec<u8>| serde_json::from_slice(bytes);
        let of_all =
            of_all.iter().map(parse).collect::<Result<Vec<Bookmark>, _>>().map_err(StateError::from)?;
        Ok(self.batches.together(of_all))
    }

    /// The checkpoint of a save that ended. Warns if the folder could not be tidied afterwards.
    fn checkpoint_of(&mut self, saved: Saved) -> Result<PathBuf, Error> {
        if let Err(error) = saved.tidied {
            self.around.logger.warn(&format!("step {}: {}", saved.step, chain(&error)));
        }
        saved.checkpoint
    }

    /// Warns if a save failed that was not the last chance.
    fn report(&mut self, saved: Option<Saved>) {
        let Some(saved) = saved else { return };
        let step = saved.step;
        if let Err(error) = self.checkpoint_of(saved) {
            self.around.logger.warn(&format!("step {step}: {}; training goes on", chain(&error)));
        }
    }
}

fn prefixed(prefix: &str, figures: &[(String, f64)]) -> Vec<(String, f64)> {
    figures.iter().map(|(name, value)| (format!("{prefix}/{name}"), *value)).collect()
}
