//! Our own program as a child process, which must not outlive the comparison.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{env, fs};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Set for children.
const CHILD: &str = "PIXTOK_COMPARE_CHILD";

/// Asks the system to end this process as by SIGTERM when the comparison that started it is gone, so that nothing
/// trains unseen. Other systems than Linux have no such request.
pub(in crate::commands) fn follow_parent() {
    #[cfg(target_os = "linux")]
    if env::var_os(CHILD).is_some() {
        // Without it a training that lost its comparison runs to its end, which harms nothing.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    }
}

/// The children that run now.
#[derive(Default)]
pub(super) struct Children(Mutex<Vec<u32>>);

/// How a child ended.
pub(super) struct Ended {
    /// Absent when a signal ended it.
    pub code: Option<i32>,
    /// Its last error, without the word.
    pub error: Option<String>,
}

impl Children {
    /// Runs `pixtok ARGS`, hands each line that it says, but for its error, to `tell` and adds it to the file `log`.
    pub fn run(&self, args: &[String], log: &Path, tell: impl Fn(&str)) -> Result<Ended> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut log = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(program)
            .args(args)
            .env(CHILD, "1")
            // Ctrl-C reaches the comparison alone, which passes it on once: a second one would end a training unsaved.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        self.with(|running| running.push(child.id()));
        let mut error = None;
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // What is said is worth less than the work: a full disk shows where something is saved.
                let _ = writeln!(log, "{line}");
                match line.strip_prefix("error: ") {
                    Some(message) => error = Some(message.to_owned()),
                    None => tell(&line),
                }
            }
        }
        let status = child.wait().context("cannot wait for a child process");
        self.with(|running| running.retain(|&id| id != child.id()));
        Ok(Ended { code: status?.code(), error })
    }

    /// Passes a signal on to all of them.
    pub fn signal(&self, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        self.with(|running| {
            for pid in running.iter().filter_map(|&id| Pid::from_raw(id.cast_signed())) {
                // One that has just ended needs none.
                let _ = kill_process(pid, signal);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<u32>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
