//! `pixtok compare`: the results are the same however often it was stopped, and a failing arm does
//! not stop the others.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "compare/diverged.rs"]
mod diverged;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use common::{Scratch, device, pixtok, said};
use pixtok_images::picture::Picture;
use serde_json::Value;

const SWEEP: &str = "base = \"tiny.toml\"\nseeds = [0, 1]\nset = { train.checkpoint_every = 4 }\n\
    [[arms]]\nname = \"fsq\"\n[[arms]]\nname = \"vq\"\nset = { quantizer = { kind = \"vq\", codebook_size = 64 } }\n";

fn sweep(scratch: &Scratch, name: &str, text: &str) -> String {
    let path = scratch.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn compare(scratch: &Scratch, sweep: &str, out: &str) -> Output {
    let device = device();
    let out = scratch.path(out);
    pixtok(&["compare", sweep, "--out", out.to_str().unwrap(), "--threads", "1", "--devices", &device])
}

/// `results.json` without the values that depend on the clock.
fn results(scratch: &Scratch, out: &str) -> Value {
    fn timeless(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|name, _| !name.ends_with("_per_sec") && !name.ends_with("_secs"));
                object.values_mut().for_each(timeless);
            }
            Value::Array(array) => array.iter_mut().for_each(timeless),
            _ => {}
        }
    }
    let text = fs::read_to_string(scratch.path(out).join("results.json")).unwrap();
    let mut value = serde_json::from_str(&text).unwrap();
    timeless(&mut value);
    value
}

fn saved_at(out: &Path, arm: &str) -> SystemTime {
    fs::metadata(out.join("arms").join(arm).join("seed-0/step-000012/model.safetensors"))
        .unwrap()
        .modified()
        .unwrap()
}

/// Starts a comparison in the background and waits until `path` exists in its folder.
fn started(scratch: &Scratch, sweep: &str, out: &str, path: &str) -> Child {
    let folder = scratch.path(out);
    let child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
        .args(["compare", sweep, "--out", folder.to_str().unwrap(), "--threads", "1", "--devices", &device()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !folder.join(path).exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "{path} does not come");
        sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn a_comparison_that_was_stopped_ends_as_one_that_was_not() {
    let scratch = Scratch::new();
    let sweep = sweep(&scratch, "sweep.toml", SWEEP);
    let output = compare(&scratch, &sweep, "whole");
    assert!(output.status.success(), "{}", said(&output));
    let whole = results(&scratch, "whole");
    assert_eq!(whole["arms"].as_array().unwrap().len(), 2);
    assert_eq!(whole["arms"][1]["runs"].as_array().unwrap().len(), 2);
    assert!(whole["arms"][0]["summary"]["psnr_db"]["deviation"].as_f64().unwrap() > 0.0);
    let page = fs::read_to_string(scratch.path("whole/report.html")).unwrap();
    assert!(page.contains("fsq") && !page.contains("http://"));
    assert!(scratch.path("whole/.pixtok-output").is_file());
    let figures: Vec<_> = whole["pairs"].as_array().unwrap().iter().map(|pair| &pair["figure"]).collect();
    assert!(figures.contains(&&Value::from("psnr_db")) && !figures.contains(&&Value::from("usage")));
    assert_eq!(whole["pairs"][0]["arms"], serde_json::json!(["fsq", "vq"]));
    assert_eq!(whole["pairs"][0]["interval"]["over"], serde_json::json!({"seeds": 2}));
    for name in ["plots/training-loss.svg", "plots/validation-psnr.svg", "plots/rate-distortion.svg"] {
        assert!(fs::read_to_string(scratch.path("whole").join(name)).unwrap().starts_with("<svg xmlns="));
    }
    for name in ["results.csv", "results.md", "results.tex", "summary.csv"] {
        assert!(fs::read_to_string(scratch.path("whole").join(name)).unwrap().contains("vq"));
    }

    // Killed in the middle of the second training, so that it cannot even pass the signal on.
    let mut child = started(&scratch, &sweep, "stopped", "arms/vq/seed-0/step-000004");
    child.kill().unwrap();
    child.wait().unwrap();
    let finished = saved_at(&scratch.path("stopped"), "fsq");
    // Then stopped by Ctrl-C in the middle of the third one.
    let mut child = started(&scratch, &sweep, "stopped", "arms/fsq/seed-1/step-000004");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let output = compare(&scratch, &sweep, "stopped");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("fsq seed 0: finished earlier"), "{}", said(&output));
    assert_eq!(saved_at(&scratch.path("stopped"), "fsq"), finished, "a finished arm was trained again");
    assert_eq!(results(&scratch, "stopped"), whole);

    // Nothing is left to do, and the results are the same again.
    let output = compare(&scratch, &sweep, "stopped");
    assert_eq!(said(&output).matches("finished earlier").count(), 4, "{}", said(&output));
    assert_eq!(results(&scratch, "stopped"), whole);
}

#[test]
fn an_edited_sweep_does_not_pass_off_what_was_trained_before() {
    let scratch = Scratch::new();
    let text = "base = \"tiny.toml\"\n[[arms]]\nname = \"fsq\"\n";
    let path = sweep(&scratch, "sweep.toml", text);
    assert!(compare(&scratch, &path, "out").status.success());
    for steps in [4, 24] {
        sweep(&scratch, "sweep.toml", &format!("{text}[set]\ntrain.steps = {steps}\n"));
        let output = compare(&scratch, &path, "out");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let words = said(&output);
        assert!(words.contains(&format!("train.steps: 12 -> {steps}")) && words.contains("--out"), "{words}");
    }
    // Different training files make a different training, too.
    sweep(&scratch, "sweep.toml", text);
    fs::copy(scratch.path("train/00.jpg"), scratch.path("train/new.jpg")).unwrap();
    let output = compare(&scratch, &path, "out");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let changed = "since their list changed: 1 file is new, new.jpg; 10 files then, 11 now";
    assert!(said(&output).contains("other files in"), "{}", said(&output));
    assert!(said(&output).contains(changed), "{}", said(&output));
    let output = pixtok(&["compare", &path, "--out", scratch.path("train").to_str().unwrap()]);
    assert!(said(&output).contains("something else than a comparison"), "{}", said(&output));
    let out = scratch.path("train");
    let dry = pixtok(&["compare", &path, "--out", out.to_str().unwrap(), "--dry-run"]);
    assert_eq!(dry.status.code(), Some(2), "a dry run refuses what the run would: {}", said(&dry));
}

#[test]
fn other_pictures_or_settings_of_a_training_are_refused_at_once() {
    let scratch = Scratch::new();
    let text = "base = \"tiny.toml\"\nset.train.steps = 60\nset.train.checkpoint_every = 5\n\
        [[arms]]\nname = \"fsq\"\n";
    let path = sweep(&scratch, "sweep.toml", text);
    // Stopped early: nothing is finished, and a checkpoint records its pictures.
    let mut child = started(&scratch, &path, "out", "arms/fsq/seed-0/step-000005");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap();
    let (image, run) = (scratch.path("train/00.jpg"), scratch.path("out/arms/fsq/seed-0"));
    assert!(!run.join("evaluation").exists());
    let bytes = fs::read(&image).unwrap();
    fs::copy(scratch.path("train/01.jpg"), &image).unwrap();
    let log = fs::metadata(scratch.path("out/arms/fsq/seed-0.log")).unwrap().len();
    let began = Instant::now();
    let output = compare(&scratch, &path, "out");
    let took = began.elapsed();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let changed = "some sizes differ: 1 file has another size, 00.jpg (";
    assert!(said(&output).contains(changed), "{}", said(&output));
    // It takes half a second by itself, but the machine may be busy.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(fs::metadata(scratch.path("out/arms/fsq/seed-0.log")).unwrap().len(), log, "it trained");

    // If they are written again with the same bytes, they are accepted, with a note in the report.
    fs::write(&image, bytes).unwrap();
    let output = compare(&scratch, &path, "out");
    assert!(output.status.success(), "{}", said(&output));
    let note = "since the training of fsq seed 0: files in";
    assert!(said(&output).contains(note), "{}", said(&output));
    for name in ["results.md", "results.json", "report.html"] {
        let text = fs::read_to_string(scratch.path("out").join(name)).unwrap();
        assert!(text.contains("have new modification times"), "{name}");
    }

    // A run whose learning rate was changed by hand cannot be a trained arm of this sweep, but it
    // can be given by `path`.
    let resumed =
        ["train", "--resume", run.to_str().unwrap(), "--set=optimizer.lr=1e-3", "--set=train.steps=61"];
    let output = pixtok(&resumed);
    assert!(output.status.success(), "{}", said(&output));
    fs::write(
        run.join("config.toml"),
        fs::read_to_string(run.join("config.toml")).unwrap().replace("steps = 61", "steps = 60"),
    )
    .unwrap();
    let output = compare(&scratch, &path, "out");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let change = "optimizer.lr: 0.002 -> 0.001 from step 60 on";
    assert!(said(&output).contains(change) && said(&output).contains("--out"), "{}", said(&output));
    let text = "base = \"tiny.toml\"\n[[arms]]\nname = \"there\"\npath = \"out/arms/fsq/seed-0\"\n";
    let path = sweep(&scratch, "there.toml", text);
    let output = compare(&scratch, &path, "two");
    assert!(output.status.success(), "{}", said(&output));
    for name in ["results.md", "report.html"] {
        let text = fs::read_to_string(scratch.path("two").join(name)).unwrap();
        assert!(text.contains("changed while it trained: optimizer.lr"), "{name}: {text}");
    }
}

#[test]
fn another_evaluation_of_a_finished_training_is_made_afresh() {
    let scratch = Scratch::new();
    let path = sweep(&scratch, "sweep.toml", "base = \"tiny.toml\"\n[[arms]]\nname = \"fsq\"\n");
    // What a comparison leaves if it is killed immediately.
    fs::create_dir(scratch.path("out")).unwrap();
    fs::write(scratch.path("out/.lock"), "").unwrap();
    let output = compare(&scratch, &path, "out");
    assert!(output.status.success(), "{}", said(&output));
    let (out, trained) = (scratch.path("out"), saved_at(&scratch.path("out"), "fsq"));
    let stray = out.join("arms/fsq/seed-0/evaluation/originals/stray.png");
    fs::copy(out.join("arms/fsq/seed-0/evaluation/originals/00.jpg.png"), &stray).unwrap();
    // Two threads would train differently, but nothing is left to train.
    let args = ["compare", &path, "--out", out.to_str().unwrap(), "--threads", "2", "--devices", &device()];
    let output = pixtok(&[&args[..], &["--metrics", "ssim"]].concat());
    assert!(output.status.success() && !said(&output).contains("finished earlier"), "{}", said(&output));
    assert_eq!(saved_at(&out, "fsq"), trained);
    assert!(!stray.exists());
    let results = results(&scratch, "out");
    assert_eq!(results["arms"][0]["runs"][0]["figures"].get("psnr_db"), None);
    assert!(results["environment"].to_string().contains("[\"threads\",\"2\"]"), "{}", results["environment"]);
    // A validation image that changed but kept its name.
    fs::copy(scratch.path("train/05.jpg"), scratch.path("val/00.jpg")).unwrap();
    let output = pixtok(&[&args[..], &["--metrics", "ssim"]].concat());
    assert!(!said(&output).contains("finished earlier"), "{}", said(&output));
}

#[test]
fn several_at_a_time_give_the_same_results() {
    let scratch = Scratch::new();
    let sweep = sweep(&scratch, "sweep.toml", SWEEP);
    assert!(compare(&scratch, &sweep, "one").status.success());
    let out = scratch.path("two");
    let args = ["compare", &sweep, "--out", out.to_str().unwrap(), "--jobs", "2", "--threads", "1"];
    let output = pixtok(&[&args[..], &["--devices", &device()]].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(results(&scratch, "one"), results(&scratch, "two"));
}

#[test]
fn a_failed_arm_is_reported_and_the_others_are_not_lost() {
    let scratch = Scratch::new();
    let text = "base = \"tiny.toml\"\n[[arms]]\nname = \"fsq\"\n[[arms]]\nname = \"diverges\"\nset.optimizer.lr = 1e30\n";
    let sweep = sweep(&scratch, "sweep.toml", text);
    let output = compare(&scratch, &sweep, "out");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("1 of 2 runs failed"), "{}", said(&output));
    let results = results(&scratch, "out");
    assert!(results["arms"][0]["runs"][0]["figures"]["psnr_db"].as_f64().is_some());
    let failure = results["arms"][1]["runs"][0]["failure"].as_str().unwrap();
    assert!(failure.contains("exit code 5") && failure.contains("optimizer.lr"), "{failure}");
    assert!(fs::read_to_string(scratch.path("out/report.html")).unwrap().contains("exit code 5"));
}

#[test]
fn what_is_there_already_can_be_an_arm() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let pictures = scratch.path("pictures");
    let run = scratch.path("run");
    let output =
        pixtok(&["eval", run.to_str().unwrap(), "--threads", "1", "--pictures", pictures.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let text = "base = \"tiny.toml\"\n[[arms]]\nname = \"fsq\"\n[[arms]]\nname = \"there\"\npath = \"run\"\ncodebook_size = 1000\n\
        [[arms]]\nname = \"elsewhere\"\npath = \"pictures/reconstructions\"\n";
    let path = sweep(&scratch, "sweep.toml", text);
    let output = compare(&scratch, &path, "out");
    assert!(output.status.success(), "{}", said(&output));
    let results = results(&scratch, "out");
    let figure = |arm: usize| results["arms"][arm]["runs"][0]["figures"]["psnr_db"].clone();
    assert_eq!(figure(0), figure(1), "the same config and seed");
    assert_eq!(figure(1), figure(2), "its reconstructions in a folder");
    assert_eq!(results["arms"][1]["runs"][0]["seed"], Value::Null);
    assert_eq!(results["arms"][2]["codebook_size"], Value::Null);
}

#[test]
fn tokenizers_are_compared_as_they_are() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    scratch.train("other", &["--set=data.resize=40", "--set=train.steps=2"]);
    let at = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let pictures = at("pictures");
    let output = pixtok(&["eval", &at("run"), "--threads", "1", "--pictures", &pictures]);
    assert!(output.status.success(), "{}", said(&output));
    let (run, other, made, out) = (at("run"), at("other"), pictures + "/reconstructions", at("out"));
    let given = |paths: &[&str], more: &[&str]| {
        let device = device();
        let common = ["--out", &out, "--threads", "1", "--devices", &device];
        pixtok(&[&["compare"][..], paths, &common, more].concat())
    };
    let dry = given(&[&run, &other, &made], &["--dry-run"]);
    let words = said(&dry);
    assert!(
        dry.status.success() && words.contains("nothing is trained") && !Path::new(&out).exists(),
        "{words}"
    );
    let output = given(&[&run, &other, &made], &[]);
    assert!(output.status.success(), "{}", said(&output));
    let note = "other would prepare images differently from ";
    assert!(said(&output).contains(note), "{}", said(&output));

    let text = fs::read_to_string(scratch.path("out/results.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let figures = |arm: usize| &whole["arms"][arm]["runs"][0]["figures"];
    let named: Vec<&str> = (0..3).map(|arm| whole["arms"][arm]["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["run", "other", "reconstructions"]);
    assert_eq!(figures(0)["psnr_db"], figures(2)["psnr_db"], "its reconstructions in a folder");
    assert_eq!(whole["protocol"][0][0], "taken as they are");
    let protocol = whole["protocol"].to_string();
    assert!(protocol.contains("data.resize is 40 there and not set here"), "{protocol}");
    assert!(!protocol.contains("budget") && !protocol.contains("trained on"), "{protocol}");
    for (arm, tokens) in [(0, true), (1, true), (2, false)] {
        for half in ["encode", "decode"] {
            let speed = |end: &str| figures(arm)[format!("{half}_images{end}_per_sec")].as_f64();
            let ends = [speed("_least"), speed(""), speed("_greatest")];
            assert!(ends.iter().all(|value| value.is_some() == tokens) && ends.is_sorted(), "{arm} {ends:?}");
        }
    }

    // What is finished is not done again; what changed is.
    let before = results(&scratch, "out");
    let speeds = fs::read(scratch.path("out/speeds.json")).unwrap();
    let output = given(&[&run, &other, &made], &[]);
    assert_eq!(said(&output).matches("finished earlier").count(), 3, "{}", said(&output));
    assert_eq!(results(&scratch, "out"), before);
    assert!(fs::read(scratch.path("out/speeds.json")).unwrap() == speeds, "they were measured again");
    fs::copy(scratch.path("pictures/reconstructions/00.jpg.png"), scratch.path("copy.png")).unwrap();
    fs::copy(scratch.path("copy.png"), scratch.path("pictures/reconstructions/01.jpg.png")).unwrap();
    let output = given(&[&run, &other, &made], &[]);
    assert_eq!(said(&output).matches("finished earlier").count(), 2, "{}", said(&output));

    // Everything that is wrong is said at once, before anything runs.
    let small = Picture { width: 16, height: 24, rgb: vec![9; 3 * 16 * 24] }.to_png().unwrap();
    fs::write(scratch.path("pictures/reconstructions/02.jpg.png"), small).unwrap();
    fs::create_dir(scratch.path("few")).unwrap();
    fs::copy(scratch.path("val/00.jpg"), scratch.path("few/00.jpg")).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let output = given(&[&run, &made, &at("few")], more);
        let words = said(&output);
        assert_eq!(output.status.code(), Some(2), "{words}");
        let command = format!("`pixtok prepare {run} --out DIR`");
        for part in ["2 problems", "02.jpg.png with 16×24", &command, "images have no reconstruction in"] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
    let output = given(&[&run, &other], &["--seeds", "1"]);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("--seeds belongs"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_command_line_changes_a_sweep() {
    let scratch = Scratch::new();
    let path = sweep(&scratch, "sweep.toml", "base = \"tiny.toml\"\n[[arms]]\nname = \"fsq\"\n");
    let at = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    // The other way round: it would fail with the images of the base.
    let (val, train, out, device) = (at("train"), at("val"), at("out"), device());
    let changes = ["--data", &train, "--val-data", &val, "--seeds", "3", "--set", "train.steps=2"];
    let common = ["compare", &path, "--out", &out, "--threads", "1", "--devices", &device];
    let output = pixtok(&[&common[..], &changes, &["--set", "train.batch_size=3"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let results = results(&scratch, "out");
    let run = &results["arms"][0]["runs"][0];
    assert_eq!(
        (&run["seed"], &run["figures"]["images"], &run["figures"]["step"]),
        (&3.into(), &10.into(), &2.into())
    );
    let output = pixtok(&[&common[..], &["--protocol", &path]].concat());
    assert!(output.status.code() == Some(2) && said(&output).contains("--protocol is"), "{}", said(&output));
}

#[test]
fn mistakes_are_named_before_anything_is_trained() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("empty")).unwrap();
    fs::create_dir(scratch.path("few")).unwrap();
    fs::copy(scratch.path("val/00.jpg"), scratch.path("few/00.jpg")).unwrap();
    fs::write(scratch.path("no.toml"), "encoder = \"absent.pt\"\ndecoder = \"absent.pt\"\ncodebook_size = 9\ndownsample = 2\nimage_size = 32\n").unwrap();
    for (text, parts) in [
        ("[[arms]]\nname = \"a\"\nsets = {}\n", &["arms", "sets", "did you mean \"set\""][..]),
        ("[[arms]]\nname = \"a\"\n[[arms]]\nname = \"a\"\n", &["two arms are called \"a\""]),
        ("[[arms]]\nname = \"a\"\ncodebook_size = 1024\n", &["codebook_size is 1024", "1000 codes"]),
        ("[[arms]]\nname = \"a\"\npath = \"no.toml\"\n", &["arm \"a\"", "absent.pt does not exist"]),
        ("[[arms]]\nname = \"a\"\npath = \"empty\"\n", &["arm \"a\"", "empty"]),
        (
            "[[arms]]\nname = \"a\"\npath = \"few\"\n",
            &["arm \"a\"", "images have no reconstruction in", "for instance 01.jpg"],
        ),
        ("set.data.val = \"EMPTY\"\n[[arms]]\nname = \"a\"\n", &["no images in", "empty"]),
        ("set.train.batch_size = 11\n[[arms]]\nname = \"a\"\n", &["batch of 11", "10 of 10"]),
        (
            "set.data.train = \"EMPTY\"\nset.data.image_size = 8\nset.train.best_metric = \"ssim\"\n\
             [[arms]]\nname = \"a\"\n",
            &["arm \"a\"", "train.best_metric is ssim", "11 pixels"],
        ),
    ] {
        let path = sweep(
            &scratch,
            "sweep.toml",
            &format!("base = \"tiny.toml\"\n{text}")
                .replace("EMPTY", scratch.path("empty").to_str().unwrap()),
        );
        let output = compare(&scratch, &path, "out");
        let words = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}: {words}");
        assert!(parts.iter().all(|part| words.contains(part)), "{text}: {words}");
        assert!(!scratch.path("out").exists(), "{text}");
    }
    let path = sweep(&scratch, "sweep.toml", "base = \"tiny.toml\"\n[[arms]]\nname = \"a\"\n");
    let output = pixtok(&["compare", &path, "--dry-run", "--metrics", "psnr_db,ms_ssim"]);
    let words = said(&output);
    assert!(output.status.code() == Some(2) && words.contains("176 pixels a side"), "{words}");
    // A prefix that no arm has; one that only some have is measured for those.
    let residual = "set.quantizer={kind=\"residual\",stages=3,each={kind=\"fsq\",levels=[8,5]}}";
    let plain = "base = \"tiny.toml\"\n[[arms]]\nname = \"a\"\n";
    let both = format!("{plain}[[arms]]\nname = \"b\"\n{residual}\n");
    for (text, prefix, code, part) in [
        (plain, "1", 2, "--prefix 1: every arm decodes an image only from all of its tokens"),
        (&both[..], "2,4", 2, "--prefix 4: no arm has as many tokens or stages; give numbers from 1 to 3"),
        (&both[..], "1,3", 0, ""),
    ] {
        let path = sweep(&scratch, "sweep.toml", text);
        let output = pixtok(&["compare", &path, "--dry-run", "--prefix", prefix]);
        let words = said(&output);
        assert!(output.status.code() == Some(code) && words.contains(part), "{prefix}: {words}");
    }
}

/// Pictures of 32×32 pixels, each with its `noise` added.
fn noisy(folder: &Path, noise: [u8; 4]) {
    fs::create_dir(folder).unwrap();
    for (i, noise) in noise.into_iter().enumerate() {
        let value =
            |at: usize| ((at * 7 + 31 * i) % 200) as u8 + if at.is_multiple_of(2) { noise } else { 0 };
        let picture = Picture { width: 32, height: 32, rgb: (0..3 * 32 * 32).map(value).collect() };
        fs::write(folder.join(format!("{i}.png")), picture.to_png().unwrap()).unwrap();
    }
}

#[test]
fn a_broken_reconstruction_makes_no_arm_the_better_one() {
    let scratch = Scratch::new();
    noisy(&scratch.path("originals"), [0; 4]);
    for name in ["whole", "broken"] {
        noisy(&scratch.path(name), [3, 5, 40, 4]);
    }
    let worst = scratch.path("broken/2.png");
    let bytes = fs::read(&worst).unwrap();
    fs::write(&worst, &bytes[..bytes.len() / 2]).unwrap();
    let text = "base = \"tiny.toml\"\nset.data.val = \"ORIGINALS\"\nset.data.max_bad_fraction = 0.5\n\
        [[arms]]\nname = \"whole\"\npath = \"whole\"\n[[arms]]\nname = \"broken\"\npath = \"broken\"\n";
    let originals = scratch.path("originals");
    let path = sweep(&scratch, "sweep.toml", &text.replace("ORIGINALS", originals.to_str().unwrap()));
    let output = compare(&scratch, &path, "out");
    assert!(output.status.success(), "{}", said(&output));

    let results = results(&scratch, "out");
    let run = |arm: usize| &results["arms"][arm]["runs"][0];
    let shared =
        |arm: usize| (run(arm)["figures"]["psnr_db"].clone(), run(arm)["figures"]["psnr_db_low"].clone());
    assert_eq!(shared(0), shared(1));
    assert_eq!(results["arms"][0]["summary"]["psnr_db"], results["arms"][1]["summary"]["psnr_db"]);
    let images = |arm: usize| run(arm)["figures"]["images"].as_i64().unwrap();
    assert_eq!((images(0), images(1), &run(0)["figures"]["images_shared"]), (4, 3, &3.into()));
    assert_eq!(run(0)["left_out"].as_array().unwrap().len(), 0);
    assert_eq!(run(1)["left_out"][0]["name"], "2.png");
    assert_eq!(results["of_own_images"], serde_json::json!(["perfect_images"]));

    let written = |name: &str| fs::read_to_string(scratch.path("out").join(name)).unwrap();
    let markdown = written("results.md");
    assert!(markdown.contains("## Left out\n\n- broken: 2.png: its reconstruction: "), "{markdown}");
    assert!(markdown.contains("| perfect_images † |"), "{markdown}");
    assert!(markdown.contains(" dB, level with "), "{markdown}");
    let rows: Vec<&str> = markdown.lines().filter(|line| line.contains("| **")).collect();
    assert_eq!(rows.len() % 2, 0, "what is best in one arm is best in the other: {markdown}");
    // The cell of the difference to the best is "best" in the one and 0 in the other.
    let cells =
        |line: &str| line.split(" | ").filter(|cell| cell.starts_with("**")).collect::<Vec<_>>().join(" ");
    assert!(!rows.is_empty() && rows.chunks(2).all(|pair| cells(pair[0]) == cells(pair[1])), "{markdown}");
    assert!(written("results.csv").contains("2.png: its reconstruction: "), "{}", written("results.csv"));
    let page = written("report.html");
    assert!(page.contains("<li>broken: 2.png: its reconstruction: ") && page.contains("†"));
    assert_eq!(page.matches("alt=\"Original ").count(), 3 * 3, "the pictures that both have");
}

#[test]
fn the_repositorys_comparisons_resolve() {
    let scratch = Scratch::new();
    let folder = Path::new(common::ROOT).join("configs/compare");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 3);
    for file in files {
        let out = scratch.path("out");
        let output =
            pixtok(&["compare", file.to_str().unwrap(), "--dry-run", "--out", out.to_str().unwrap()]);
        assert!(output.status.success(), "{}: {}", file.display(), said(&output));
    }
}
