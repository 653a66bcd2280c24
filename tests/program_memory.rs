//! A run's memory is flat: from step 200 to step 2,000 it grows by less than 2 %.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{ROOT, Scratch, VQ};

const STEPS: u64 = 2000;

/// The resident memory of a process in KiB; `None` once it has ended.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn last_step(metrics: &Path) -> u64 {
    let text = fs::read_to_string(metrics).unwrap_or_default();
    let row = text.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    row.and_then(|row| row["step"].as_u64()).unwrap_or(0)
}

#[test]
fn memory_is_flat_over_two_thousand_steps() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
        .current_dir(ROOT)
        .arg("train")
        .arg(scratch.path("tiny.toml"))
        .args(["--threads", "1", "--device", &common::device(), "--run"])
        .arg(&run)
        .args(["--set", VQ, "--set", "train.ema_decay=0.9", "--set", "data.image_size=16"])
        .args(["--set", &format!("train.steps={STEPS}"), "--set", "train.batch_size=2"])
        .args(["--set", "train.log_every=20", "--set", "train.eval_every=100"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The largest memory in each window, including evaluations.
    let (mut early, mut late) = (0, 0);
    while let Some(kib) = resident_kib(child.id()) {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        match last_step(&run.join("metrics.jsonl")) {
            200..400 => early = early.max(kib),
            1800.. => late = late.max(kib),
            _ => {}
        }
        sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
    assert!(early > 0 && late > 0, "no sample in one of the windows");
    let growth = late as f64 / early as f64 - 1.0;
    println!("{early} KiB in steps 200 to 400, {late} KiB from step 1800 on: {:+.2} %", 100.0 * growth);
    assert!(growth < 0.02, "memory grows: {early} KiB, then {late} KiB");
}
