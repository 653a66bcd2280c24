//! Our own program as a child process, which must not outlive the comparison.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, fs};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::layout;
use super::work::{Assignment, WORK_COMMAND, Work};
use crate::logger::Verbosity;
use crate::run::Tell;
use pixtok_base::Class;

/// The children that run now.
#[derive(Default)]
pub(super) struct Children(Mutex<State>);

#[derive(Default)]
struct State {
    running: Vec<u32>,
    /// No other may begin.
    stopped: bool,
}

/// How a child ended.
pub(super) struct Ended {
    /// Absent when a signal ended it, or kept it from beginning.
    pub code: Option<i32>,
    /// Its last error, without the word.
    pub error: Option<String>,
}

impl Ended {
    /// Whether it ended with an error of this class.
    pub fn is_of(&self, class: Class) -> bool {
        self.code == Some(i32::from(class.exit_code()))
    }

    /// Why `what`, which wrote the file `log`, failed, in words; none if it ended well.
    pub fn failure(&self, what: &str, log: &Path) -> Option<String> {
        let code = match self.code {
            Some(0) => return None,
            Some(code) => format!("exit code {code}"),
            None => "stopped".into(),
        };
        let error = self.error.as_deref().unwrap_or("it gave no reason");
        Some(format!("{what} failed ({code}): {error}; see {}", layout::place(log)))
    }
}

impl Children {
    /// Has a child do the work of the job with this label. Tells each line that the child says, but for
    /// its error, and adds it to the file `log`.
    pub fn run(&self, work: &Work, log: &Path, label: &str, tell: Tell) -> Result<Ended> {
        let mut log = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        tell.detail(|| work.words());
        let Some(mut child) = self.spawn(work)? else { return Ok(Ended { code: None, error: None }) };
        let mut error: Option<String> = None;
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                // What is said is worth less than the work: a full disk shows where something is saved.
                let _ = writeln!(log, "{line}");
                match (line.strip_prefix("error: "), &mut error) {
                    (Some(message), _) => error = Some(message.to_owned()),
                    // An error of several lines, the last thing that is said.
                    (None, Some(error)) => *error = format!("{error} {}", line.trim()),
                    // The child is as quiet as this process.
                    (None, None) => tell.say(&format!("{label}: {line}")),
                }
            }
        }
        // It has said its last, and its number may be another's once it is waited for.
        self.locked().running.retain(|&id| id != child.id());
        let status = child.wait().context("cannot wait for a child process")?;
        Ok(Ended { code: status.code(), error })
    }

    /// Starts the program on the work, unless all is to stop.
    fn spawn(&self, work: &Work) -> Result<Option<Child>> {
        let assignment = Assignment::new(work.clone()).to_json()?;
        let program = env::current_exe().context("cannot find this program's own file")?;
        // Held until the child is known, so that a signal finds every one.
        let mut state = self.locked();
        if state.stopped {
            return Ok(None);
        }
        let mut child = Command::new(program)
            .args(Verbosity::chosen().flag())
            .arg(WORK_COMMAND)
            // Ctrl-C reaches the comparison alone, which passes it on once: a second one would end a training unsaved.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        state.running.push(child.id());
        if let Some(mut stdin) = child.stdin.take() {
            // A child that is gone already says so by its exit code.
            let _ = stdin.write_all(&assignment);
        }
        Ok(Some(child))
    }

    /// Passes a signal on to all of them, and lets no other begin.
    pub fn stop(&self, signal: i32) {
        let mut state = self.locked();
        state.stopped = true;
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        for pid in state.running.iter().filter_map(|&id| Pid::from_raw(id.cast_signed())) {
            // One that has just ended needs none.
            let _ = kill_process(pid, signal);
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
