//! The display on standard error: a progress bar, or, if standard error is not a terminal, a plain
//! line from time to time. Failures here are not errors: a closed terminal must not stop a
//! training.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Verbosity;

/// The bar is redrawn at most this often.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// A plain line is printed at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Terminal {
    total_steps: u64,
    start_step: u64,
    step: u64,
    /// When the steps began; before the first step, when the run began.
    begun: Instant,
    /// The newest value of each label, in the order in which the labels first appeared.
    shown: Vec<(String, f64)>,
    /// When something was last drawn; `None` before the first time.
    drawn: Option<Instant>,
    /// Whether there is something new that has not been drawn.
    pending: bool,
    /// Whether only warnings are shown.
    quiet: bool,
    face: Face,
}

enum Face {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, every: Duration },
}

impl Terminal {
    /// A display on standard error: a bar if that `is_terminal`, otherwise plain lines.
    pub(super) fn on_stderr(
        total_steps: u64,
        start_step: u64,
        is_terminal: bool,
        verbosity: Verbosity,
    ) -> Self {
        let quiet = verbosity == Verbosity::Quiet;
        let face = if is_terminal && !quiet {
            Face::Bar(bar(total_steps))
        } else {
            Face::Lines { out: Box::new(std::io::stderr()), every: LINE_EVERY }
        };
        Self::new(total_steps, start_step, face, quiet)
    }

    fn new(total_steps: u64, start_step: u64, face: Face, quiet: bool) -> Self {
        let (begun, shown) = (Instant::now(), Vec::new());
        let (step, drawn, pending) = (start_step, None, false);
        Self { total_steps, start_step, step, begun, shown, drawn, pending, quiet, face }
    }

    /// Takes the newest values, and draws if it is time to. The first and the last values are
    /// always drawn.
    pub(super) fn update<'a>(&mut self, step: u64, values: impl Iterator<Item = (&'a str, f64)>) {
        if self.quiet {
            return;
        }
        self.step = step;
        self.pending = true;
        for (label, value) in values {
            match self.shown.iter_mut().find(|(known, _)| known == label) {
                Some((_, old)) => *old = value,
                None => self.shown.push((label.to_owned(), value)),
            }
        }
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= self.every()) {
            self.draw();
        }
    }

    fn every(&self) -> Duration {
        match &self.face {
            Face::Bar(_) => BAR_EVERY,
            Face::Lines { every, .. } => *every,
        }
    }

    /// Shows what happens between steps, or before the first, unless something was drawn less than
    /// one drawing interval ago.
    pub(super) fn status(&mut self, text: &str) {
        if self.quiet || self.drawn.unwrap_or(self.begun).elapsed() < self.every() {
            return;
        }
        self.drawn = Some(Instant::now());
        match &mut self.face {
            Face::Bar(bar) => {
                bar.set_position(self.step);
                bar.set_message(format!(" · {text}"));
            }
            Face::Lines { out, .. } => drop(writeln!(out, "{text}")),
        }
    }

    /// Starts the clock for the time left. The first step will be drawn.
    pub(super) fn begin_steps(&mut self) {
        (self.begun, self.drawn) = (Instant::now(), None);
    }

    /// Prints a line above the bar, unless quiet.
    pub(super) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Prints a line above the bar.
    pub(super) fn line(&mut self, text: &str) {
        match &mut self.face {
            Face::Bar(bar) => bar.suspend(|| drop(writeln!(std::io::stderr(), "{text}"))),
            Face::Lines { out, .. } => drop(writeln!(out, "{text}")),
        }
    }

    fn draw(&mut self) {
        self.drawn = Some(Instant::now());
        self.pending = false;
        let (values, left) = (self.values(), self.left());
        match &mut self.face {
            Face::Bar(bar) => {
                bar.set_position(self.step);
                // A narrow terminal cuts the end, so the time comes first.
                bar.set_message(left + &values);
            }
            Face::Lines { out, .. } => {
                drop(writeln!(out, "step {}/{}{values}{left}", self.step, self.total_steps))
            }
        }
    }

    /// The values in words: ` · loss 0.0123 · images/s 138`
    fn values(&self) -> String {
        let values = self.shown.iter().map(|(label, value)| format!(" · {label} {}", short(*value)));
        values.collect()
    }

    /// The time left in words: ` · 00:01:02 left`
    fn left(&self) -> String {
        let done = self.step.saturating_sub(self.start_step);
        let left = self.total_steps.saturating_sub(self.step);
        let time = time_left(self.begun.elapsed(), done, left);
        time.map_or_else(String::new, |time| format!(" · {} left", FormattedDuration(time)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.pending {
            self.draw();
        }
        if let Face::Bar(bar) = &self.face {
            bar.abandon();
            // The next output then starts on its own line. A failure means a closed terminal, and
            // is ignored.
            let _ = writeln!(io::stderr());
        }
    }
}

/// Nothing is drawn yet, so that lines from elsewhere can come before the first step.
fn bar(total_steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr());
    // Bar and step have a fixed width, whatever is said beside them. All fits into 80 columns.
    let width = total_steps.to_string().len();
    let template = format!("{{bar:10}} {{pos:>{width}}}/{{len}}{{msg}}");
    // If the template were wrong, indicatif's default bar would be shown.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

/// The time left, from the mean pace so far, including pauses for evaluations; `None` before the
/// first step and after the last.
fn time_left(elapsed: Duration, steps_done: u64, steps_left: u64) -> Option<Duration> {
    if steps_done == 0 || steps_left == 0 {
        return None;
    }
    let seconds = elapsed.as_secs_f64() / steps_done as f64 * steps_left as f64;
    Duration::try_from_secs_f64(seconds.round()).ok()
}

/// Formats with three significant digits, so that the line fits into 80 columns. `metrics.jsonl`
/// has all digits.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        value.to_string()
    } else if !(1e-3..1e6).contains(&magnitude) {
        format!("{value:.2e}")
    } else {
        let digits = 2 - magnitude.log10().floor() as i32;
        format!("{value:.*}", usize::try_from(digits).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(every: Duration, steps: &[u64]) -> Vec<String> {
        let screen = Screen::default();
        let face = Face::Lines { out: Box::new(screen.clone()), every };
        let mut terminal = Terminal::new(600, 0, face, false);
        for step in steps {
            terminal.update(*step, [("loss", 0.5 / *step as f64)].into_iter());
        }
        drop(terminal);
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn without_a_terminal_the_first_and_the_last_line_are_always_there() {
        let lines = lines_of(Duration::from_secs(3600), &[1, 2, 3, 600]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("step 1/600 · loss 0.500 · "), "{lines:?}");
        assert_eq!(lines[1], "step 600/600 · loss 8.33e-4");
        assert_eq!(lines_of(Duration::ZERO, &[1, 2, 3]).len(), 3, "nothing is drawn twice");
        assert_eq!(lines_of(Duration::ZERO, &[]).len(), 0);
    }

    #[test]
    fn what_comes_before_the_first_step_is_shown_and_takes_none_of_its_time() {
        let screen = Screen::default();
        let face = Face::Lines { out: Box::new(screen.clone()), every: Duration::from_secs(100) };
        let mut terminal = Terminal::new(600, 0, face, false);
        terminal.status("too early");
        terminal.begun = Instant::now().checked_sub(Duration::from_secs(3600)).unwrap();
        terminal.status("the codebook's start: 5 of 9");
        terminal.status("too soon");
        terminal.begin_steps();
        terminal.update(1, std::iter::empty());
        drop(terminal);
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("the codebook's start: 5 of 9\nstep 1/600"), "{text}");
        assert!(!text.contains("too"), "{text}");
        assert!(text.contains(" · 00:00:0"), "the hour before the steps is not theirs: {text}");
    }

    #[test]
    fn a_label_keeps_its_newest_value() {
        let screen = Screen::default();
        let face = Face::Lines { out: Box::new(screen.clone()), every: Duration::from_secs(3600) };
        let mut terminal = Terminal::new(2, 0, face, false);
        terminal.update(1, [("loss", 1.0), ("usage", 0.25)].into_iter());
        terminal.note("note");
        terminal.update(2, [("loss", 2.0)].into_iter());
        drop(terminal);
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with("note\nstep 2/2 · loss 2.00 · usage 0.250\n"), "{text}");
    }

    #[test]
    fn a_quiet_one_shows_warnings_alone() {
        let screen = Screen::default();
        let face = Face::Lines { out: Box::new(screen.clone()), every: Duration::ZERO };
        let mut terminal = Terminal::new(2, 0, face, true);
        terminal.status("the codebook's start");
        terminal.begin_steps();
        terminal.update(1, [("loss", 1.0)].into_iter());
        terminal.note("note");
        terminal.line("warning: the disk is full");
        drop(terminal);
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "warning: the disk is full\n");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 0.012_34, 138.44, 12_345.6, -0.5, 3e-5, 2.5e7, f64::NAN].map(short);
        assert_eq!(shown, ["0", "0.0123", "138", "12346", "-0.500", "3.00e-5", "2.50e7", "NaN"]);
    }

    #[test]
    fn the_time_left_follows_the_pace_so_far() {
        assert_eq!(time_left(Duration::from_secs(10), 20, 100), Some(Duration::from_secs(50)));
        assert_eq!(time_left(Duration::from_secs(10), 0, 100), None);
        assert_eq!(time_left(Duration::from_secs(10), 20, 0), None);
    }
}
