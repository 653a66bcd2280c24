//! A golden loss curve per quantizer guards the whole: 20 steps on one thread with a fixed seed, to 1e-4 relative.
//!
//! After a change that is meant to move them: `PIXTOK_BLESS=1 cargo test --test golden` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{ROOT, Scratch, VQ};

const TOLERANCE: f64 = 1e-4;
const GRADIENT: &str =
    "quantizer={kind=\"vq\",codebook_size=64,codebook_dim=4,codebook_update={kind=\"gradient\"}}";

/// The total loss at each step.
fn curve(args: &[&str]) -> Vec<f64> {
    let scratch = Scratch::new();
    let all: Vec<&str> =
        ["--set", "train.steps=20", "--set", "optimizer.lr=5e-4"].iter().chain(args).copied().collect();
    scratch.train("run", &all);
    let text = fs::read_to_string(scratch.path("run").join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.filter_map(|row| row["loss/total"].as_f64()).collect()
}

fn deviation(curve: &[f64], golden: &[f64]) -> f64 {
    assert_eq!(curve.len(), golden.len());
    curve.iter().zip(golden).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max)
}

fn check(name: &str, args: &[&str], one_percent: &[&str]) {
    let path = Path::new(ROOT).join("tests/golden").join(format!("{name}.json"));
    let measured = curve(args);
    if std::env::var_os("PIXTOK_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, serde_json::to_string_pretty(&measured).unwrap() + "\n").unwrap();
    }
    let golden: Vec<f64> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(golden.len(), 20);
    let off = deviation(&measured, &golden);
    assert!(off < TOLERANCE, "{name}: the loss curve is off by {off:e}");
    let changed: Vec<&str> = args.iter().chain(one_percent).copied().collect();
    let off = deviation(&curve(&changed), &golden);
    assert!(off > 2.0 * TOLERANCE, "{name}: a loss weight off by 1 % goes unnoticed ({off:e})");
}

#[test]
fn fsq() {
    check("fsq", &[], &["--set=loss.mse=1.01"]);
}

#[test]
fn vq_by_moving_average() {
    check("vq-ema", &["--set", VQ], &["--set=quantizer.commitment_weight=0.2525"]);
}

#[test]
fn vq_by_gradient() {
    check("vq-gradient", &["--set", GRADIENT], &["--set=quantizer.commitment_weight=0.2525"]);
}
