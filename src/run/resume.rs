//! `pixtok train --resume`: the run as found on disk, whatever its task. Nothing on disk changes
//! before everything has been checked.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::Result;

use super::settings::TrainOptions;
use super::task::RunTask;
use super::{CONFIG, Compute, Run, Tell};
use crate::checkpoint::{DamagedCheckpoint, Resumed, RunFolder, RunWriter};
use crate::config::{CHANGES_FILE, ConfigError, KnownKey, RootConfig, RunChange, known};
use crate::logger::METRICS_FILE;
use crate::optim::{self, Schedule};
use crate::train::{DeviceKind, Progress, TrainError};
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_torch::DeviceChoice;

/// The run to resume.
pub(super) struct Earlier<R: RunTask> {
    run: Run,
    /// The config that the run was started with.
    pub config: R::Config,
    /// The config changes up to the checkpoint to resume from.
    changes: Vec<RunChange>,
    /// The state of the checkpoint to resume from, or else of the newest one whose state can be
    /// read; none if there is none.
    state: Option<(Progress, R::State)>,
    /// This process's access to the folder; absent in a dry run.
    writer: Option<RunWriter>,
    resumed: Resumed,
}

impl<R: RunTask> Earlier<R> {
    /// Reads the run's config and state. Of several processes only process 0 takes the lock. A dry
    /// run has no `world`, takes no lock and changes nothing.
    pub fn open(path: &Path, world: Option<&World>) -> Result<Self> {
        let run = Run::find(path)?;
        let (folder, config) = (run.folder(), R::config_of(&run)?);
        if run.is_model() && folder.checkpoints()?.is_empty() {
            return Err(Misuse(format!(
                "{} is a model folder, which has weights but no run to go on with; start a new run from it with --init-from",
                path.display()
            ))
            .into());
        }
        let resume = |world: &World| {
            if world.writes() { RunWriter::resume(path) } else { RunWriter::beside(path) }
        };
        let writer = world.map(resume).transpose()?;
        let resumed = folder.newest_whole()?;
        let state = match &resumed.loaded {
            Some(loaded) => Some(loaded.snapshot.state.clone()),
            None => folder.newest_state()?,
        };
        let state = state.map(|state| R::saved(&state)).transpose().map_err(TrainError::from)?;
        let mut changes = RunChange::read::<R::Config>(path)?;
        // Dropped in the same way as log lines: changes after the checkpoint may or may not be made
        // again. A run that starts over takes its settings from its config.
        let step = resumed.loaded.as_ref().map(|loaded| loaded.step);
        changes.retain(|change| step.is_some_and(|step| change.step <= step));
        let earlier = Self { run, config, changes, state, writer, resumed };
        earlier.check_own_config()?;
        Ok(earlier)
    }

    /// Refuses a `config.toml` that does not belong to the checkpoint.
    fn check_own_config(&self) -> Result<()> {
        let Some((progress, state)) = self.state.as_ref().filter(|_| self.has_checkpoint()) else {
            return Ok(());
        };
        if R::exactness(state).config == self.config.exact_digest()? {
            return Ok(());
        }
        Err(Misuse(format!(
            "{} was changed since the checkpoint of step {}, in a key that a run must keep; undo the change, or start a new run with \
             --init-from {}",
            self.path().join(CONFIG).display(),
            progress.step,
            self.path().display()
        ))
        .into())
    }

    /// The path of the run folder.
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// The run folder with its checkpoints.
    pub fn folder(&self) -> &RunFolder {
        self.run.folder()
    }

    /// The task's state in the checkpoint to resume from, or else in the newest one whose state can
    /// be read.
    pub fn last_state(&self) -> Option<&R::State> {
        self.state.as_ref().map(|(_, state)| state)
    }

    /// The task's state in the checkpoint to resume from, if there is one.
    pub fn state(&self) -> Option<&R::State> {
        self.last_state().filter(|_| self.has_checkpoint())
    }

    /// The step of the checkpoint to resume from, and a hash of its content.
    pub fn checkpoint(&self) -> Option<(u64, String)> {
        let step = self.resumed.loaded.as_ref()?.step;
        // The manifest has the hashes of all files.
        let manifest =
            fs::read(self.folder().checkpoint_path(step).join("manifest.json")).unwrap_or_default();
        Some((step, blake3::hash(&manifest).to_hex().to_string()))
    }

    /// Whether there is a checkpoint to resume from.
    pub fn has_checkpoint(&self) -> bool {
        self.resumed.loaded.is_some()
    }

    /// Fills in the run's device and thread count if the flags leave them open.
    pub fn compute(&self, mut compute: Compute, world: Option<&World>, tell: Tell) -> Compute {
        let then = self.last_state().map(R::exactness);
        let Some(then) = then.filter(|then| then.machine.device == DeviceKind::Cpu) else { return compute };
        if compute.device == DeviceChoice::Auto {
            compute.device = DeviceChoice::Cpu;
        }
        if compute.threads.is_none() {
            compute.threads = Some(then.threads);
            let sharing = world.map_or(1, World::on_these_processors) as usize;
            let processors = (available_parallelism().map_or(1, usize::from) / sharing).max(1);
            if then.threads > processors as i32 {
                let each = if sharing > 1 { " for each process" } else { "" };
                tell.note(&format!(
                    "going on with the run's {} threads, more than the {processors} processors here{each}; --threads \
                     {processors} --accept-inexact is faster, and not bit for bit",
                    then.threads
                ));
            }
        }
        compute
    }

    /// The config of a resume: `config` with the changes that the run has made since it began,
    /// unless flags override them.
    pub fn replayed(&self, config: &R::Config, overrides: &[String]) -> Result<R::Config, ConfigError> {
        config.with_changes_of(&self.config, &self.changes, overrides)
    }

    /// What to record for the config of this resume: the config that the run began with, and the
    /// changes since then.
    pub fn kept(&self, config: &R::Config) -> Result<(R::Config, Vec<RunChange>), ConfigError> {
        let Some(loaded) = &self.resumed.loaded else { return Ok((config.clone(), vec![])) };
        // Changes at this same step were for steps that are now trained again.
        let mut changes = self.changes.clone();
        changes.retain(|change| change.step < loaded.step);
        let until_here = self.config.changed(&changes)?;
        changes.extend(config.changes_at(&until_here, loaded.step)?);
        Ok((config.as_begun(&self.config)?, changes))
    }

    /// Refuses a config with which the run could not go on exactly. A run that starts over accepts
    /// any.
    pub fn check_config(&self, config: &R::Config) -> Result<()> {
        let changes = config.changes_that_matter(&self.config)?;
        if changes.is_empty() || !self.has_checkpoint() {
            return Ok(());
        }
        let path = self.path().display();
        let list = changes.iter().fold(String::new(), |mut list, change| {
            let _ = write!(list, "\n  {change}");
            list
        });
        Err(Misuse(format!(
            "the config is not the one that {path} began with, so the run could not go on exactly; undo these changes, or \
             start a new run with --init-from {path} (learning rates, clip_norm and warmup_steps may change):{list}"
        ))
        .into())
    }

    /// Refuses a run without a complete checkpoint, unless it is to start over.
    pub fn check_checkpoint(&self, options: &TrainOptions, tell: Tell) -> Result<()> {
        if self.has_checkpoint() {
            return Ok(());
        }
        let path = self.path().display();
        let none = match self.resumed.damaged.as_slice() {
            [] => format!("{path} has no checkpoint: it was stopped before the first was saved"),
            damaged => format!("{path} has no whole checkpoint:{}", listed(damaged)),
        };
        if let Some(other) = self.config.train().init_from.as_ref().filter(|_| options.init_from.is_none()) {
            return Err(Misuse(format!(
                "{none}\nIt started from the weights of {other}; start a new run in another folder: --init-from {other} --run NEW"
            ))
            .into());
        }
        if !options.restart {
            let damaged = !self.resumed.damaged.is_empty();
            return Err(Misuse(format!(
                "{none}\n{}To start over at step 0, add --restart, which {}",
                if damaged { "If you have a backup, restore one of them. " } else { "" },
                self.discarded(damaged)
            ))
            .into());
        }
        tell.note(&format!("{none}\nstarting over at step 0"));
        Ok(())
    }

    /// Hands over the run and its checkpoint; `None` in a dry run.
    pub fn take(&mut self) -> Option<(RunWriter, Resumed)> {
        Some((self.writer.take()?, std::mem::take(&mut self.resumed)))
    }

    /// Describes what starting over discards.
    fn discarded(&self, any_damaged: bool) -> String {
        let text = fs::read(self.path().join(METRICS_FILE)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let rows = text.lines().count();
        let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64();
        let last = text.lines().rev().find_map(step);
        let last = last.map_or_else(String::new, |step| format!(", up to step {step}"));
        let aside = if any_damaged { " and keeps the damaged checkpoints as damaged-step-N" } else { "" };
        let row = if rows == 1 { "row" } else { "rows" };
        format!("discards the logs so far ({METRICS_FILE} has {rows} {row}{last}){aside}.")
    }

    /// Refuses fewer steps than the run has already completed. Returns notes on where it resumes
    /// and on the effect of changed settings.
    pub fn check_steps(&self, config: &R::Config) -> Result<Vec<String>> {
        let Some(loaded) = &self.resumed.loaded else { return Ok(vec![]) };
        let (step, steps, path) = (loaded.step, config.train().steps, self.path().display());
        if step > steps {
            return Err(Misuse(format!(
                "train.steps is {steps}, and {path} is at step {step} already; give {step} or more"
            ))
            .into());
        }
        let mut notes = vec![format!("going on from step {step} of {path}")];
        let before = self.config.train().steps;
        if before != steps && step < steps {
            notes.push(format!("the learning rate schedule now spans {steps} steps instead of {before}"));
            let earlier = self.config.changed(&self.changes)?;
            for ((_, then, _), (whose, now, start)) in
                earlier.optimizers().into_iter().zip(config.optimizers())
            {
                if let Some(words) = rate_jump([then, now], start, step, (before, steps)) {
                    notes.push(format!("warning: the {whose}learning rate {words}"));
                }
            }
        }
        let (_, changes) = self.kept(config)?;
        let is_new = |key: KnownKey| changes.iter().any(|change| change.key.is(key) && change.step == step);
        if let Some(muon) = config.optimizers().first().and_then(|(_, model, _)| model.muon.as_ref())
            && is_new(known::OPTIMIZER_LR)
            && !is_new(known::OPTIMIZER_MUON_LR)
        {
            notes.push(format!(
                "optimizer.muon.lr stays {}: matrices and convolutions are trained by Muon at that rate, and \
                 optimizer.lr is for the rest",
                muon.lr
            ));
        }
        notes.extend(changes.iter().map(|change| format!("{change} ({CHANGES_FILE})")));
        if step == steps {
            notes.push(format!("{path} is at its last step already; raise train.steps to go on"));
        }
        Ok(notes)
    }
}

fn listed(damaged: &[DamagedCheckpoint]) -> String {
    damaged.iter().fold(String::new(), |mut list, checkpoint| {
        let _ = write!(list, "\n  {} is damaged: {}", checkpoint.path.display(), checkpoint.reason);
        list
    })
}

/// Describes how the learning rate jumps at `step` if the schedule's length changes from `before`
/// to `after` steps and the optimizer from `earlier` to `optimizer`, with advice. `None` if the
/// rate changes by at most a tenth, or if `optimizer.lr` itself was changed.
fn rate_jump(
    [earlier, optimizer]: [&optim::Config; 2],
    start: u64,
    step: u64,
    (before, after): (u64, u64),
) -> Option<String> {
    // The last completed step, with both lengths.
    let last = step.checked_sub(1).filter(|last| *last >= start)?;
    let (then, now) = (earlier.rate(last, start, before), optimizer.rate(last, start, after));
    if earlier.lr != optimizer.lr || (now - then).abs() <= 0.1 * then.max(now) {
        return None;
    }
    let remedy = if matches!(optimizer.schedule, Schedule::Wsd { .. }) {
        "to extend a run smoothly, raise train.steps before its decay begins"
    } else {
        "to be able to extend a run smoothly, begin it with --set 'optimizer.schedule={kind=\"constant\"}'"
    };
    Some(format!(
        "jumps from {then:.3e} to {now:.3e} at step {step}; {remedy}. To set the rate yourself, add --set optimizer.lr"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_rate_is_told() {
        let cosine = optim::Config::default();
        let words = rate_jump([&cosine, &cosine], 0, 600, (600, 1200)).unwrap();
        assert!(words.starts_with("jumps from 6.854e-9 to 5.013e-4 at step 600"), "{words}");
        // Early in a long run the curves are close together.
        assert_eq!(rate_jump([&cosine, &cosine], 0, 60, (600, 660)), None);
        let constant = optim::Config { schedule: Schedule::Constant { warmup_steps: 50 }, ..cosine.clone() };
        assert_eq!(rate_jump([&constant, &constant], 0, 600, (600, 1200)), None);
        assert_eq!(rate_jump([&constant, &constant], 0, 5, (600, 1200)), None, "the warm-up is no jump");
        let wsd = Schedule::Wsd { warmup_steps: 0, decay_steps: 100, final_factor: 0.0 };
        let wsd = optim::Config { schedule: wsd, ..cosine.clone() };
        assert_eq!(rate_jump([&wsd, &wsd], 0, 500, (600, 1200)), None);
        assert!(rate_jump([&wsd, &wsd], 0, 550, (600, 1200)).unwrap().contains("before its decay begins"));
        assert_eq!(rate_jump([&cosine, &cosine], 700, 600, (600, 1200)), None, "a group that has not begun");
        let lower = optim::Config { lr: 1e-4, ..cosine.clone() };
        assert_eq!(rate_jump([&cosine, &lower], 0, 600, (600, 1200)), None, "the rate that was asked for");
    }
}
