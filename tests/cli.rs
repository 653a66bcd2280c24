//! What a user meets at the command line: bad input and bad luck each end in one clear sentence with the remedy and
//! the right exit code, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{ROOT, Scratch, copy_run, device, photographs, pixtok, said};

/// A checkpoint at every step, none of them deleted.
const EVERY_STEP: [&str; 2] = ["--set=train.checkpoint_every=1", "--set=train.keep_checkpoints=100"];

/// The program ended with `code`, in its own words, with each of `parts` among them.
fn ended(output: &Output, code: i32, parts: &[&str]) {
    let words = said(output);
    assert_eq!(output.status.code(), Some(code), "{words}");
    for foreign in ["panicked", "RUST_BACKTRACE", "unwrap()", "frame #"] {
        assert!(!words.contains(foreign), "{foreign} in: {words}");
    }
    for part in parts {
        assert!(words.contains(part), "{part:?} is missing in: {words}");
    }
}

/// As [`ended`], after one error of one line.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    ended(output, code, parts);
    let words = said(output);
    assert_eq!(words.matches("error: ").count(), 1, "{words}");
    let error = words.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        error.ends_with(words.trim_end().lines().last().unwrap()),
        "the error is not the last line: {words}"
    );
}

/// The tensors and counters of a checkpoint.
fn bytes_at(run: &Path, step: u64) -> Vec<Vec<u8>> {
    let folder = run.join(format!("step-{step:06}"));
    ["model.safetensors", "optimizer.safetensors", "state.json"]
        .map(|name| fs::read(folder.join(name)).unwrap())
        .to_vec()
}

fn checkpoints(run: &Path) -> Vec<String> {
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("step-")).collect();
    names.sort();
    names
}

/// `pixtok train …` in bash, after `limit`.
fn train_limited(scratch: &Scratch, run: &str, limit: &str, device: &str, args: &[&str]) -> Output {
    let (config, run) = (scratch.path("tiny.toml"), scratch.path(run));
    let new =
        [config.to_str().unwrap(), "--run", run.to_str().unwrap(), "--threads", "1", "--device", device];
    limited(limit, &[&new, args].concat())
}

/// `pixtok train …` under a limit of bash.
fn limited(limit: &str, args: &[&str]) -> Output {
    let script = format!("{limit}; exec \"$@\"");
    let program = ["-c", &script, "bash", env!("CARGO_BIN_EXE_pixtok"), "train"];
    Command::new("bash").args(program).args(args).output().unwrap()
}

/// A training in the background, of far more steps than a test waits for unless `args` say otherwise.
fn start_training(scratch: &Scratch, run: &str, args: &[&str]) -> Child {
    let (config, path, device) = (scratch.path("tiny.toml"), scratch.path(run), device());
    let new =
        [config.to_str().unwrap(), "--run", path.to_str().unwrap(), "--threads", "1", "--device", &device];
    start(scratch, run, &[&new, args].concat())
}

/// `pixtok train …` in the background, once `run` has a new row in its log.
fn start(scratch: &Scratch, run: &str, args: &[&str]) -> Child {
    let before = rows(&scratch.path(run));
    let child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
        .arg("train")
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while rows(&scratch.path(run)) <= before {
        assert!(began.elapsed() < Duration::from_secs(60), "the training does not begin");
        sleep(Duration::from_millis(5));
    }
    child
}

fn rows(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count()
}

fn kill(child: Child, signal: &str) -> Output {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

#[test]
fn mistakes_in_the_config_are_named() {
    let scratch = Scratch::new();
    for (set, parts) in [
        ("train.stepz=3", &["train.stepz", "did you mean \"steps\""][..]),
        ("optimiser.lr=1", &["optimiser", "did you mean \"optimizer\""]),
        ("train.steps=many", &["train.steps is \"many\"", "whole number"]),
        ("train.steps=2.5", &["train.steps is 2.5", "whole number"]),
        ("data.flip=1", &["data.flip is 1", "true or false"]),
        ("train.steps", &["--set train.steps", "key=value"]),
        ("train.precision=fp17", &["fp17", "allowed: auto, fp32, bf16"]),
        ("quantizer.kind=fqs", &["fqs", "did you mean \"fsq\""]),
        ("quantizer.levels=[8,1]", &["quantizer.levels", "1", "2 levels or more"]),
        ("quantizer.levels=[]", &["quantizer.levels is empty", "[8, 5, 5, 5]"]),
        ("quantizer.levels=[256,256,256,256]", &["[256, 256, 256, 256]", "2^31", "fewer or smaller"]),
        (
            "quantizer={kind=\"vq\",distance=\"cosine\",codebook_dim=0}",
            &["quantizer.codebook_dim is 0", "from 1"],
        ),
        ("quantizer={kind=\"vq\",codebook_size=3000000000}", &["codebook_size is 3000000000", "2^31"]),
        (
            "quantizer={kind=\"vq\",gradient_estimator=\"diveq\"}",
            &["diveq", "moving average", "codebook_update"],
        ),
        (
            "quantizer={kind=\"vq\",memory_budget=\"12kB\"}",
            &["quantizer.memory_budget is \"12kB\"", "256MiB"],
        ),
        ("quantizer={kind=\"lfq\",bits=32}", &["quantizer.bits is 32", "31"]),
        ("quantizer={kind=\"residual\"}", &["quantizer.each is missing"]),
        ("quantizer={kind=\"residual\",stages=0,each={kind=\"fsq\"}}", &["quantizer.stages is 0", "from 1"]),
        (
            "quantizer={kind=\"residual\",stages=60,each={kind=\"fsq\"}}",
            &["quantizer.stages is 60", "9 or fewer"],
        ),
        (
            "quantizer={kind=\"residual\",each={kind=\"fsq\",bound=\"tanh\"}}",
            &["quantizer.each.bound", "remove it"],
        ),
        (
            "quantizer={kind=\"residual\",each={kind=\"grouped\",each={kind=\"fsq\"}}}",
            &["quantizer.each", "kind = \"grouped\""],
        ),
        (
            "quantizer={kind=\"grouped\",each={kind=\"grouped\",each={kind=\"fsq\"}}}",
            &["raise quantizer.groups"],
        ),
        (
            "quantizer={kind=\"grouped\",groups=2,each={kind=\"vq\",codebok_size=9}}",
            &["quantizer.each.codebok_size", "codebook_size"],
        ),
        (
            "quantizer={kind=\"ibq\",codebook_size=1000000}",
            &["ibq keeps 1024 vectors × 1000000 codes", "3907 MiB", "train.micro_batches"],
        ),
        ("data.image_size=33", &["data.image_size 33", "32 or 34"]),
        ("data.image_size=[32,35]", &["data.image_size 35", "34 or 36"]),
        ("data.image_size=0", &["data.image_size", "from 1 to"]),
        ("model.norm_groups=3", &["8 channels", "3 normalisation groups", "model.norm_groups"]),
        ("train.batch_size=11", &["batch", "11", "10", "lower train.batch_size or add images"]),
        ("train.batch_size=0", &["train.batch_size is 0", "1 or more"]),
        ("train.steps=0", &["train.steps is 0", "1 or more"]),
    ] {
        refused(&scratch.try_train("run", &["--set", set]), 2, parts);
        assert!(!scratch.path("run").exists(), "{set} left a run folder");
    }
    let groups = [
        "--set",
        "quantizer={kind=\"grouped\",groups=2,each={kind=\"vq\"}}",
        "--set",
        "model.latent_channels=9",
    ];
    refused(&scratch.try_train("run", &groups), 2, &["quantizer.groups is 2", "9 channels"]);
    fs::write(scratch.path("torn.toml"), "[train]\nsteps = [\n").unwrap();
    for (config, parts) in [
        ("torn.toml", &["torn.toml:2:10", "unclosed array"][..]),
        ("absent.toml", &["cannot read the config", "absent.toml"]),
        ("train", &["cannot read the config", "Is a directory"]),
    ] {
        refused(&pixtok(&["train", scratch.path(config).to_str().unwrap()]), 2, parts);
    }
}

#[test]
fn a_dry_run_says_everything_that_would_be_used() {
    let scratch = Scratch::new();
    let dry_run = |set: &str| said(&scratch.try_train("run", &["--dry-run", "--set", set]));
    let words = dry_run("quantizer={kind=\"ibq\",codebook_size=512}");
    // 4 images of 16×16 positions, 512 codes, 4 bytes.
    assert!(words.contains("N×K tables of the quantizer 2 MiB"), "{words}");
    assert!(dry_run("quantizer={kind=\"fsq\"}").contains("bound = \"tanh\""));
    assert!(dry_run("quantizer={kind=\"fsq\",bound=\"sigmoid\"}").contains("slope = 1.0"));
    assert!(dry_run("quantizer={kind=\"vq\"}").contains("commitment_weight = 0.25"));
    let words = dry_run("quantizer={kind=\"residual\",stages=2,each={kind=\"vq\",codebook_size=32}}");
    assert!(words.contains("commitment_weight = 0.25"), "{words}");
    assert!(words.contains("2 of 32 codes of dimension 8; 10.000 bits per token"), "{words}");
}

#[test]
fn folders_without_images_are_named() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("empty")).unwrap();
    for (folder, parts) in [
        ("absent", &["absent does not exist", "--data"][..]),
        ("empty", &["no images in", "empty", "jpg"]),
        ("tiny.toml", &["tiny.toml is neither images nor tar shards", "folder"]),
    ] {
        let path = scratch.path(folder);
        for flag in ["--data", "--val-data"] {
            refused(&scratch.try_train("run", &[flag, path.to_str().unwrap()]), 2, parts);
            assert!(!scratch.path("run").exists());
        }
    }
}

/// A folder of `good` photographs beside a truncated one and a file that cannot be read (a link that leads nowhere).
fn with_bad_images(scratch: &Scratch, name: &str, good: usize) -> String {
    let folder = scratch.path(name);
    fs::create_dir(&folder).unwrap();
    for i in 0..good {
        let file = format!("{i:02}.jpg");
        fs::copy(scratch.path("train").join(&file), folder.join(&file)).unwrap();
    }
    let whole = fs::read(scratch.path("train/09.jpg")).unwrap();
    fs::write(folder.join("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    symlink("nowhere.jpg", folder.join("link.jpg")).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn bad_images_are_skipped_and_listed_up_to_the_limit() {
    let scratch = Scratch::new();
    let folder = with_bad_images(&scratch, "mixed", 8);
    let val = scratch.path("val");
    let args = ["--data", &folder, "--val-data", val.to_str().unwrap()];
    let listed = |run: &str| {
        let text = fs::read_to_string(scratch.path(run).join("bad_samples.jsonl")).unwrap();
        let mut rows: Vec<(String, String)> = text
            .lines()
            .map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                (row["name"].as_str().unwrap().to_owned(), row["reason"].as_str().unwrap().to_owned())
            })
            .collect();
        rows.sort();
        rows
    };
    let lax: Vec<&str> = args.iter().copied().chain(["--set=data.max_bad_fraction=0.2"]).collect();
    let output = scratch.try_train("lax", &lax);
    ended(&output, 0, &["warning", "bad_samples.jsonl", "trained:"]);
    let rows = listed("lax");
    assert_eq!(rows.len(), 2, "several epochs list each file once: {rows:?}");
    assert!(rows[0].0 == "cut.jpg" && rows[0].1.contains("cut short"), "{rows:?}");
    assert!(rows[1].0 == "link.jpg" && rows[1].1.contains("No such file"), "{rows:?}");

    let strict: Vec<&str> = args.iter().copied().chain(["--set=data.max_bad_fraction=0.05"]).collect();
    let output = scratch.try_train("strict", &strict);
    refused(&output, 6, &["of 10 images", "data.max_bad_fraction = 0.05", "repair or remove them"]);
    assert!(!listed("strict").is_empty());

    let batch: Vec<&str> = lax.iter().copied().chain(["--set=train.batch_size=9"]).collect();
    let output = scratch.try_train("batch", &batch);
    refused(&output, 2, &["a batch of 9", "8 of 10 images can be used", "lower train.batch_size"]);
}

#[test]
fn without_one_good_image_there_is_no_training() {
    let scratch = Scratch::new();
    let (bad, good) = (with_bad_images(&scratch, "bad", 0), scratch.path("val"));
    let parts = ["none of the 2 images can be used", "cut.jpg: ", "link.jpg: "];
    let args = ["--data", &bad, "--val-data", good.to_str().unwrap(), "--set=train.batch_size=2"];
    refused(&scratch.try_train("train-bad", &args), 6, &parts);
    // Known at the first evaluation only; what was trained until then is kept.
    refused(&scratch.try_train("val-bad", &["--val-data", &bad]), 6, &parts);
    assert_eq!(checkpoints(&scratch.path("val-bad")), ["step-000012"]);
    // Once the images are mended, a resume makes up for it.
    let mended = ["--val-data", good.to_str().unwrap()];
    ended(&scratch.try_resume("val-bad", &mended), 0, &["step 12: val psnr_db"]);
    for run in ["train-bad", "val-bad"] {
        let listed = fs::read_to_string(scratch.path(run).join("bad_samples.jsonl")).unwrap();
        assert_eq!(listed.lines().count(), 2, "{run}: {listed}");
    }
}

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
    refused(&scratch.try_resume("absent", &[]), 2, &["absent is not a run folder", "no such folder"]);
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
    // The config that the run was made from lacks its override.
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
    // Nor by hand, past the check of what is given.
    let written = fs::read_to_string(same.join("config.toml")).unwrap();
    fs::write(same.join("config.toml"), written.replace("batch_size = 4", "batch_size = 5")).unwrap();
    refused(&scratch.try_resume("run", &[]), 2, &["was changed since the checkpoint of step 5"]);
    // A new run made of an old one's config takes none of its history.
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
    refused(&scratch.try_resume("run", &["--set=train.steps=4"]), 2, &["some sizes differ"]);
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
    // A run that can go on does, whatever the flag.
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
fn memory_exhausted_says_what_to_lower() {
    let scratch = Scratch::new();
    // A limit that these sizes pass at once, so that no machine's memory is really filled.
    let limit = "ulimit -v 6000000";
    for sets in [
        &["--set=model.channels=65536"][..],
        &["--set=quantizer={kind=\"vq\",codebook_size=2147483648,codebook_dim=65536}"],
        &["--set=data.image_size=16384", "--set=train.batch_size=10"],
        &["--set=data.image_size=512", "--set=model.channels=1024"],
    ] {
        let output = train_limited(&scratch, "run", limit, "cpu", sets);
        refused(&output, 1, &["out of memory", "bytes", "lower train.batch_size", "data.image_size"]);
        let _ = fs::remove_dir_all(scratch.path("run"));
    }
}

#[test]
fn one_trainer_per_run_folder() {
    let scratch = Scratch::new();
    // An evaluation would save the best checkpoint, if the machine is slow enough for the trainer to get there.
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

#[test]
fn a_loss_that_is_no_number_stops_before_the_step() {
    let scratch = Scratch::new();
    let sets = ["--set=optimizer.lr=1e30", "--set=optimizer.clip_norm=0", "--set=train.checkpoint_every=1"];
    let output = scratch.try_train("run", &sets);
    refused(&output, 5, &["step 2", "NaN", "lower optimizer.lr", ".jpg"]);
    assert_eq!(checkpoints(&scratch.path("run")), ["step-000001"]);
}

#[test]
fn a_run_starts_from_another_that_fits() {
    let scratch = Scratch::new();
    scratch.train("first", &["--set=train.steps=2"]);
    let first = scratch.path("first");
    let from = ["--init-from", first.to_str().unwrap(), "--set=train.steps=1"];
    let output = scratch.try_train("second", &from);
    ended(&output, 0, &["starting from the weights of", "at step 2", "trained:"]);
    let wider: Vec<&str> = from.iter().copied().chain(["--set=model.channels=16"]).collect();
    let output = scratch.try_train("third", &wider);
    refused(&output, 2, &["cannot start from", "does not fit", "decoder.head.weight", "the config"]);
    refused(&scratch.try_train("third", &["--init-from", "absent"]), 2, &["absent is not a run folder"]);
    scratch.train("third", &from);
}

#[test]
fn another_kind_of_quantizer_drops_the_keys_it_lacks() {
    let scratch = Scratch::new();
    let output = scratch.try_train("run", &["--dry-run", "--set=quantizer.kind=vq"]);
    ended(&output, 0, &["dropped quantizer.levels", "kind = \"vq\"", "codebook_size = 1024"]);
    let vq = "configs/photos96-vq.toml";
    let output = pixtok(&["train", vq, "--dry-run", "--device", "cpu", "--set=quantizer.kind=fsq"]);
    ended(&output, 0, &["dropped quantizer.codebook_dim", "kind = \"fsq\"", "levels = [8, 5, 5, 5]"]);
}

#[test]
fn checkpoints_and_weights_are_chosen_by_name() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=2", EVERY_STEP[0]]);
    let (run, device) = (scratch.path("run"), device());
    let eval = |args: &[&str]| {
        pixtok(&[&["eval", run.to_str().unwrap(), "--threads", "1", "--device", &device], args].concat())
    };
    for (name, step) in
        [("last", "step 2"), ("best", "step 2"), ("step-1", "step 1"), ("step-000001", "step 1")]
    {
        ended(&eval(&["--checkpoint", name]), 0, &[step, "psnr_db", "usage"]);
    }
    refused(
        &eval(&["--checkpoint", "step-7"]),
        2,
        &["no checkpoint", "step-000007", "step-000001, step-000002"],
    );
    ended(&eval(&["--checkpoint", "newest"]), 2, &["\"newest\"", "last, best or step-N"]);
    refused(&eval(&["--weights", "ema"]), 2, &["no weight average", "train.ema_decay", "--weights raw"]);
    ended(&eval(&["--weights", "mean"]), 2, &["\"mean\"", "raw or ema"]);
    refused(&eval(&["--data", "absent"]), 2, &["absent does not exist", "--data"]);
    refused(&pixtok(&["eval", "absent"]), 2, &["absent does not exist", "run folder"]);
    let step = run.join("step-000001");
    refused(&pixtok(&["eval", step.to_str().unwrap()]), 2, &["is a checkpoint", "--checkpoint"]);

    let json = scratch.path("figures.json");
    ended(&eval(&["--json", json.to_str().unwrap()]), 0, &["psnr_db"]);
    let figures: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert!(figures.as_object().unwrap().values().all(|value| !value.is_object() && !value.is_array()));
    let names = "psnr_db ssim l1 usage perplexity entropy_bits dead_codes bits_per_token bits_per_pixel \
                 usage_expected_uniform images tokens codebook_size step";
    for name in names.split_whitespace() {
        assert!(figures[name].is_number(), "{name}: {figures}");
    }
    assert_eq!(
        (&figures["images"], &figures["step"], &figures["codebook_size"]),
        (&3.into(), &2.into(), &1000.into())
    );
    assert_eq!(figures["weights"], "raw");
}

#[test]
fn images_and_folders_are_reconstructed() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let (run, device) = (path("run"), device());
    let reconstruct = |input: &str, args: &[&str]| {
        let verb = ["reconstruct", &run, &path(input), "--threads", "1", "--device", &device];
        pixtok(&[&verb, args].concat())
    };
    let files = |folder: &str| fs::read_dir(scratch.path(folder)).unwrap().count();
    ended(&reconstruct("val/01.jpg", &["--out", &path("one")]), 0, &["1 reconstruction"]);
    assert_eq!(files("one"), 1);
    ended(
        &reconstruct("val", &["--out", &path("all"), "--sheet", &path("sheet.png")]),
        0,
        &["3 reconstruction"],
    );
    assert_eq!(files("all"), 3);
    assert!(fs::read(scratch.path("sheet.png")).unwrap().starts_with(b"\x89PNG"));
    with_bad_images(&scratch, "bad", 0);
    refused(&reconstruct("bad/cut.jpg", &[]), 1, &["bad/cut.jpg", "cut short"]);
    refused(&reconstruct("absent.jpg", &[]), 2, &["absent.jpg does not exist"]);
    refused(
        &reconstruct("val", &["--out", &path("tiny.toml/x")]),
        1,
        &["cannot make the folder", "tiny.toml/x"],
    );
}

#[test]
fn reconstructions_have_a_file_each() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let (run, device) = (path("run"), device());
    let reconstruct = |input: &str, args: &[&str]| {
        let verb = ["reconstruct", &run, &path(input), "--threads", "1", "--device", &device];
        pixtok(&[&verb, args].concat())
    };
    let photograph = photographs("train").remove(0);
    let pictures = |folder: &str, names: &[&str]| {
        for name in names {
            let file = scratch.path(folder).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::copy(&photograph, file).unwrap();
        }
    };
    pictures("same", &["deep/a.jpg", "deep/a.png", "deep/a.jpg.png", "deep/A.jpg", "b"]);
    let clash = reconstruct("same", &["--out", &path("out")]);
    refused(&clash, 2, &["deep/a.jpg and ", "deep/a.jpg.png would both be", "--names png"]);
    assert!(!scratch.path("out").exists());
    let all = reconstruct("same", &["--out", &path("out"), "--names", "png"]);
    ended(&all, 0, &["4 reconstruction", "1 file is passed over", "1 without one"]);
    let mut written: Vec<String> = fs::read_dir(scratch.path("out/deep"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, ["A.jpg.png", "a.jpg.png", "a.jpg.png.png", "a.png.png"]);

    pictures("folder", &["a.bmp", "a.bmp.png/b.png"]);
    refused(&reconstruct("folder", &["--out", &path("out2")]), 2, &["one inside the other", "rename one"]);
    pictures("beside", &["a.jpg", "b.png"]);
    let sheet = ["--out", &path("out3"), "--sheet", &path("out3/b.png")];
    refused(&reconstruct("beside", &sheet), 2, &["b.png and the sheet", "another name"]);
    // Nor by another way to the same place, nor over an original.
    let around = path("beside/../out3/b.png");
    refused(&reconstruct("beside", &["--out", &path("out3"), "--sheet", &around]), 2, &["and the sheet"]);
    let original = path("beside/b.png");
    let over = reconstruct("beside", &["--out", &path("out3"), "--sheet", &original]);
    refused(&over, 2, &["the sheet", "would replace", "another name"]);
    // Into the folder of the originals: `a.jpg.png` is new, `b.png` would be gone.
    refused(
        &reconstruct("beside", &["--out", &path("beside")]),
        2,
        &["would replace", "b.png", "another --out"],
    );
    pictures("others", &["a.jpg", "a.jpg.png"]);
    let over = reconstruct("others", &["--out", &path("others"), "--names", "png"]);
    refused(&over, 2, &["others/a.jpg would replace ", "others/a.jpg.png; choose"]);
    fs::remove_file(scratch.path("beside/b.png")).unwrap();
    let into = scratch.path("beside/a.jpg.png");
    fs::create_dir(&into).unwrap();
    refused(&reconstruct("beside", &["--out", &path("beside")]), 2, &["which is a folder"]);
}

#[test]
fn a_device_that_is_not_there() {
    let scratch = Scratch::new();
    let config = scratch.path("tiny.toml");
    let train = |device: &str| pixtok(&["train", config.to_str().unwrap(), "--dry-run", "--device", device]);
    ended(&train("gpu"), 2, &["\"gpu\"", "cpu, cuda, cuda:N or auto"]);
    refused(&train("cuda:99"), 2, &["CUDA", "--device cpu"]);
    if !pixtok::torch::cuda_devices().is_ok_and(|count| count > 0) {
        refused(&train("cuda"), 2, &["CUDA", "--device cpu"]);
        refused(&pixtok(&["doctor", "--device", "cuda"]), 2, &["CUDA", "--device cpu"]);
    }
}

#[test]
fn every_config_resolves_and_every_verb_explains_itself() {
    let entries = fs::read_dir(Path::new(ROOT).join("configs")).unwrap().map(|entry| entry.unwrap().path());
    for config in entries.filter(|path| path.is_file()) {
        let output = pixtok(&["train", config.to_str().unwrap(), "--dry-run", "--device", "cpu"]);
        let parts = ["# parameters: ", "# latent grid: 16x16", "bits per token", "# images: ", "# memory: "];
        ended(&output, 0, &parts);
    }
    let run = Path::new(ROOT).join("configs/photos96-fsq.toml");
    ended(
        &pixtok(&["train", run.to_str().unwrap(), "--dry-run"]),
        0,
        &["1040 for training", "32 steps per epoch"],
    );
    for (verb, parts) in [
        ("train", &["--set", "--resume", "--dry-run", "--init-from", "Exit codes", "Examples"][..]),
        ("eval", &["--checkpoint", "--weights", "--json", "Examples"]),
        ("compare", &["--devices", "--jobs", "--dry-run", "Examples"]),
        ("reconstruct", &["IMAGE_OR_FOLDER", "--out", "--names", "--sheet", "Examples"]),
        ("export", &["--out", "--weights", "Examples"]),
        ("codebook", &["--out", ".npy", "Examples"]),
        ("doctor", &["--device"]),
    ] {
        ended(&pixtok(&[verb, "--help"]), 0, parts);
    }
    ended(&pixtok(&["trian"]), 2, &["trian", "train"]);
}
