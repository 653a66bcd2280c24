//! Signals that end a training: the current step is finished and saved, then the program exits.
//! They are Ctrl-C and SIGTERM; SIGHUP, from a closed terminal; SIGUSR1, SIGUSR2 and SIGXCPU, with
//! which batch systems announce the end of the time (Slurm's `--signal`, Grid Engine's `-notify`).
//!
//! A second Ctrl-C or SIGTERM ends the process at once. The others never do: a closed terminal
//! often sends two, and a batch system sends SIGTERM soon after its warning, while the checkpoint
//! that the warning asked for is still being saved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::flag;

/// The signals that end a training, those first that win over the others.
const HEARD: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU];

/// How many processes got each of the signals.
pub(super) type Votes = [f64; HEARD.len()];

/// The vote of a process that got this signal, if any.
pub(super) fn vote(signal: Option<i32>) -> Votes {
    HEARD.map(|heard| f64::from(u8::from(signal == Some(heard))))
}

/// The signal that all processes take, from the sums of their votes.
pub(super) fn elected(sums: impl IntoIterator<Item = f64>) -> Option<i32> {
    HEARD.into_iter().zip(sums).find(|(_, votes)| *votes > 0.0).map(|(signal, _)| signal)
}

/// Remembers the signal that arrived, if any.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// SIGINT or SIGTERM.
    asked: Arc<AtomicUsize>,
    /// SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU.
    warned: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let (signals, again) = (Self::default(), Arc::new(AtomicBool::new(false)));
        for signal in heard(&[SIGINT, SIGTERM]) {
            // The order matters: the first signal only arms the exit that the second one takes.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&signals.asked), signal as usize)?;
        }
        for signal in heard(&[SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU]) {
            flag::register_usize(signal, Arc::clone(&signals.warned), signal as usize)?;
        }
        Ok(signals)
    }

    /// The number of the signal that arrived. If there were several, SIGINT or SIGTERM wins.
    #[must_use]
    pub fn came(&self) -> Option<i32> {
        let number = |came: &AtomicUsize| i32::try_from(came.load(Ordering::Relaxed)).ok();
        [&self.asked, &self.warned].into_iter().filter_map(|came| number(came)).find(|&signal| signal > 0)
    }
}

/// The signals that this process does not ignore.
fn heard(signals: &[i32]) -> impl Iterator<Item = i32> {
    // Only Linux has this file.
    let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    signals.iter().copied().filter(move |signal| ignored & (1 << (signal - 1)) == 0)
}

/// The signals that the process has ignored since its start (as with nohup and SIGHUP), read from
/// its `status`: signal n is bit n − 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_take_the_same_signal() {
        let sums = |signals: [Option<i32>; 3]| {
            let votes = signals.map(vote);
            std::array::from_fn::<f64, 6, _>(|i| votes.iter().map(|vote| vote[i]).sum())
        };
        assert_eq!(elected(sums([None, Some(SIGUSR1), None])), Some(SIGUSR1));
        assert_eq!(elected(sums([Some(SIGUSR1), Some(SIGTERM), None])), Some(SIGTERM));
        assert_eq!(elected(sums([None; 3])), None);
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tpixtok\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert_eq!(ignored(status), (1 << (SIGHUP - 1)) | (1 << 12));
        assert_eq!(ignored("Name:\tpixtok\n"), 0);
    }
}
