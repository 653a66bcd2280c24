//! The logs of a run, written through one [`Logger`]: the terminal, `metrics.jsonl` and
//! TensorBoard.
//!
//! A log that cannot be written must not stop a training. So each sink reports a failure once, then
//! stays silent until it works again. No record is ever left half written.

mod append;
mod jsonl;
mod tensorboard;
mod terminal;
mod verbosity;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use thiserror::Error;

use jsonl::Rows;
pub use jsonl::{check_rows, cut_back};
use tensorboard::Events;
use terminal::Terminal;
pub use verbosity::Verbosity;

use pixtok_base::{Class, Classified};

/// The log of scalars in a run folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The folder in a run folder with the rows of each of several processes.
const PROCESSES: &str = "processes";

/// Logged values that the terminal shows too, with a shorter label.
const SHOWN: [(&str, &str); 4] = [
    ("loss/total", "loss"),
    ("speed/images_per_sec", "images/s"),
    ("codebook/usage", "usage"),
    ("discriminator/accuracy", "D accuracy"),
];

/// The reason why a log could not be opened or written.
#[derive(Debug, Error)]
pub enum LoggerError {
    /// A log file could not be opened or read.
    #[error("cannot open the log {}: {source}", path.display())]
    Open {
        /// The file, or the folder that should contain it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A record could not be written. The file ends with the last whole record.
    #[error("cannot write to the log {}: {source}; it will lack records until this is fixed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line in the middle of a `.jsonl` file is not a JSON object with a `"step"`.
    #[error("line {line} of {} is not a row with a \"step\" ({source}): remove the line, or move the file away", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The parser's error.
        source: serde_json::Error,
    },
}

impl Classified for LoggerError {
    fn class(&self) -> Class {
        Class::Failed
    }
}

impl LoggerError {
    fn open(path: &Path, source: io::Error) -> Self {
        Self::Open { path: path.to_path_buf(), source }
    }

    fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_path_buf(), source }
    }
}

/// The progress of a run when its log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggerOptions {
    /// The step at which the training ends.
    pub total_steps: u64,
    /// The number of steps already done: 0, or the step of the resumed checkpoint.
    pub start_step: u64,
    /// Whether the run folder has logs already. Their records after `start_step` are dropped.
    pub resumed: bool,
    /// The number of this process, if there are several.
    pub process: Option<u32>,
}

/// The log of one run. Dropping it draws the last state on the terminal and leaves the bar there.
pub struct Logger {
    terminal: Terminal,
    /// The files; none in a process that leaves them to another.
    files: Option<Files>,
    /// The rows that are this process's own, if there are several processes.
    own: Option<Rows>,
    rows_failing: bool,
    events_failing: bool,
}

/// The log files of a run.
struct Files {
    rows: Rows,
    events: Events,
}

impl Logger {
    /// Opens the logs in the existing folder `run`. For a resumed run, `metrics.jsonl` is cut back
    /// to `start_step` first, and TensorBoard is told to drop the later points. At `start_step` 0,
    /// nothing earlier is kept.
    ///
    /// # Errors
    /// A file cannot be created, read or written, or `metrics.jsonl` was edited by hand.
    pub fn open(run: &Path, options: LoggerOptions) -> Result<Self, LoggerError> {
        let LoggerOptions { total_steps, start_step, .. } = options;
        let metrics = run.join(METRICS_FILE);
        reopen(&metrics, options)?;
        let first_step = if start_step == 0 { 0 } else { start_step + 1 };
        let files = Files { rows: Rows::open(&metrics)?, events: Events::create(run, first_step)? };
        let is_terminal = io::stderr().is_terminal();
        let terminal = Terminal::on_stderr(total_steps, start_step, is_terminal, Verbosity::chosen());
        let own = own_rows(run, options)?;
        Ok(Self { terminal, files: Some(files), own, rows_failing: false, events_failing: false })
    }

    /// The log of a process that leaves the run's logs, the notes and the bar to another process.
    /// It prints warnings, and has only the rows that are its own.
    ///
    /// # Errors
    /// The same as [`Logger::open`].
    pub fn beside(run: &Path, options: LoggerOptions) -> Result<Self, LoggerError> {
        let LoggerOptions { total_steps, start_step, .. } = options;
        let terminal = Terminal::on_stderr(total_steps, start_step, false, Verbosity::Quiet);
        let own = own_rows(run, options)?;
        Ok(Self { terminal, files: None, own, rows_failing: false, events_failing: false })
    }

    /// Writes one row of this process's own to `processes/N.jsonl`, if there are several processes.
    ///
    /// # Errors
    /// The same as [`Logger::log`].
    pub fn log_process(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), LoggerError> {
        let written = self.own.as_mut().map_or(Ok(()), |rows| rows.write(step, values));
        once(&mut self.rows_failing, written)
    }

    /// Writes one row of named values, `group/name`, to every sink. A value that is not finite is
    /// `null` in `metrics.jsonl`.
    ///
    /// # Errors
    /// The first failure of a sink since it last worked. The caller warns, and the training
    /// continues.
    pub fn log(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), LoggerError> {
        let shown = SHOWN.iter().filter_map(|(name, label)| {
            values.iter().find(|(logged, _)| logged == name).map(|(_, value)| (*label, *value))
        });
        self.terminal.update(step, shown);
        let Some(files) = &mut self.files else { return Ok(()) };
        let rows = once(&mut self.rows_failing, files.rows.write(step, values));
        let events = once(&mut self.events_failing, files.events.scalars(step, values));
        rows.and(events)
    }

    /// Writes to TensorBoard, if this process does.
    fn write_event(
        &mut self,
        write: impl FnOnce(&mut Events) -> Result<(), LoggerError>,
    ) -> Result<(), LoggerError> {
        let written = self.files.as_mut().map_or(Ok(()), |files| write(&mut files.events));
        once(&mut self.events_failing, written)
    }

    /// Moves the bar to `step` and shows `(label, value)` pairs beside it. Labels that are not
    /// given keep their last value. Cheap enough to call at every step.
    pub fn progress(&mut self, step: u64, shown: &[(&str, f64)]) {
        self.terminal.update(step, shown.iter().copied());
    }

    /// Shows `text` in place of the values until the next step, at most as often as those are.
    pub fn status(&mut self, text: &str) {
        self.terminal.status(text);
    }

    /// Starts the clock for the time left.
    pub fn begin_steps(&mut self) {
        self.terminal.begin_steps();
    }

    /// Prints a line above the bar, unless only warnings are shown.
    pub fn note(&mut self, text: &str) {
        self.terminal.note(text);
    }

    /// Prints a warning above the bar.
    pub fn warn(&mut self, text: &str) {
        self.terminal.line(&format!("warning: {text}"));
    }

    /// Shows a picture in TensorBoard: `png` is a whole PNG file of `width` × `height` RGB pixels.
    ///
    /// # Errors
    /// The same as [`Logger::log`].
    pub fn picture(
        &mut self,
        step: u64,
        tag: &str,
        width: usize,
        height: usize,
        png: &[u8],
    ) -> Result<(), LoggerError> {
        self.write_event(|events| events.picture(step, tag, (width, height), png))
    }

    /// Shows in TensorBoard how often each of `codes` codes occurs. `counts` holds `(code, count)`
    /// pairs; the other counts are 0.
    ///
    /// # Errors
    /// The same as [`Logger::log`].
    pub fn histogram(
        &mut self,
        step: u64,
        tag: &str,
        codes: i64,
        counts: &[(i64, i64)],
    ) -> Result<(), LoggerError> {
        self.write_event(|events| events.histogram(step, tag, codes, counts))
    }

    /// Shows `text` in TensorBoard unchanged, in a fixed-width font: for instance the config of the
    /// run.
    ///
    /// # Errors
    /// The same as [`Logger::log`].
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<(), LoggerError> {
        self.write_event(|events| events.text(step, tag, text))
    }
}

/// Cuts earlier rows of a resumed run back to the step at which it goes on.
fn reopen(rows: &Path, options: LoggerOptions) -> Result<(), LoggerError> {
    if options.resumed && options.start_step == 0 {
        // Even a row of step 0 (an evaluation before the training) will be written again.
        std::fs::write(rows, "").map_err(|e| LoggerError::open(rows, e))
    } else if options.resumed {
        cut_back(rows, options.start_step)
    } else {
        Ok(())
    }
}

/// Opens the rows that are a process's own.
fn own_rows(run: &Path, options: LoggerOptions) -> Result<Option<Rows>, LoggerError> {
    let Some(process) = options.process else { return Ok(None) };
    let folder = run.join(PROCESSES);
    std::fs::create_dir_all(&folder).map_err(|e| LoggerError::open(&folder, e))?;
    let path = folder.join(format!("{process}.jsonl"));
    reopen(&path, options)?;
    Rows::open(&path).map(Some)
}

/// Passes on only the first of several failures in a row.
fn once(failing: &mut bool, result: Result<(), LoggerError>) -> Result<(), LoggerError> {
    let told_already = *failing;
    *failing = result.is_err();
    if told_already { Ok(()) } else { result }
}

#[cfg(test)]
mod tests;
