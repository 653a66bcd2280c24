//! `pixtok train` in several processes: they train as one does, and none is left behind.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "ranks/bad_input.rs"]
mod bad_input;
mod common;
#[path = "ranks/faults.rs"]
mod faults;
#[path = "ranks/resume.rs"]
mod resume;
#[path = "ranks/same.rs"]
mod same;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::program::rows;
use common::{ROOT, Scratch, pixtok, said};
use serde_json::Value;

/// A training of a test doesn't take as long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nor does a process take as long to give up others, with the time-outs that tests set.
const SOON: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(5);

/// A training that goes on until it is stopped.
const ENDLESS: [&str; 3] =
    ["--set=train.steps=1000000", "--set=train.eval_every=1000000", "--set=train.checkpoint_every=1000000"];

/// A port that is free, and that no other test has.
fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if given.get_or_insert_default().insert(port) {
            return port;
        }
    }
}

/// Process `rank` of `size` that meet at `port`, not yet started, without arguments.
fn process(rank: u32, size: u32, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtok"));
    let numbers = [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", size), ("MASTER_PORT", port.into())];
    command
        .current_dir(ROOT)
        .envs(numbers.map(|(name, number)| (name, number.to_string())))
        .envs([("MASTER_ADDR", "127.0.0.1"), ("OMP_NUM_THREADS", "1")])
        .env_remove("PIXTOK_WEIGHTS")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The arguments of a new run on the CPU.
fn new_run(scratch: &Scratch, run: &str) -> Vec<String> {
    let (config, run) = (scratch.path("tiny.toml"), scratch.path(run));
    let words = ["train", config.to_str().unwrap(), "--run", run.to_str().unwrap()];
    words.iter().chain(&["--threads", "1", "--device", "cpu"]).map(|word| (*word).to_owned()).collect()
}

/// The arguments that resume a run.
fn old_run(scratch: &Scratch, run: &str) -> Vec<String> {
    let run = scratch.path(run).to_str().unwrap().to_owned();
    ["train".to_owned(), "--resume".to_owned(), run].to_vec()
}

/// Processes that were started together. Those that are left at the end of a test are killed.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Processes {
    /// Starts `size` processes with the same arguments.
    fn start(size: u32, base: &[String], args: &[&str]) -> Self {
        let port = free_port();
        let start = |rank| process(rank, size, port).args(base).args(args).spawn().unwrap();
        Self((0..size).map(start).collect())
    }

    /// Starts the training `run` in two processes, and waits until it has logged a few steps.
    fn training(scratch: &Scratch, run: &str, args: &[&str]) -> Self {
        let mut started = Self::start(2, &new_run(scratch, run), args);
        let began = Instant::now();
        while rows(&scratch.path(run)) < 3 {
            started.check_time(began, PATIENCE);
            sleep(PAUSE);
        }
        started
    }

    fn signal(&self, rank: usize, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0[rank].id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until process `rank` has ended, which takes at most `limit`.
    fn wait_for(&mut self, rank: usize, limit: Duration) {
        let began = Instant::now();
        while self.0[rank].try_wait().unwrap().is_none() {
            self.check_time(began, limit);
            sleep(PAUSE);
        }
    }

    /// Waits until all have ended.
    fn outputs(mut self) -> Vec<Output> {
        (0..self.0.len()).for_each(|rank| self.wait_for(rank, PATIENCE));
        self.take()
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.0).into_iter().map(|child| child.wait_with_output().unwrap()).collect()
    }

    /// Fails with what the processes have said if they take too long.
    fn check_time(&mut self, began: Instant, limit: Duration) {
        if began.elapsed() < limit {
            return;
        }
        self.0.iter_mut().for_each(|child| child.kill().unwrap());
        let words = self.take().iter().fold(String::new(), |mut words, output| {
            let _ = writeln!(words, "{}: {}", output.status, said(output));
            words
        });
        panic!("the processes take too long:\n{words}");
    }
}

/// Runs processes that must all succeed.
fn succeed(size: u32, base: &[String], args: &[&str]) -> Vec<Output> {
    let outputs = Processes::start(size, base, args).outputs();
    for (rank, output) in outputs.iter().enumerate() {
        assert!(output.status.success(), "process {rank}: {}: {}", output.status, said(output));
    }
    outputs
}

/// Trains a new run in `size` processes, or in a single one that no launcher started.
fn train(scratch: &Scratch, size: u32, run: &str, args: &[&str]) {
    let new = new_run(scratch, run);
    if size > 1 {
        succeed(size, &new, args);
        return;
    }
    let output = pixtok(&new.iter().map(String::as_str).chain(args.iter().copied()).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", said(&output));
}

/// The rows of a log.
fn log(path: &Path) -> Vec<BTreeMap<String, Value>> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows of a run's log that have `key`.
fn rows_with(run: &Path, key: &str) -> Vec<BTreeMap<String, Value>> {
    log(&run.join("metrics.jsonl")).into_iter().filter(|row| row.contains_key(key)).collect()
}

/// The relative difference of a value of two rows.
fn apart(key: &str, one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) -> f64 {
    let [a, b] = [one, other].map(|row| row[key].as_f64().unwrap());
    if a == b { 0.0 } else { (a - b).abs() / a.abs().max(b.abs()) }
}
