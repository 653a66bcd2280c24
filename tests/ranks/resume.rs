//! What several processes save: any number of processes goes on from it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::common::program::{bytes_at, checkpoints, ended};
use super::common::{Scratch, copy_run};
use super::{ENDLESS, Processes, apart, new_run, old_run, rows_with, succeed, train};

const FILES: [&str; 4] = ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"];

/// 129 photographs in batches of 12, so that an epoch ends after step 10; a checkpoint before that.
const SETTINGS: [&str; 6] = [
    "--data=data/photos96/val",
    "--set=train.batch_size=12",
    "--set=train.steps=14",
    "--set=train.checkpoint_every=8",
    "--set=train.eval_every=7",
    "--set=train.ema_decay=0.9",
];

fn files(run: &Path, step: u64, names: &[&str]) -> Vec<Vec<u8>> {
    let folder = run.join(format!("step-{step:06}"));
    names.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// The place in the data in a checkpoint.
pub(super) fn cursor(run: &Path, step: u64) -> Value {
    let saved: Value = serde_json::from_slice(&files(run, step, &["state.json"])[0]).unwrap();
    saved["state"]["cursor"].clone()
}

#[test]
fn any_number_of_processes_goes_on_with_the_same_images() {
    let scratch = Scratch::new();
    let path = |run: &str| scratch.path(run);
    for run in ["whole", "again"] {
        train(&scratch, 2, run, &SETTINGS);
    }
    for step in [8, 14] {
        assert!(
            files(&path("whole"), step, &FILES) == files(&path("again"), step, &FILES),
            "two runs differ"
        );
    }
    assert_eq!(cursor(&path("whole"), 8), json!({ "epoch": 0, "position": 96 }));
    assert_eq!(cursor(&path("whole"), 14), json!({ "epoch": 1, "position": 48 }));
    let whole = rows_with(&path("whole"), "loss/total");

    for size in [1, 2, 3] {
        let run = format!("by-{size}");
        copy_run(&path("whole"), &path(&run), 8);
        let outputs = if size == 1 {
            let output = scratch.try_resume(&run, &[]);
            vec![output]
        } else {
            succeed(size, &old_run(&scratch, &run), &[])
        };
        ended(&outputs[0], 0, &["going on from step 8"]);
        let rows = rows_with(&path(&run), "loss/total");
        assert_eq!(rows.len(), whole.len());
        for (a, b) in whole.iter().zip(&rows) {
            assert!(apart("loss/total", a, b) < 1e-4, "{size} processes: {a:?}, {b:?}");
        }
        assert_eq!(cursor(&path(&run), 14), cursor(&path("whole"), 14));
    }
    assert!(files(&path("whole"), 14, &FILES) == files(&path("by-2"), 14, &FILES), "the resumed run differs");
}

#[test]
fn divided_moments_and_averages_are_the_whole_ones() {
    let scratch = Scratch::new();
    let path = |run: &str| scratch.path(run);
    train(&scratch, 2, "whole", &SETTINGS);
    train(&scratch, 2, "divided", &[&SETTINGS[..], &["--set=train.shard_optimizer=true"]].concat());
    let tensors = &FILES[..3];
    for step in [8, 14] {
        let [whole, divided] = ["whole", "divided"].map(|run| files(&path(run), step, tensors));
        for (i, name) in tensors.iter().enumerate() {
            assert!(whole[i] == divided[i], "{name} of step {step} differs");
        }
    }
    let averaged = |run: &str| rows_with(&path(run), "val_ema/psnr_db");
    assert_eq!(averaged("whole").len(), 2);
    assert_eq!(averaged("whole"), averaged("divided"));

    // A single process goes on from both in the same way.
    for run in ["whole", "divided"] {
        let copy = format!("{run}-by-1");
        copy_run(&path(run), &path(&copy), 8);
        scratch.resume(&copy, &[]);
    }
    assert!(
        files(&path("whole-by-1"), 14, tensors) == files(&path("divided-by-1"), 14, tensors),
        "the resumed runs differ"
    );
}

#[test]
fn a_signal_to_one_process_stops_and_saves_all() {
    let scratch = Scratch::new();
    let args = ["--set=train.steps=150", "--set=train.checkpoint_every=1000", "--set=train.eval_every=1000"];
    train(&scratch, 2, "whole", &args);
    let stopped = Processes::training(&scratch, "run", &args);
    stopped.signal(1, "-TERM");
    let (outputs, run) = (stopped.outputs(), scratch.path("run"));
    let go_on = format!("go on with: pixtok train --resume {}", run.display());
    ended(&outputs[0], 143, &["stopped by signal 15", "saved", &go_on]);
    ended(&outputs[1], 143, &[]);
    assert_eq!(checkpoints(&run).len(), 1);
    let outputs = succeed(2, &old_run(&scratch, "run"), &[]);
    ended(&outputs[0], 0, &["going on from step", "step-000150"]);
    assert!(bytes_at(&scratch.path("whole"), 150) == bytes_at(&run, 150), "the resumed run differs");
}

#[test]
fn the_same_command_starts_a_run_and_goes_on_with_it() {
    let scratch = Scratch::new();
    let run = new_run(&scratch, "run");
    let outputs = succeed(2, &run, &["--or-resume", "--set=train.steps=4"]);
    ended(&outputs[0], 0, &["(new)", "step-000004"]);
    let outputs = succeed(2, &run, &["--or-resume", "--set=train.steps=6"]);
    ended(&outputs[0], 0, &["going on from step 4", "step-000006"]);
    train(&scratch, 2, "whole", &["--set=train.steps=6"]);
    assert_eq!(rows_with(&scratch.path("run"), "loss/total").len(), 6);

    // Stopped before its first checkpoint, a run starts over.
    let killed = Processes::training(&scratch, "early", &[&ENDLESS[..], &["--or-resume"]].concat());
    [0, 1].into_iter().for_each(|rank| killed.signal(rank, "-KILL"));
    killed.outputs();
    let outputs = succeed(2, &new_run(&scratch, "early"), &["--or-resume", "--set=train.steps=6"]);
    ended(&outputs[0], 0, &["starting over at step 0", "step-000006"]);
    let names = ["model.safetensors", "optimizer.safetensors"];
    assert!(files(&scratch.path("whole"), 6, &names) == files(&scratch.path("early"), 6, &names));
}

#[test]
fn a_run_from_other_weights_starts_over_from_them() {
    let scratch = Scratch::new();
    train(&scratch, 2, "other", &["--set=train.steps=4"]);
    let other = format!("--init-from={}", scratch.path("other").display());
    let args = ["--or-resume", "--set=train.steps=6", &other];
    let run = new_run(&scratch, "run");
    succeed(2, &run, &args);
    // As if it had been killed before it saved the weights that it starts from.
    let path = scratch.path("run");
    let before = bytes_at(&path, 6);
    for step in checkpoints(&path) {
        fs::remove_dir_all(path.join(step)).unwrap();
    }
    let outputs = succeed(2, &run, &args);
    ended(&outputs[0], 0, &["starting over at step 0", "step-000006"]);
    assert!(bytes_at(&path, 6) == before, "the run that started over differs");
}
