//! `pixtok train --resume`: whatever happens to a run, none of its progress is lost.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;

use common::program::{bytes_at, checkpoints, ended, kill, limited, refused, rows, start, start_training};
use common::{Scratch, copy_run, device, pixtok, said};

/// A checkpoint at every step, with none deleted.
const EVERY_STEP: [&str; 2] = ["--set=train.checkpoint_every=1", "--set=train.keep_checkpoints=100"];

#[test]
fn run_folders_are_not_overwritten() {
    let scratch = Scratch::new();
    refused(
        &scratch.try_train("tiny.toml/run", &[]),
        1,
        &["cannot write to run folder", "choose another --run"],
    );
    scratch.train("run", &["--set=train.steps=1"]);
    let before = bytes_at(&scratch.path("run"), 1);
    refused(&scratch.try_train("run", &[]), 2, &["already holds a run", "--resume", "another --run"]);
    assert!(before == bytes_at(&scratch.path("run"), 1));
    refused(&scratch.try_resume("absent", &[]), 2, &["absent is not a run folder", "it does not exist"]);
    ended(&scratch.try_resume("run", &["--init-from", "x"]), 2, &["cannot be used with"]);
}

#[test]
fn a_resumed_run_keeps_its_config_and_can_go_on() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=3", "--set=data.flip=false"]);
    let changed = ["--set=optimizer.lr=0.5", "--set=data.flip=true"];
    let output = scratch.try_resume("run", &changed);
    ended(
        &output,
        2,
        &["optimizer.lr: 0.002 -> 0.5", "data.flip: false -> true", "undo these changes", "--init-from"],
    );
    // The config file does not contain the run's override.
    let config = scratch.path("tiny.toml");
    let output = scratch.try_resume("run", &[config.to_str().unwrap()]);
    ended(&output, 2, &["data.flip: false -> true"]);
    let elsewhere = scratch.path("elsewhere");
    let output = scratch.try_resume("run", &["--run", elsewhere.to_str().unwrap()]);
    refused(&output, 2, &["leave --run out"]);
    let same = scratch.path("run");
    let output = scratch.try_resume("run", &["--run", same.to_str().unwrap()]);
    ended(&output, 0, &["at its last step already", "raise train.steps"]);
    let fewer = scratch.try_resume("run", &["--set=train.steps=1"]);
    refused(&fewer, 2, &["train.steps is 1", "already", "or more"]);
    let output = scratch.try_resume("run", &["--set=train.steps=5"]);
    ended(
        &output,
        0,
        &[
            "going on from step 3",
            "warning: the learning rate jumps from",
            "at step 3",
            "trained:",
            "step-000005",
        ],
    );
    assert_eq!(rows(&scratch.path("run")), 7, "five steps and two evaluations");
    let output = scratch.try_resume("run", &["--set=eval.max_images=1"]);
    ended(&output, 0, &["eval.max_images: 0 -> 1: earlier figures", "are of other images"]);
    // Editing the run's own config by hand is noticed too.
    let written = fs::read_to_string(same.join("config.toml")).unwrap();
    fs::write(same.join("config.toml"), written.replace("batch_size = 4", "batch_size = 5")).unwrap();
    refused(&scratch.try_resume("run", &[]), 2, &["was changed since the checkpoint of step 5"]);
    // A new run from an old run's config does not inherit its history.
    fs::write(same.join("config.toml"), written).unwrap();
    let from = ["--init-from", same.to_str().unwrap(), "--set=train.steps=1"];
    scratch.train("second", &from);
    let (config, third) = (scratch.path("second/config.toml"), scratch.path("third"));
    assert!(fs::read_to_string(&config).unwrap().contains("init_from = "));
    let words = ["train", config.to_str().unwrap(), "--run", third.to_str().unwrap()];
    ended(&pixtok(&words), 0, &["trained:"]);
    assert!(!fs::read_to_string(third.join("config.toml")).unwrap().contains("init_from"));
}

#[test]
fn a_dry_run_refuses_what_a_resume_would() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=2"]);
    let output = scratch.try_resume("run", &["--dry-run", "--set=train.steps=4"]);
    ended(&output, 0, &["going on from step 2", "jumps from"]);
    refused(&scratch.try_resume("run", &["--dry-run", "--threads", "2"]), 2, &["--accept-inexact"]);
    let other = scratch.path("val");
    let output = scratch.try_resume("run", &["--dry-run", "--data", other.to_str().unwrap()]);
    refused(&output, 2, &["their list changed"]);
    fs::remove_file(scratch.path("val/00.jpg")).unwrap();
    ended(&scratch.try_resume("run", &["--dry-run"]), 0, &["the validation images are not those"]);
    fs::remove_file(scratch.path("run/step-000002/model.safetensors")).unwrap();
    ended(&scratch.try_resume("run", &["--dry-run"]), 2, &["no whole checkpoint", "--restart"]);
}

#[test]
fn what_failed_before_its_first_checkpoint_starts_over_with_other_settings() {
    let scratch = Scratch::new();
    let sets = ["--set=optimizer.lr=1e30", "--set=optimizer.clip_norm=0"];
    refused(&scratch.try_train("run", &sets), 5, &["NaN"]);
    ended(&scratch.try_resume("run", &["--set=optimizer.lr=1e-3"]), 2, &["no checkpoint", "--restart"]);
    let output = scratch.try_resume("run", &["--set=optimizer.lr=1e-3", "--set=train.steps=1", "--restart"]);
    ended(&output, 0, &["starting over at step 0", "trained:"]);
    fs::remove_file(scratch.path("run/config.toml")).unwrap();
    refused(&scratch.try_train("run", &[]), 2, &["but no config.toml", "another --run"]);
}

#[test]
fn the_device_and_threads_of_a_run_are_kept() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    let output = scratch.try_resume("run", &["--threads", "2", "--device", "cpu"]);
    refused(&output, 2, &["--accept-inexact"]);
    let output = scratch.try_resume("run", &["--threads", "2", "--device", "cpu", "--accept-inexact"]);
    ended(&output, 0, &["not bit for bit", "trained:"]);
}

#[test]
fn other_images_under_the_same_names_are_refused() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=2"]);
    let image = scratch.path("train/00.jpg");
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, &bytes).unwrap();
    let longer = ["--set=train.steps=3"];
    ended(
        &scratch.try_resume("run", &longer),
        0,
        &["new modification times", "assumed to be the same images"],
    );
    fs::copy(scratch.path("train/01.jpg"), &image).unwrap();
    let output = scratch.try_resume("run", &["--set=train.steps=4"]);
    refused(&output, 2, &["some sizes differ: 1 file has another size, 00.jpg (", "10 files then, 10 now"]);
}

/// `--data .` with the run, and what else the program writes, in the same folder.
#[test]
fn what_pixtok_writes_below_the_images_is_no_image() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let (root, val) = (path(""), path("val"));
    let data = ["--data", &root, "--val-data", &val, "--set=train.steps=2"];
    let output = scratch.try_train("run", &data);
    // What validates lies in the training folder here.
    ended(&output, 0, &["3 of the 3 validation images are training images too, for instance 00.jpg"]);
    let (run, shown, recon) = (path("run"), path("shown"), path("recon"));
    let written: [&[&str]; 2] = [
        &["eval", &run, "--data", &val, "--pictures", &shown],
        &["reconstruct", &run, &val, "--out", &recon],
    ];
    for words in written {
        ended(&pixtok(&[words, &["--device", &device()]].concat()), 0, &[]);
    }
    let output = scratch.try_resume("run", &["--set=train.steps=3"]);
    ended(
        &output,
        0,
        &[
            "3 folders that pixtok wrote are passed over in",
            "going on from step 2",
            "3 of the 3 validation images",
        ],
    );
    // By itself it is read.
    let output = pixtok(&["eval", &run, "--data", &recon, "--device", &device()]);
    ended(&output, 0, &["psnr_db"]);

    fs::copy(scratch.path("val/00.jpg"), scratch.path("train/new.jpg")).unwrap();
    let changed = ["their list changed: 1 file is new, train/new.jpg; 13 files then, 14 now", "--init-from"];
    refused(&scratch.try_resume("run", &["--set=train.steps=4"]), 2, &changed);
    ended(&scratch.try_resume("run", &["--dry-run"]), 2, &changed);
    // As in a run of an older version.
    fs::remove_file(scratch.path("run/train-files.jsonl.zst")).unwrap();
    let older = ["their list changed: the newest file is train/new.jpg; 14 files now"];
    refused(&scratch.try_resume("run", &["--set=train.steps=4"]), 2, &older);
}

#[test]
fn a_folder_that_is_no_run_is_left_as_it_is() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("other")).unwrap();
    fs::write(scratch.path("other/metrics.jsonl"), "{\"step\":7}\n").unwrap();
    for args in [&[][..], &["--restart"]] {
        refused(
            &scratch.try_resume("other", args),
            2,
            &["other is neither a run folder nor", "no config.toml"],
        );
    }
    assert_eq!(fs::read_dir(scratch.path("other")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(scratch.path("other/metrics.jsonl")).unwrap(), "{\"step\":7}\n");

    scratch.train("run", &["--set=train.steps=1"]);
    fs::create_dir(scratch.path("model")).unwrap();
    for name in ["config.toml", "step-000001/model.safetensors"] {
        let file = scratch.path("run").join(name);
        fs::copy(&file, scratch.path("model").join(file.file_name().unwrap())).unwrap();
    }
    refused(&scratch.try_resume("model", &[]), 2, &["is a model folder", "--init-from"]);
    assert_eq!(fs::read_dir(scratch.path("model")).unwrap().count(), 2);
}

#[test]
fn a_run_without_a_whole_checkpoint_begins_again_only_if_told() {
    let scratch = Scratch::new();
    scratch.train("run", &EVERY_STEP);
    let run = scratch.path("run");
    let hurt = checkpoints(&run);
    for name in &hurt {
        fs::remove_file(run.join(name).join("model.safetensors")).unwrap();
    }
    let before = ["config.toml", "metrics.jsonl"].map(|name| fs::read(run.join(name)).unwrap());
    let words =
        ["no whole checkpoint", "step-000012 is damaged: model.safetensors is missing", "step-000001 is"];
    let remedy = ["add --restart", "metrics.jsonl has", "rows, up to step 12", "damaged-step-N"];
    let output = scratch.try_resume("run", &[]);
    ended(&output, 2, &[&words[..], &remedy].concat());
    assert_eq!(before, ["config.toml", "metrics.jsonl"].map(|name| fs::read(run.join(name)).unwrap()));
    assert_eq!(checkpoints(&run), hurt);
    let output = scratch.try_resume("run", &["--restart"]);
    ended(&output, 0, &["starting over at step 0", "it is now", "damaged-step-000001", "trained:"]);
    scratch.train("whole", &EVERY_STEP);
    assert!(bytes_at(&scratch.path("whole"), 12) == bytes_at(&run, 12));
    // A run that can go on does so despite the flag.
    let output = scratch.try_resume("run", &["--restart"]);
    ended(&output, 0, &["going on from step 12"]);
}

#[test]
fn a_run_from_other_weights_does_not_begin_again_without_them() {
    let scratch = Scratch::new();
    scratch.train("first", &["--set=train.steps=1"]);
    let first = scratch.path("first");
    let from = ["--init-from", first.to_str().unwrap(), "--set=train.steps=1"];
    scratch.train("second", &from);
    for name in checkpoints(&scratch.path("second")) {
        fs::remove_file(scratch.path("second").join(name).join("state.json")).unwrap();
    }
    let output = scratch.try_resume("second", &["--restart"]);
    ended(
        &output,
        2,
        &["state.json is missing", "started from the weights of", "another folder", "--init-from"],
    );
}

#[test]
fn damaged_checkpoints_are_stepped_over() {
    let scratch = Scratch::new();
    scratch.train("whole", &EVERY_STEP);
    copy_run(&scratch.path("whole"), &scratch.path("hurt"), 9);
    let hurt = |name: &str| scratch.path("hurt").join(name);
    let model = fs::read(hurt("step-000009/model.safetensors")).unwrap();
    fs::write(hurt("step-000009/model.safetensors"), &model[..model.len() / 2]).unwrap();
    let mut moments = fs::read(hurt("step-000008/optimizer.safetensors")).unwrap();
    *moments.last_mut().unwrap() ^= 1;
    fs::write(hurt("step-000008/optimizer.safetensors"), moments).unwrap();

    let output = pixtok(&["eval", hurt("").to_str().unwrap(), "--device", &device()]);
    refused(
        &output,
        1,
        &["step-000009 is damaged", "model.safetensors", "restore it from a copy or delete it"],
    );

    let output = scratch.try_resume("hurt", &[]);
    ended(
        &output,
        0,
        &["step-000009 is damaged", "step-000008 is damaged", "altered", "going on from step 7"],
    );
    assert!(bytes_at(&scratch.path("whole"), 12) == bytes_at(&scratch.path("hurt"), 12));
}

#[test]
fn a_full_disk_stops_no_training_and_nothing_is_called_saved() {
    let scratch = Scratch::new();
    let args = ["--set=train.checkpoint_every=4", "--set=train.keep_checkpoints=100"];
    scratch.train("whole", &args);
    copy_run(&scratch.path("whole"), &scratch.path("full"), 4);
    // Files of 60 KiB at most, where the model needs 65.
    let output = limited("trap '' XFSZ; ulimit -f 60", &["--resume", scratch.path("full").to_str().unwrap()]);
    ended(
        &output,
        4,
        &["step-000008 was not saved", "training goes on", "error: ", "step-000012 was not saved"],
    );
    assert!(!said(&output).contains("trained:"));
    assert_eq!(checkpoints(&scratch.path("full")), ["step-000004"]);
    ended(&scratch.try_resume("full", &[]), 0, &["going on from step 4"]);
    assert!(bytes_at(&scratch.path("whole"), 12) == bytes_at(&scratch.path("full"), 12));
}

#[test]
fn one_trainer_per_run_folder() {
    let scratch = Scratch::new();
    // An evaluation would save the best checkpoint if the machine is slow enough for the trainer to
    // reach one.
    let endless = ["train.steps", "train.checkpoint_every", "train.eval_every"]
        .map(|key| format!("--set={key}=1000000"));
    let trainer = start_training(&scratch, "run", &endless.each_ref().map(String::as_str));
    for output in [scratch.try_train("run", &[]), scratch.try_resume("run", &[])] {
        refused(&output, 3, &["in use by another process", "choose another folder"]);
    }
    kill(trainer, "-KILL");
    ended(
        &scratch.try_resume("run", &[]),
        2,
        &["no checkpoint", "stopped before the first was saved", "--restart"],
    );
    let output = scratch.try_resume("run", &["--restart", "--set=train.steps=1", "--threads", "1"]);
    ended(&output, 0, &["starting over at step 0", "trained:"]);
}

#[test]
fn signals_save_and_a_resume_ends_the_same() {
    let scratch = Scratch::new();
    let args = ["--set=train.steps=150", "--set=train.checkpoint_every=1000", "--set=train.eval_every=1000"];
    scratch.train("whole", &args);
    let run = scratch.path("run");
    let go_on = format!("go on with --resume {}", run.display());
    let output = kill(start_training(&scratch, "run", &args), "-INT");
    ended(&output, 130, &["stopped by signal", "saved", &go_on]);
    assert_eq!(checkpoints(&run).len(), 1);
    let output = kill(start(&scratch, "run", &["--resume", run.to_str().unwrap()]), "-TERM");
    ended(&output, 143, &["stopped by signal", "saved", &go_on]);
    assert_eq!(checkpoints(&run).len(), 2);
    ended(&scratch.try_resume("run", &[]), 0, &["going on from step"]);
    assert!(bytes_at(&scratch.path("whole"), 150) == bytes_at(&scratch.path("run"), 150));
}
