//! The progress of an export: a bar on a terminal, otherwise a line from time to time.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::tell;
use crate::export::{Progress, Watch};
use crate::logger::Verbosity;

/// The shortest time between lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The bar, or the lines that replace it.
#[derive(Default)]
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    total: u64,
    spoke: Option<Instant>,
    last: Option<Progress>,
}

impl Watch for Bar {
    fn begin(&mut self, total: u64, done: u64) {
        self.total = total;
        self.last = None;
        self.spoke = Some(Instant::now());
        let wanted = stderr().is_terminal() && Verbosity::chosen() > Verbosity::Quiet;
        self.bar = wanted.then(|| {
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left") {
                bar.set_style(style);
            }
            bar.with_position(done).with_message("starting")
        });
    }

    fn show(&mut self, progress: &Progress) {
        let speed = speed(progress);
        self.last = Some(*progress);
        match &self.bar {
            Some(bar) => {
                bar.set_position(progress.samples);
                bar.set_message(speed);
            }
            None if self.spoke.is_none_or(|spoke| spoke.elapsed() >= LINE_EVERY) => {
                tell().note(&format!("{} of {}: {speed}", progress.samples, self.total));
                self.spoke = Some(Instant::now());
            }
            None => {}
        }
    }

    /// Removes the bar and reports what this call did.
    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(progress) = &self.last {
            let (images, seconds) = (progress.images, progress.elapsed.as_secs_f64());
            tell().note(&format!("{images} images in {seconds:.1} s: {}", speed(progress)));
        }
    }
}

fn speed(progress: &Progress) -> String {
    let seconds = progress.elapsed.as_secs_f64().max(1e-3);
    let (images, tokens) = (progress.images as f64 / seconds, progress.tokens as f64 / seconds);
    let skipped =
        if progress.skipped > 0 { format!(", {} skipped", progress.skipped) } else { String::new() };
    format!("{images:.1} images/s, {tokens:.0} tokens/s{skipped}")
}
