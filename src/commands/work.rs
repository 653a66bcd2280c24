//! `pixtok work`: what a comparison runs in its child processes.

use std::io;

use anyhow::Result;
use rustix::process::Signal;

use super::{eval, tell, train};
use crate::inference;
use crate::sweep::{Assignment, Work};
use crate::world::World;

/// Does the work that standard input describes. The exit code is that of a training or an
/// evaluation.
pub(super) fn run() -> Result<u8> {
    let assignment = Assignment::read(io::stdin().lock())?;
    if !assignment.follow_parent() {
        return Ok(128 + Signal::TERM.as_raw() as u8);
    }
    match &assignment.work {
        // The launcher started the comparison; each of its jobs is by itself.
        Work::Train(options) => train::train(options, None),
        Work::Evaluate(options) => eval::evaluate(options, &World::single()).map(|()| 0),
        Work::Speeds(options) => inference::measure_speeds(options, tell()).map(|()| 0),
    }
}
