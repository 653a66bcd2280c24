//! Refusals and notes before the first step of a training, the start of a codebook, and the signals
//! that end both.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::program::{bytes_at, checkpoints, ended, kill, refused, rows, start_training};
use common::{ADVERSARY, Scratch, device, pixtok, said};
use pixtok::config::{Config, RootConfig};

/// For a training that only a signal ends.
const ENDLESS: [&str; 3] =
    ["--set=train.steps=1000000", "--set=train.checkpoint_every=1000000", "--set=train.eval_every=1000000"];

/// Turns a run with the symmetric bound into one of an earlier version with the bound `tanh`.
fn with_tanh(run: &Path, step: u64) {
    let path = run.join("config.toml");
    let digest = |path: &Path| Config::read_as_written(path).unwrap().resolved().exact_digest().unwrap();
    let before = digest(&path);
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("bound = \"sigmoid\"", "bound = \"tanh\"").replace("slope = 1.0\n", "");
    fs::write(&path, text).unwrap();
    let folder = run.join(format!("step-{step:06}"));
    let [state, manifest] =
        ["state.json", "manifest.json"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let altered = state.replace(&before, &digest(&path));
    assert_ne!(altered, state);
    fs::write(folder.join("manifest.json"), manifest.replace(&hash(&state), &hash(&altered))).unwrap();
    fs::write(folder.join("state.json"), altered).unwrap();
}

#[test]
fn two_levels_of_fsq_begin_no_training_and_hinder_no_earlier_run() {
    let scratch = Scratch::new();
    let two = "--set=quantizer.levels=[8,5,5,2]";
    let remedy = ["quantizer.levels [8, 5, 5, 2]", "2 levels", "\"sigmoid\"", "\"lfq\""];
    for args in [&[two][..], &[two, "--dry-run"], &[two, "--set=quantizer.bound=paper"]] {
        refused(&scratch.try_train("dead", args), 2, &remedy);
    }
    assert!(!scratch.path("dead").exists());
    let sweep = scratch.path("sweep.toml");
    let arm = "[[arms]]\nname = \"binary\"\nset = { quantizer.levels = [8, 5, 5, 2] }\n";
    fs::write(&sweep, format!("base = \"tiny.toml\"\n{arm}")).unwrap();
    let compare = |more: &[&str]| {
        let out = scratch.path("compared");
        let words = ["compare", sweep.to_str().unwrap(), "--out", out.to_str().unwrap()];
        pixtok(&[&words[..], more].concat())
    };
    for more in [&[][..], &["--dry-run"]] {
        refused(&compare(more), 2, &[&["arm \"binary\""], &remedy[..]].concat());
    }
    assert!(!scratch.path("compared").exists());
    let stages = "--set=quantizer={kind=\"residual\",stages=2,each={kind=\"fsq\",levels=[8,2]}}";
    let output = scratch.try_train("residual", &[stages, "--dry-run"]);
    ended(&output, 0, &[]);
    assert!(!said(&output).contains("flips at"), "{}", said(&output));

    scratch.train("run", &[two, "--set=quantizer.bound=sigmoid", "--set=train.steps=2"]);
    let run = scratch.path("run");
    with_tanh(&run, 2);
    ended(&scratch.try_resume("run", &["--set=train.steps=3"]), 0, &["flips at z = -3.8", "trained:"]);
    let (run, image, out) = (run.to_str().unwrap(), scratch.path("val/00.jpg"), scratch.path("out"));
    let words = ["reconstruct", run, image.to_str().unwrap(), "--out", out.to_str().unwrap()];
    ended(&pixtok(&[&words[..], &["--device", &device()]].concat()), 0, &["flips at z = -3.8"]);
    // Tuning a decoder keeps the existing tokens; the tokens of a new training would be dead.
    let from = [two, "--set=train.steps=1", "--init-from", run];
    refused(&scratch.try_train("again", &from), 2, &remedy);
    let frozen = [&from[..], &["--set=train.freeze=[\"encoder\",\"quantizer\"]"]].concat();
    ended(&scratch.try_train("decoder", &frozen), 0, &["flips at z = -3.8", "trained:"]);
}

/// Weights fit wherever their shapes do, but shapes do not show a bound or the order of levels.
#[test]
fn a_start_from_other_weights_names_the_settings_that_they_were_trained_with() {
    let scratch = Scratch::new();
    scratch.train("old", &["--set=train.steps=1", "--set=train.ema_decay=0.9", "--set", ADVERSARY]);
    let old = scratch.path("old");
    let from = |more: &[&str]| {
        let start = ["--dry-run", "--init-from", old.to_str().unwrap()];
        scratch.try_train("new", &[&start[..], more].concat())
    };
    let otherwise = "fit, but were trained with other settings: ";
    let averages = "the raw weights of";
    let discriminator = "is not taken: this run's starts from scratch";
    let other = ["--set=quantizer.levels=[5,5,5,8]", "--set=data.image_size=[16,32]", "--set", ADVERSARY];
    let size = "data.image_size: 32 there, [16, 32] here";
    let levels = "quantizer.levels: [8, 5, 5, 5] there, [5, 5, 5, 8] here";
    let settings = format!("{otherwise}{size}; {levels}");
    ended(&from(&other), 0, &["at step 1", averages, discriminator, &settings]);
    let settings = format!("{otherwise}quantizer.bound: \"tanh\" there, \"paper\" here");
    ended(&from(&["--set=quantizer.bound=paper"]), 0, &[&settings]);
    let output = from(&["--set=optimizer.lr=1e-4", "--set=train.batch_size=2"]);
    ended(&output, 0, &["at step 1", averages]);
    for absent in [otherwise, discriminator] {
        assert!(!said(&output).contains(absent), "{}", said(&output));
    }
}

#[test]
fn tail_drop_can_be_new_in_a_training_that_starts_from_other_weights() {
    let scratch = Scratch::new();
    let one_d = "--set=model={kind=\"one-d\",patch=4,width=16,depth=1,heads=2,latent_tokens=4}";
    let residual = "--set=quantizer={kind=\"residual\",stages=2,each={kind=\"fsq\",levels=[8,5]}}";
    let settings = ["--set=train.steps=1", one_d, residual];
    scratch.train("old", &settings);
    let old = scratch.path("old");
    let from = |more: &[&str]| {
        let start = [&settings[..], &["--init-from", old.to_str().unwrap()]].concat();
        scratch.try_train("new", &[&start[..], more].concat())
    };
    let of_tokens = "--set=model.tail_drop={keep_full=0.5}";
    let words = "has no model.tail_drop, so its vector decoder.absent is new";
    ended(&from(&["--dry-run", of_tokens]), 0, &[words]);
    // Of stages it is the decoder's too, which learns beside frozen parts.
    let of_stages = "--set=quantizer.tail_drop={keep_full=0.5}";
    let output = from(&[of_stages, "--set=train.freeze=[\"encoder\",\"quantizer\"]"]);
    ended(&output, 0, &["and so do the tokens", "other settings: quantizer.tail_drop", "trained:"]);
    assert!(!said(&output).contains(words), "{}", said(&output));
}

#[test]
fn copies_of_training_images_that_validate_are_pointed_out() {
    let scratch = Scratch::new();
    let photograph = scratch.path("train/07.jpg");
    fs::copy(&photograph, scratch.path("val/again.jpg")).unwrap();
    let words =
        ["1 of 4 validation images is a byte copy of a training image", "again.jpg, a copy of 07.jpg"];
    ended(&scratch.try_train("run", &["--set=train.steps=1"]), 0, &words);
    // A share of a folder in which an image has many names.
    fs::create_dir(scratch.path("same")).unwrap();
    for name in 0..20 {
        fs::copy(&photograph, scratch.path("same").join(format!("{name}.jpg"))).unwrap();
    }
    let same = scratch.path("same");
    let args = ["--data", same.to_str().unwrap(), "--set=data.val_share=0.5", "--set=train.steps=1"];
    let words = "validation images are byte copies of training images, for instance ";
    ended(&scratch.try_train("shared", &args), 0, &[words]);
}

#[test]
fn what_is_not_advised_is_said_by_the_training_too() {
    let scratch = Scratch::new();
    let few = ["--set=quantizer.levels=[8,5,5,3]", "--set=train.steps=3"];
    let vq = "--set=quantizer={kind=\"vq\",codebook_size=64,codebook_dim=4,restart_threshold=100}";
    let warmup =
        "optimizer.schedule.warmup_steps is 5 and there are 3 steps, so the learning rate reaches 30 % of";
    for (args, parts) in [
        (&few[..], &["[8, 5, 5, 3] has fewer than 5 in a dimension, which is not advised", warmup][..]),
        (
            &[vq, "--set=train.steps=1"],
            &["restart_threshold 100 times 64 codes is 6400, over the 1024 latent"],
        ),
    ] {
        let output = scratch.try_train("run", &[args, &["--dry-run"]].concat());
        ended(&output, 0, &[parts, &["note: "]].concat());
        ended(&scratch.try_train("run", args), 0, parts);
        fs::remove_dir_all(scratch.path("run")).unwrap();
    }
    let output = scratch.try_train("run", &["--dry-run"]);
    assert!(!said(&output).contains("note: "), "{}", said(&output));
}

/// Waits for a line with `part` on standard error.
fn wait_for(child: &mut Child, part: &str) {
    let mut said = String::new();
    let stderr = child.stderr.take().unwrap();
    let mut lines = BufReader::new(stderr);
    while !said.contains(part) {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{part:?} is missing in: {said}");
    }
    // The rest is not read; further output fits into the pipe.
    child.stderr = Some(lines.into_inner());
}

#[test]
fn a_signal_during_the_codebooks_start_saves_what_was_before() {
    let scratch = Scratch::new();
    let slow = "--set=quantizer={kind=\"vq\",codebook_size=16384,codebook_dim=64}";
    let args = [slow, "--set=train.steps=2"];
    // Two batches of four images with 256 vectors each, and no second epoch to reach the requested
    // 65,536.
    let output = scratch.try_train("whole", &args);
    let words =
        ["wants 65536 latent vectors", "starts from 2048 latent vectors", "fewer than its 16384 codes"];
    ended(&output, 0, &words);

    let (config, run, device) = (scratch.path("tiny.toml"), scratch.path("run"), device());
    let new = ["train", config.to_str().unwrap(), "--run", run.to_str().unwrap()];
    let mut child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
        .args([&new[..], &["--threads", "1", "--device", &device], &args].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&mut child, "starts from 2048 latent vectors");
    ended(
        &kill(child, "-INT"),
        130,
        &["stopped by signal 2; saved", "step-000000", "go on with: pixtok train --resume"],
    );
    assert_eq!(checkpoints(&run), ["step-000000"]);
    ended(&scratch.try_resume("run", &[]), 0, &["going on from step 0", "starts from 2048", "trained:"]);
    assert!(bytes_at(&scratch.path("whole"), 2) == bytes_at(&run, 2));
}

/// Sends a signal three times, about a step apart.
fn send(child: &Child, signal: &str) {
    for _ in 0..3 {
        // A process that has ended but was not waited for also accepts the signal.
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        sleep(Duration::from_millis(3));
    }
}

fn end_of(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn a_closed_terminal_and_a_warning_of_slurm_save_and_never_end_at_once() {
    let scratch = Scratch::new();
    for (run, signal, code, number) in
        [("hup", "-HUP", 129, 1), ("usr1", "-USR1", 138, 10), ("usr2", "-USR2", 140, 12)]
    {
        let child = start_training(&scratch, run, &ENDLESS);
        send(&child, signal);
        let saved = format!("stopped by signal {number}; saved");
        ended(&end_of(child), code, &[&saved, "go on with: pixtok train --resume"]);
        assert_eq!(checkpoints(&scratch.path(run)).len(), 1);
    }
    // After Ctrl-C these signals change nothing.
    let child = start_training(&scratch, "int", &ENDLESS);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    send(&child, "-HUP");
    ended(&end_of(child), 130, &["stopped by signal 2; saved"]);
}

#[test]
fn a_hangup_that_nohup_ignores_ends_nothing() {
    let scratch = Scratch::new();
    let (config, run, device) = (scratch.path("tiny.toml"), scratch.path("run"), device());
    let program = ["-c", "trap '' HUP; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_pixtok"), "train"];
    let new =
        [config.to_str().unwrap(), "--run", run.to_str().unwrap(), "--threads", "1", "--device", &device];
    let child = Command::new("bash")
        .args(program)
        .args(new)
        .args(ENDLESS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_rows(&run, 1);
    send(&child, "-HUP");
    wait_for_rows(&run, rows(&run) + 2);
    ended(&kill(child, "-TERM"), 143, &["stopped by signal 15; saved"]);
}

fn wait_for_rows(run: &Path, count: usize) {
    let began = Instant::now();
    while rows(run) < count {
        assert!(began.elapsed() < Duration::from_secs(60), "{} has too few rows", run.display());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_comparison_passes_the_signals_on() {
    let scratch = Scratch::new();
    let sweep = scratch.path("sweep.toml");
    let endless =
        "set = { train.steps = 1000000, train.checkpoint_every = 1000000, train.eval_every = 1000000 }";
    fs::write(&sweep, format!("base = \"tiny.toml\"\n{endless}\n[[arms]]\nname = \"fsq\"\n")).unwrap();
    let (out, run) = (scratch.path("out"), scratch.path("out/arms/fsq/seed-0"));
    for (signal, code, number) in [("-USR1", 138, 10), ("-HUP", 129, 1)] {
        let before = rows(&run);
        let mut child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
            .args(["compare", sweep.to_str().unwrap(), "--out", out.to_str().unwrap()])
            .args(["--threads", "1", "--devices", &device()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_rows(&run, before + 2);
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let saved = format!("fsq seed 0: stopped by signal {number}; saved");
        assert!(said.contains(&saved) && said.contains("the same command goes on"), "{said}");
    }
    assert_eq!(checkpoints(&run).len(), 2, "each signal saved");
}
