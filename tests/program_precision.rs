//! `train.precision = "auto"`: it is decided once, recorded, and kept when a run is resumed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{ROOT, Scratch, said};

/// Runs as on a processor without instructions for bf16, whatever this one has.
fn on_an_old_processor(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtok"));
    command.args(args).current_dir(ROOT).env("ONEDNN_MAX_CPU_ISA", "AVX2").output().unwrap()
}

fn train(scratch: &Scratch, run: &str, more: &[&str]) -> String {
    let (config, run) = (scratch.path("tiny.toml"), scratch.path(run));
    let mut args = vec!["train", config.to_str().unwrap(), "--run", run.to_str().unwrap()];
    args.extend(["--threads", "1", "--device", "cpu"]);
    args.extend(more);
    let output = on_an_old_processor(&args);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

fn precision_of(config: &Path) -> String {
    let config: toml::Table = fs::read_to_string(config).unwrap().parse().unwrap();
    config["train"]["precision"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_writes_down_its_precision_and_a_resume_keeps_it() {
    let scratch = Scratch::new();
    let words = train(&scratch, "auto", &["--set=train.precision=auto", "--set=train.steps=1"]);
    let reasons = ["the processor has neither", "ONEDNN_MAX_CPU_ISA=AVX2 rules out"];
    assert!(words.contains(", in fp32 (") && reasons.iter().any(|reason| words.contains(reason)), "{words}");
    assert_eq!(precision_of(&scratch.path("auto/config.toml")), "fp32");
    // As if the run had started on a different machine.
    let words = train(&scratch, "bf16", &["--set=train.precision=bf16", "--set=train.steps=1"]);
    assert!(words.contains(", in bf16 (set by train.precision; fp32 would be faster here: "), "{words}");
    let resumed = ["--set=train.precision=auto", "--set=train.steps=2"];
    let run = scratch.path("bf16");
    let resume = |more: &[&str]| {
        let words = [&["train", "--resume", run.to_str().unwrap()], &resumed[..], more].concat();
        said(&on_an_old_processor(&words))
    };
    let words = resume(&["--dry-run"]);
    assert!(words.contains(", in bf16 (the run started in it"), "{words}");
    let words = resume(&[]);
    assert!(words.contains(", in bf16 (the run started in it; fp32 would be faster here: "), "{words}");
    assert_eq!(precision_of(&scratch.path("bf16/config.toml")), "bf16");
}

#[test]
fn a_dry_run_says_what_auto_means_here() {
    let scratch = Scratch::new();
    let words = train(&scratch, "none", &["--set=train.precision=auto", "--dry-run", "--print-config"]);
    assert!(words.contains(", in fp32 (") && words.contains("precision = \"fp32\""), "{words}");
    let has_cuda = pixtok_torch::cuda_devices().is_ok_and(|count| count > 0);
    assert_eq!(words.contains("for a training step on CUDA in bf16"), has_cuda, "{words}");
}

#[test]
fn a_comparison_has_one_precision_for_all_and_keeps_it() {
    let scratch = Scratch::new();
    let (sweep, out) = (scratch.path("sweep.toml"), scratch.path("out"));
    let sweep_in = |precision: &str| {
        let text = format!(
            "base = \"tiny.toml\"\nseeds = [0]\nset = {{ train.precision = \"{precision}\", train.steps = 2 }}\n\
             [[arms]]\nname = \"fsq\"\n[[arms]]\nname = \"bsq\"\nset = {{ quantizer = {{ kind = \"bsq\", bits = 6 }} }}\n"
        );
        fs::write(&sweep, text).unwrap();
    };
    let compare = |out: &Path| {
        let (sweep, out) = (sweep.to_str().unwrap(), out.to_str().unwrap());
        let args = ["compare", sweep, "--out", out, "--threads", "1", "--devices", "cpu"];
        let output = on_an_old_processor(&args);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    sweep_in("auto");
    assert!(compare(&out).contains("training in fp32 ("));
    for arm in ["fsq", "bsq"] {
        assert_eq!(precision_of(&out.join(format!("arms/{arm}/seed-0/config.toml"))), "fp32");
    }
    let results = fs::read_to_string(out.join("results.md")).unwrap();
    assert!(results.contains("2 steps of 4 images, fp32"), "{results}");
    // As if the sweep had started on a different machine.
    sweep_in("bf16");
    let other = scratch.path("begun-in-bf16");
    compare(&other);
    sweep_in("auto");
    assert!(
        compare(&other).contains("training in bf16 (the comparison started in it; fp32 would be faster here")
    );
    let results = fs::read_to_string(other.join("results.md")).unwrap();
    assert!(results.contains("2 steps of 4 images, bf16"), "{results}");
}

#[test]
fn kernels_of_our_own_are_those_that_libtorch_chooses() {
    for (limit, name) in [("default", "DEFAULT"), ("avx2", "AVX2")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtok"));
        let output =
            command.args(["doctor", "--device", "cpu"]).env("ATEN_CPU_CAPABILITY", limit).output().unwrap();
        let words = said(&output);
        let line = words.lines().find(|line| line.starts_with("kernels")).unwrap();
        // A processor may lack instructions that the user allows.
        let (theirs, ours) = line.trim_start_matches("kernels").trim().split_once(" in libtorch, ").unwrap();
        assert_eq!(ours, format!("{theirs} in pixtok"), "{words}");
        assert!(theirs == name || (limit == "avx2" && theirs == "DEFAULT"), "{words}");
    }
}
