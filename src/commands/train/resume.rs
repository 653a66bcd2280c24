//! `pixtok train --resume`: the run as it lies on disk. Nothing in it changes before everything is checked.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::Result;

use crate::checkpoint::{DamagedCheckpoint, Error, Resumed, RunFolder, RunWriter};
use crate::cli::ComputeArgs;
use crate::commands::{Misuse, note, open};
use crate::config::Config;
use crate::logger::METRICS_FILE;
use crate::optim;
use crate::torch::DeviceChoice;
use crate::train::{State, TrainError};

/// The run that is to go on.
pub(super) struct Earlier {
    pub path: PathBuf,
    pub config: Config,
    /// Of its newest checkpoint; nothing if it has none that can be read.
    state: Option<State>,
}

impl Earlier {
    /// Reads what the run says of itself.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = RunFolder::open(path)?;
        let not_a_run = |reason: &str| Error::NotARun { folder: path.to_owned(), reason: reason.to_owned() };
        if !open::is_ours(path) {
            return Err(not_a_run("it has no config.toml").into());
        }
        let config = open::config_of(path)?;
        if path.join(open::MODEL).is_file() && folder.checkpoints()?.is_empty() {
            return Err(Misuse(format!(
                "{} is a model folder, which has weights but no run to go on with; start a new run from it with --init-from",
                path.display()
            ))
            .into());
        }
        let state = folder.newest_state()?.map(State::parse).transpose().map_err(TrainError::from)?;
        Ok(Self { path: path.to_owned(), config, state })
    }

    /// The device and the thread count of the run, where the flags leave them open.
    pub fn compute(&self, args: &ComputeArgs) -> ComputeArgs {
        let mut args = args.clone();
        let Some(state) = &self.state else { return args };
        if args.device == DeviceChoice::Auto && state.machine.device == "cpu" {
            args.device = DeviceChoice::Cpu;
        }
        if args.threads.is_none() && state.machine.device == "cpu" {
            args.threads = Some(state.threads);
            let processors = available_parallelism().map_or(1, usize::from);
            if state.threads > processors as i32 {
                note(&format!(
                    "going on with the run's {} threads, more than the {processors} processors here; --threads {processors} \
                     --accept-inexact is faster, and not bit for bit",
                    state.threads
                ));
            }
        }
        args
    }

    /// The file of the loss's weights, if it is still where it was.
    pub fn loss_weights(&self) -> Option<PathBuf> {
        let file = &self.state.as_ref()?.loss_weights.as_ref()?.file;
        file.is_file().then(|| file.clone())
    }

    /// Refuses a config with which the run could not go on as it began.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        let changes = config.changes_that_matter(&self.config)?;
        if changes.is_empty() {
            return Ok(());
        }
        let path = self.path.display();
        let list = changes.iter().fold(String::new(), |mut list, change| {
            let _ = write!(list, "\n  {change}");
            list
        });
        Err(Misuse(format!(
            "the config is not the one that {path} began with, so the run could not go on exactly; undo these changes, or \
             start a new run with --init-from {path}:{list}"
        ))
        .into())
    }

    /// The checkpoint to go on from: the newest that is whole. With `restart` it may have none, and begins again.
    pub fn checkpoint(&self, run: &RunWriter, restart: bool) -> Result<Resumed> {
        let resumed = run.newest_whole()?;
        if resumed.loaded.is_some() {
            return Ok(resumed);
        }
        let path = self.path.display();
        let none = match resumed.damaged.as_slice() {
            [] => format!("{path} has no checkpoint yet: it was stopped before its first"),
            damaged => format!("{path} has no whole checkpoint:{}", listed(damaged)),
        };
        if let Some(other) = &self.config.train.started_from {
            return Err(Misuse(format!(
                "{none}\nIt began with the weights of {other}, which only a new run can begin with again: --init-from {other}"
            ))
            .into());
        }
        if !restart {
            return Err(Misuse(format!(
                "{none}\n{}To begin this run again at step 0, add --restart, which {}",
                if resumed.damaged.is_empty() {
                    ""
                } else {
                    "Restore one of them from a copy if there is one. "
                },
                self.discarded(!resumed.damaged.is_empty())
            ))
            .into());
        }
        note(&format!("{none}\nbeginning again at step 0"));
        Ok(resumed)
    }

    /// What a new beginning takes away, in words.
    fn discarded(&self, any_damaged: bool) -> String {
        let text = fs::read_to_string(self.path.join(METRICS_FILE)).unwrap_or_default();
        let rows = text.lines().count();
        let last = text
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64());
        let log = match last {
            Some(step) => format!("discards the {rows} rows of {METRICS_FILE} (up to step {step})"),
            None => format!("discards nothing ({METRICS_FILE} has no rows)"),
        };
        let aside = if any_damaged { " and keeps the damaged checkpoints as damaged-step-N" } else { "" };
        format!("{log}{aside}.")
    }

    /// Refuses fewer steps than the run already has, which its config would then deny, and says what other steps mean.
    pub fn check_steps(&self, step: u64, config: &Config) -> Result<()> {
        let (steps, path) = (config.train.steps, self.path.display());
        if step > steps {
            return Err(Misuse(format!(
                "train.steps is {steps}, and {path} is at step {step} already; give {step} or more"
            ))
            .into());
        }
        let before = self.config.train.steps;
        if before != steps {
            note(&format!("the learning rate schedule now spans {steps} steps instead of {before}"));
            let groups = [
                ("", Some((&config.optimizer, 0))),
                ("discriminator's ", config.adversarial.as_ref().map(|a| (&a.optimizer, a.start))),
            ];
            for (whose, group) in groups {
                let Some((optimizer, start)) = group else { continue };
                if let Some(words) = rate_jump(optimizer, start, step, (before, steps)) {
                    note(&format!("warning: the {whose}learning rate {words}"));
                }
            }
        }
        if step == steps {
            note(&format!("{path} is at its last step already; raise train.steps to go on"));
        }
        Ok(())
    }
}

fn listed(damaged: &[DamagedCheckpoint]) -> String {
    damaged.iter().fold(String::new(), |mut list, checkpoint| {
        let _ = write!(list, "\n  {} is damaged: {}", checkpoint.path.display(), checkpoint.reason);
        list
    })
}

/// How the learning rate jumps at `step` if the schedule's length changes from `before` to `after` steps, with the remedy;
/// nothing if it goes on smoothly, within a tenth.
fn rate_jump(
    optimizer: &optim::Config,
    start: u64,
    step: u64,
    (before, after): (u64, u64),
) -> Option<String> {
    let rate = |step: u64, steps: u64| {
        optimizer.lr * optimizer.schedule.factor(step.saturating_sub(start), steps.saturating_sub(start))
    };
    if step <= start {
        return None;
    }
    // That of the last step done, and that of the next.
    let (then, now) = (rate(step - 1, before), rate(step, after));
    if (now - then).abs() <= 0.1 * then.max(now) {
        return None;
    }
    Some(format!(
        "jumps from {then:.3e} to {now:.3e} at step {step}; a run that may be made longer goes on smoothly with \
         optimizer.schedule kind \"constant\" or \"wsd\" from its beginning. To train on at a rate of your own, start a new run \
         with --init-from"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Schedule;

    #[test]
    fn a_jump_of_the_rate_is_told() {
        let cosine = optim::Config::default();
        let words = rate_jump(&cosine, 0, 600, (600, 1200)).unwrap();
        assert!(words.starts_with("jumps from 6.854e-9 to 5.000e-4 at step 600"), "{words}");
        // Early in a long run the curves are close.
        assert_eq!(rate_jump(&cosine, 0, 60, (600, 660)), None);
        let constant = optim::Config { schedule: Schedule::Constant { warmup_steps: 0 }, ..cosine.clone() };
        assert_eq!(rate_jump(&constant, 0, 600, (600, 1200)), None);
        let wsd = Schedule::Wsd { warmup_steps: 0, decay_steps: 100, final_factor: 0.0 };
        let wsd = optim::Config { schedule: wsd, ..cosine.clone() };
        assert_eq!(rate_jump(&wsd, 0, 500, (600, 1200)), None);
        assert!(rate_jump(&wsd, 0, 550, (600, 1200)).is_some());
        assert_eq!(rate_jump(&cosine, 700, 600, (600, 1200)), None, "a group that has not begun");
    }
}
