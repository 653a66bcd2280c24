//! The ImageNet recipes at a reduced size: each takes its steps in the precision that suits the
//! processor, and its memory is close to the estimate of `--dry-run`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/weights.rs"]
mod weights;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{ROOT, Scratch, said};
use numbers::Numbers;

/// The allowed difference between the estimate and the peak.
const SHARE: f64 = 0.25;

/// The names of the configs, and what must shrink with the images: attention; tokens, of which there
/// are no more than patches.
const PRESETS: [(&str, &[&str]); 9] = [
    ("imagenet256-f16-vq-taming", &["model.attention=[4]"]),
    ("imagenet256-f16-vq-llamagen", &["model.attention=[4]"]),
    ("imagenet256-f16-fsq-64k", &["model.attention=[4]"]),
    ("imagenet256-f16-lfq-openmagvit2", &[]),
    ("imagenet256-f16-magvit2-lfq", &[]),
    ("imagenet256-vit-b16-fsq", &[]),
    ("imagenet256-titok-bl64-vq8k", &["model.latent_tokens=16", "model.size=S", "model.decoder_size=S"]),
    ("imagenet128-f8-fsq-64k", &[]),
    ("imagenet128-f8-simvq-64k", &[]),
];

/// Two steps, since the moments appear in the first; the adversary takes part from the first one.
const REDUCED: [&str; 12] = [
    "data.train=data/photos96/train",
    "data.val=data/photos96/val",
    "data.image_size=64",
    "data.resize=64",
    "data.workers=1",
    "train.steps=2",
    "train.batch_size=4",
    "train.micro_batches=1",
    "eval.max_images=4",
    "eval.batch_size=4",
    "adversarial.start=0",
    "seed=0",
];

/// `train` of a preset at the reduced size.
fn command(preset: &str, sets: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtok"));
    command.current_dir(ROOT).env_remove("PIXTOK_WEIGHTS");
    command.args(["train", &format!("configs/{preset}.toml"), "--device", "cpu", "--threads", "1"]);
    command.args(REDUCED.iter().chain(sets).flat_map(|set| ["--set", *set]));
    command
}

/// The estimate of `--dry-run` in MiB.
fn estimate(preset: &str, sets: &[&str]) -> f64 {
    let output = command(preset, sets).arg("--dry-run").output().unwrap();
    let text = said(&output);
    let mut words =
        text.split("memory      about ").nth(1).unwrap_or_else(|| panic!("{preset}: {text}")).split(' ');
    let number: f64 = words.next().unwrap().parse().unwrap();
    if words.next().unwrap() == "GiB" { number * 1024.0 } else { number }
}

/// The largest resident memory of a process so far in MiB; `None` once it has ended.
fn peak_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// The measured memory in MiB.
fn measured(preset: &str, sets: &[&str], run: &Path, weights: &Path) -> f64 {
    let mut child = command(preset, sets)
        .arg("--run")
        .arg(run)
        .arg("--lpips-weights")
        .arg(weights)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0.0_f64;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_mib(child.id()).unwrap_or(0.0));
        sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{preset} {sets:?}: {}", said(&output));
    peak
}

#[test]
fn every_preset_takes_its_steps_in_the_memory_that_it_says() {
    let scratch = Scratch::new();
    let weights = scratch.path("vgg.safetensors");
    weights::write(&Numbers::read("nets"), "vgg", &weights);
    for (preset, shrunk) in PRESETS {
        let sets: Vec<&str> = shrunk.iter().copied().chain(["train.precision=auto"]).collect();
        let run = scratch.path(preset);
        let (said, peak) = (estimate(preset, &sets), measured(preset, &sets, &run, &weights));
        let config: toml::Table = fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
        let precision = config["train"]["precision"].as_str().unwrap();
        println!("{preset} {precision}: {peak:.0} MiB, estimate {:.2} of it", said / peak);
        assert!(
            (said / peak - 1.0).abs() < SHARE,
            "{preset} {precision} took {peak:.0} MiB, and --dry-run says {said:.0}"
        );
        // Each has a checkpoint of a gigabyte.
        fs::remove_dir_all(run).unwrap();
    }
}
