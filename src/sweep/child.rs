//! Child processes that run this program. They must not outlive the comparison.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, fs};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::work::{Assignment, WORK_COMMAND, Work};
use crate::logger::Verbosity;
use crate::run::Tell;
use pixtok_base::Class;

/// The running children.
#[derive(Default)]
pub(super) struct Children(Mutex<State>);

#[derive(Default)]
struct State {
    running: Vec<u32>,
    /// Whether no more children may start.
    stopped: bool,
}

/// The end of a child.
pub(super) struct Ended {
    /// The exit code; absent if a signal ended the child or kept it from starting.
    pub code: Option<i32>,
    /// The child's last error, without the word "error".
    pub error: Option<String>,
}

impl Ended {
    /// Whether it ended with an error of this class.
    pub fn is_of(&self, class: Class) -> bool {
        self.code == Some(i32::from(class.exit_code()))
    }

    /// Why `what`, which wrote the file at the place `log`, failed, in words; none if it ended well.
    pub fn failure(&self, what: &str, log: &str) -> Option<String> {
        let code = match self.code {
            Some(0) => return None,
            Some(code) => format!("exit code {code}"),
            None => "stopped".into(),
        };
        let error = self.error.as_deref().unwrap_or("it gave no reason");
        Some(format!("{what} failed ({code}): {error}; see {log}"))
    }
}

impl Children {
    /// Runs a child that does the work of the job with this label. Reports each line of its output
    /// except its error, and appends the output to the file `log`.
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
                // The work matters more than its log. A full disk is noticed where results are
                // saved.
                let _ = writeln!(log, "{line}");
                match (line.strip_prefix("error: "), &mut error) {
                    (Some(message), _) => error = Some(message.to_owned()),
                    // An error of several lines is the end of the output.
                    (None, Some(error)) => *error = format!("{error} {}", line.trim()),
                    // The child has the same verbosity as this process.
                    (None, None) => tell.say(&format!("{label}: {line}")),
                }
            }
        }
        // The output has ended. Once the child is waited for, its process id may be reused.
        self.locked().running.retain(|&id| id != child.id());
        let status = child.wait().context("cannot wait for a child process")?;
        Ok(Ended { code: status.code(), error })
    }

    /// Starts the program on the work, unless everything is to stop.
    fn spawn(&self, work: &Work) -> Result<Option<Child>> {
        let assignment = Assignment::new(work.clone()).to_json()?;
        let program = env::current_exe().context("cannot find this program's own file")?;
        // Locked until the child is registered, so that a signal reaches every child.
        let mut state = self.locked();
        if state.stopped {
            return Ok(None);
        }
        let mut child = Command::new(program)
            .args(Verbosity::chosen().flag())
            .arg(WORK_COMMAND)
            // Ctrl-C reaches only the comparison, which passes it on once. A second one would end a
            // training without saving.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        state.running.push(child.id());
        if let Some(mut stdin) = child.stdin.take() {
            // If the child has ended already, its exit code shows it.
            let _ = stdin.write_all(&assignment);
        }
        Ok(Some(child))
    }

    /// Passes a signal on to all children, and prevents others from starting.
    pub fn stop(&self, signal: i32) {
        let mut state = self.locked();
        state.stopped = true;
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        for pid in state.running.iter().filter_map(|&id| Pid::from_raw(id.cast_signed())) {
            // A child that has just ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
