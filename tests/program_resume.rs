//! `pixtok train --resume`: whatever happens to a run, none of its progress is lost.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::program::{bytes_at, checkpoints, ended, kill, limited, refused, rows, start, start_training};
use common::{Scratch, copy_run, device, pixtok, said};
use pixtok::checkpoint::RunWriter;
use serde_json::{Value, json};

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
    let changed = ["--set=optimizer.eps=0.5", "--set=data.flip=true"];
    let output = scratch.try_resume("run", &changed);
    let words =
        ["optimizer.eps: ", "-> 0.5", "data.flip: false -> true", "undo these changes", "--init-from"];
    ended(&output, 2, &words);
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

/// `--data .` when the run and other outputs of the program lie in the same folder.
#[test]
fn what_pixtok_writes_below_the_images_is_no_image() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let (root, val) = (path(""), path("val"));
    let data = ["--data", &root, "--val-data", &val, "--set=train.steps=2"];
    let output = scratch.try_train("run", &data);
    // Here, the validation images lie in the training folder.
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
    // If it is given directly, it is read.
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

/// The number of rows of `step` that say that the validation images changed.
fn images_changed(run: &Path, step: u64) -> usize {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = format!("{{\"step\":{step},\"val/images_changed\":1.0}}");
    text.lines().filter(|line| **line == row).count()
}

fn best(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join("best.json")).unwrap()).unwrap()
}

#[test]
fn a_best_on_other_images_does_not_outlive_them() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=2", "--set=train.keep_checkpoints=1"]);
    let run = scratch.path("run");
    assert_eq!(best(&run)["images"]["max_images"], 0);
    // As if the run had validated on an easy set.
    let easy = fs::read_to_string(run.join("best.json")).unwrap();
    let value = best(&run)["value"].to_string();
    fs::write(run.join("best.json"), easy.replace(&value, "99.5")).unwrap();
    let same = scratch.try_resume("run", &["--set=train.steps=3"]);
    ended(&same, 0, &["trained:"]);
    assert!(!said(&same).contains("no longer counts"), "{}", said(&same));
    assert_eq!((best(&run)["step"].as_u64(), checkpoints(&run).len()), (Some(2), 2), "it stays");
    // The first evaluation of different images is a new best.
    let lost = ["psnr_db 99.5000 at step 2, no longer counts", "eval.max_images: 0 -> 1"];
    let fewer = ["--set=train.steps=4", "--set=eval.max_images=1"];
    ended(&scratch.try_resume("run", &[&fewer[..], &["--dry-run"]].concat()), 0, &lost);
    assert_eq!(images_changed(&run, 3), 0, "a dry run writes nothing");
    ended(&scratch.try_resume("run", &fewer), 0, &lost);
    assert_eq!(images_changed(&run, 3), 1);
    assert_eq!((&best(&run)["step"], &best(&run)["images"]["max_images"]), (&json!(4), &json!(1)));
    assert_eq!(checkpoints(&run), ["step-000004"]);

    // An older record does not name its images; the run's settings and state decide.
    let older = r#"{"format_version":1,"step":4,"metric":"psnr_db","value":99.5}"#;
    fs::write(run.join("best.json"), older).unwrap();
    fs::copy(scratch.path("train/05.jpg"), scratch.path("val/00.jpg")).unwrap();
    let sizes = ["(some sizes differ)", "psnr_db 99.5000 at step 4, no longer counts"];
    // If it stops before its next evaluation, the next resume still knows.
    let output = scratch.try_resume("run", &["--set=train.steps=4"]);
    ended(&output, 0, &sizes);
    assert_eq!(best(&run)["images"], json!({ "max_images": 1 }));
    ended(&scratch.try_resume("run", &["--set=train.steps=5"]), 0, &sizes);
    assert_eq!((images_changed(&run, 4), &best(&run)["step"]), (1, &json!(5)));
}

/// The settings that changed during a run.
fn changes(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("changes.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_learning_rate_that_changed_on_the_way_is_kept_and_shown() {
    let scratch = Scratch::new();
    scratch.train("whole", &EVERY_STEP);
    copy_run(&scratch.path("whole"), &scratch.path("run"), 4);
    let run = scratch.path("run");
    let config = fs::read(run.join("config.toml")).unwrap();
    let sets = ["--set=optimizer.lr=1e-3", "--set=optimizer.schedule.warmup_steps=8"];
    let output = scratch.try_resume("run", &sets);
    ended(&output, 0, &["optimizer.lr: 0.002 -> 0.001 from step 4 on (changes.jsonl)", "trained:"]);
    let row = |key: &str, from: Value, to: Value| json!({ "step": 4, "key": key, "from": from, "to": to });
    let rows = [
        row("optimizer.lr", 0.002.into(), 0.001.into()),
        row("optimizer.schedule.warmup_steps", 5.into(), 8.into()),
    ];
    assert_eq!(changes(&run), rows);
    assert!(fs::read(run.join("config.toml")).unwrap() == config, "config.toml keeps what it began with");
    assert!(bytes_at(&scratch.path("whole"), 12) != bytes_at(&run, 12));

    // Later resumes apply it again; an earlier checkpoint does not have it.
    copy_run(&run, &scratch.path("later"), 8);
    let given = scratch.path("tiny.toml");
    let also = [EVERY_STEP[0], EVERY_STEP[1], given.to_str().unwrap()];
    ended(&scratch.try_resume("later", &also), 0, &["optimizer.lr: 0.002 -> 0.001 from step 4 on"]);
    assert!(bytes_at(&scratch.path("later"), 12) == bytes_at(&run, 12));
    assert_eq!(changes(&scratch.path("later")), rows);
    copy_run(&run, &scratch.path("before"), 3);
    scratch.resume("before", &[]);
    assert!(bytes_at(&scratch.path("whole"), 12) == bytes_at(&scratch.path("before"), 12));
    assert!(changes(&scratch.path("before")).is_empty());
    // If it is set again at the same step, it counts as one change.
    copy_run(&run, &scratch.path("again"), 4);
    scratch.resume("again", &["--set=optimizer.lr=2e-3", "--set=optimizer.clip_norm=0.5"]);
    let again: Vec<Value> = changes(&scratch.path("again"));
    assert_eq!(again.len(), 2, "{again:?}");
    assert_eq!(again[0], row("optimizer.clip_norm", 1.0.into(), 0.5.into()));

    let line = "optimizer.lr: 0.002 -> 0.001 from step 4 on";
    let (run, figures) = (run.to_str().unwrap(), scratch.path("figures.json"));
    let threads = ["--threads", "1"];
    let eval = |args: &[&str]| pixtok(&[&["eval", run], args, &threads[..]].concat());
    ended(
        &eval(&["--json", figures.to_str().unwrap()]),
        0,
        &["changed while it trained: optimizer.lr", line],
    );
    let figures: Value = serde_json::from_str(&fs::read_to_string(figures).unwrap()).unwrap();
    assert!(figures["notes"].to_string().contains(line), "{figures}");
    let earlier = eval(&["--checkpoint", "step-4"]);
    assert!(!said(&earlier).contains("changed while"), "{}", said(&earlier));
    let model = scratch.path("model");
    let exported = pixtok(&["export", run, "--out", model.to_str().unwrap(), "--threads", "1"]);
    ended(&exported, 0, &["changes.jsonl"]);
    assert!(fs::read_to_string(model.join("README.md")).unwrap().contains(line));
    let of_model = pixtok(&["eval", model.to_str().unwrap(), "--threads", "1"]);
    ended(&of_model, 0, &[line]);
}

#[test]
fn after_numbers_that_are_not_finite_the_remedy_works() {
    let scratch = Scratch::new();
    let steps = ["--set=train.steps=4", EVERY_STEP[0], EVERY_STEP[1]];
    scratch.train("run", &steps);
    let run = scratch.path("run");
    let whole = checkpoints(&run);
    let remedy = ["the last good checkpoint is", "step-000004;", "--set optimizer.lr=0.001"];
    // Weights that are infinite after one step are not saved, not even at the last step.
    for (steps, words) in [("8", "the weights after step 5 are not finite"), ("5", "are not finite")] {
        let steps = format!("--set=train.steps={steps}");
        let output = scratch.try_resume("run", &[&steps, "--set=optimizer.lr=1e42"]);
        ended(&output, 5, &[words]);
        refused(&output, 5, &remedy);
        assert_eq!(checkpoints(&run), whole);
    }
    // Finite weights are saved, until they give a loss that is not finite.
    let output = scratch.try_resume("run", &["--set=train.steps=8", "--set=optimizer.lr=1e30"]);
    refused(&output, 5, &remedy);
    ended(&output, 5, &["step 6 stopped before", "step-000005, which is now", "damaged-step-000005"]);
    assert_eq!(checkpoints(&run), whole);
    ended(&scratch.try_resume("run", &["--set=optimizer.lr=0.001"]), 0, &["step-000008"]);
    assert_eq!(changes(&run).len(), 1);
    assert_eq!(changes(&run)[0]["to"], 0.001);
    // Such a checkpoint of an older version is skipped, and nothing starts from it.
    {
        let writer = RunWriter::resume(&run).unwrap();
        let snapshot = writer.folder().load(8).unwrap().snapshot;
        let _ = snapshot.model.values().next().unwrap().shallow_clone().fill_(f64::NAN);
        writer.save(8, &snapshot).unwrap();
    }
    let from = scratch.try_train("new", &["--init-from", run.to_str().unwrap()]);
    refused(&from, 2, &["step 8 are not finite"]);
    let output = scratch.try_resume("run", &[]);
    ended(
        &output,
        0,
        &["step-000008 is damaged: it holds numbers that are not finite", "going on from step 7"],
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
    // Files of at most 60 KiB, while the model needs 65.
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
    let go_on = format!("go on with: pixtok train --resume {}", run.display());
    let output = kill(start_training(&scratch, "run", &args), "-INT");
    ended(&output, 130, &["stopped by signal", "saved", &go_on]);
    assert_eq!(checkpoints(&run).len(), 1);
    let output = kill(start(&scratch, "run", &["--resume", run.to_str().unwrap()]), "-TERM");
    ended(&output, 143, &["stopped by signal", "saved", &go_on]);
    assert_eq!(checkpoints(&run).len(), 2);
    ended(&scratch.try_resume("run", &[]), 0, &["going on from step"]);
    assert!(bytes_at(&scratch.path("whole"), 150) == bytes_at(&scratch.path("run"), 150));
}
