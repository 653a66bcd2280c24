//! A process that dies or stalls doesn't leave the others waiting.

use super::common::Scratch;
use super::common::program::refused;
use super::{ENDLESS, Processes, SOON};

/// Starts two processes that give up after `timeout` seconds.
fn endless(scratch: &Scratch, timeout: u32) -> Processes {
    let timeout = format!("--set=train.timeout_secs={timeout}");
    Processes::training(scratch, "run", &[&ENDLESS[..], &[&timeout]].concat())
}

#[test]
fn a_killed_process_is_named_by_the_other() {
    for (killed, left) in [(1, 0), (0, 1)] {
        let scratch = Scratch::new();
        let mut started = endless(&scratch, 60);
        started.signal(killed, "-KILL");
        started.wait_for(left, SOON);
        let who = format!("process {killed} ");
        refused(&started.outputs()[left], 1, &[&format!("process {left} stopped in"), &who]);
    }
}

#[test]
fn a_stalled_process_is_named_by_the_other() {
    for (stalled, left) in [(1, 0), (0, 1)] {
        let scratch = Scratch::new();
        let mut started = endless(&scratch, 12);
        started.signal(stalled, "-STOP");
        started.wait_for(left, SOON);
        started.signal(stalled, "-KILL");
        let who = format!("process {stalled} ");
        refused(&started.outputs()[left], 1, &[&format!("process {left} stopped in"), &who]);
    }
}
