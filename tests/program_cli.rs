//! What a user meets at the command line: bad input and failures each end in one clear sentence
//! with advice and the right exit code, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use common::program::{checkpoints, ended, refused, train_limited, with_bad_images};
use common::{ROOT, Scratch, device, pixtok, said};

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
        ("absent.toml", &["cannot read the config", "absent.toml", "it does not exist"]),
        ("train", &["train is a folder, not a config", "a TOML file"]),
    ] {
        refused(&pixtok(&["train", scratch.path(config).to_str().unwrap()]), 2, parts);
    }
}

#[test]
fn a_training_begins_with_four_lines_and_a_dry_run_with_the_same() {
    let scratch = Scratch::new();
    fs::write(scratch.path("train/film.mov"), "not an image").unwrap();
    let heads = ["run folder  ", "images      ", "tokenizer   ", "computing   "];
    let four = |text: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<String> = text.lines().take(4).map(str::to_owned).collect();
        for (line, head) in lines.iter().zip(heads) {
            assert!(line.starts_with(head), "{text}");
        }
        lines
    };
    let dry = four(scratch.try_train("run", &["--dry-run", "--set=train.steps=2"]).stdout);
    let trained = four(scratch.try_train("run", &["--set=train.steps=2"]).stderr);
    assert_eq!(dry, trained);
    assert!(trained[0].contains("run (new), 2 steps"), "{trained:?}");
    let train = scratch.path("train");
    let images = format!("10 for training in {}, 3 held out for validation in ", train.display());
    assert!(trained[1].contains(&images), "{trained:?}");
    assert!(trained[1].ends_with("; 1 passed over (1 for the ending)"), "{trained:?}");
    let tokens = "fsq, 1000 codes of dimension 4, 16x16 tokens for an image of 32x32 pixels, ";
    assert!(trained[2].contains(tokens), "{trained:?}");
    assert!(trained[3].contains("1 thread, in fp32; evaluates on 3 images every 100 steps"), "{trained:?}");
    let resumed = four(scratch.try_resume("run", &["--set=train.steps=3"]).stderr);
    assert!(resumed[0].contains("run (resumed), 3 steps"), "{resumed:?}");
}

#[test]
fn a_run_folder_is_no_config_and_names_the_command_that_goes_on() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    let run = scratch.path("run");
    let command = format!("pixtok train --resume {}", run.display());
    refused(&pixtok(&["train", run.to_str().unwrap()]), 2, &["is a run folder", &command]);
    refused(&scratch.try_train("run", &[]), 2, &["already holds a run", &command]);
}

#[test]
fn shipped_configs_work_by_name_from_any_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let pixtok = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtok"));
        command.args(args).current_dir(elsewhere.path()).env_remove("PIXTOK_WEIGHTS").output().unwrap()
    };
    let dry = ["--dry-run", "--device", "cpu"];
    let train = |name: &str, args: &[&str]| pixtok(&[&["train", name], &dry[..], args].concat());
    let photographs = format!("1040 for training in {ROOT}/data/photos96/train");
    let parts = ["run folder  checkpoints/quickstart-fsq (new)", &photographs];
    ended(&train("quickstart-fsq", &[]), 0, &parts);
    refused(&train("quikstart-fsq", &[]), 2, &["did you mean \"quickstart-fsq\"?", "`pixtok configs`"]);
    refused(&train("yardstick", &[]), 2, &["pixtok compare yardstick"]);
    // The user's own path stays relative to where the command runs.
    let own = "--set=data.train=data/photos96/train";
    ended(
        &train("quickstart-fsq", &[own]),
        0,
        &["images      none here", "does not exist in the current folder"],
    );
    ended(&pixtok(&["configs"]), 0, &["quickstart-fsq ", "pixtok compare NAME", ROOT]);
    let printed = pixtok(&["configs", "quickstart-fsq"]);
    ended(&printed, 0, &["[quantizer]"]);
    refused(&pixtok(&["configs", "quickstart-fqs"]), 2, &["did you mean \"quickstart-fsq\"?"]);
    refused(&train("configs/quickstart-fsq.toml", &[]), 2, &["is given as quickstart-fsq"]);
    // What lies there with that name comes first.
    fs::create_dir(elsewhere.path().join("quickstart-vq")).unwrap();
    let own = format!("{ROOT}/configs/quickstart-vq.toml");
    refused(&train("quickstart-vq", &[]), 2, &["quickstart-vq is a folder, not a config", &own]);
    let text = String::from_utf8(printed.stdout).unwrap().replace("steps = 800", "steps = 801");
    fs::write(elsewhere.path().join("quickstart-fsq"), text).unwrap();
    ended(&train("quickstart-fsq", &[]), 0, &["801 steps", "images      none here"]);
}

#[test]
fn all_images_are_read_before_a_training_that_asks_for_it() {
    let scratch = Scratch::new();
    let folder = with_bad_images(&scratch, "mixed", 8);
    let val = scratch.path("val");
    let args = ["--data", &folder, "--val-data", val.to_str().unwrap(), "--check-data"];
    let lax = [&args[..], &["--set=data.max_bad_fraction=0.2", "--set=train.steps=1"]].concat();
    let bad = format!("cannot be used: {folder}/cut.jpg: the JPEG is cut short");
    let counts = "checked 13 images: 2 cannot be used (2 of 10 for training, 0 of 3 for validation)";
    ended(&scratch.try_train("run", &lax), 0, &[&bad, counts, "leaves them out", "trained: "]);
    let strict = scratch.try_train("strict", &args);
    ended(&strict, 6, &[&bad, counts, "error: 2 of 10 images"]);
    assert!(!scratch.path("strict/config.toml").exists(), "no training began");
    let only = [&lax[..], &["--dry-run"]].concat();
    ended(&scratch.try_train("none", &only), 6, &[&bad, counts, "memory      about "]);
    assert!(!scratch.path("none").exists());
    let fine = scratch.try_train("none", &["--check-data", "--dry-run"]);
    ended(&fine, 0, &["checked 13 images: all can be used"]);
}

#[test]
fn a_dry_run_refuses_what_a_training_would() {
    let scratch = Scratch::new();
    for kind in [&["--dry-run"][..], &[]] {
        let args = [&["--set=eval.samples=[\"nowhere.png\"]"], kind].concat();
        let words = ["nowhere.png is not among the 3 images that are evaluated", "eval.samples"];
        refused(&scratch.try_train("none", &args), 2, &words);
    }
    assert!(!scratch.path("none").exists());
    // Another folder may be given when it begins.
    fs::create_dir(scratch.path("there")).unwrap();
    fs::write(scratch.path("there/config.toml"), "").unwrap();
    fs::write(scratch.path("there/metrics.jsonl"), "").unwrap();
    let there = scratch.try_train("there", &["--dry-run"]);
    ended(&there, 0, &["there already holds a run", "memory      about "]);
}

#[test]
fn a_dry_run_says_everything_that_would_be_used() {
    let scratch = Scratch::new();
    let dry_run = |set: &str| said(&scratch.try_train("run", &["--dry-run", "--print-config", "--set", set]));
    let words = dry_run("quantizer={kind=\"ibq\",codebook_size=512}");
    // 4 images of 16×16 positions, 512 codes, 4 bytes.
    assert!(words.contains("N×K tables of the quantizer 2.00 MiB"), "{words}");
    assert!(dry_run("quantizer={kind=\"fsq\"}").contains("bound = \"tanh\""));
    assert!(dry_run("quantizer={kind=\"fsq\",bound=\"sigmoid\"}").contains("slope = 1.0"));
    assert!(dry_run("quantizer={kind=\"vq\"}").contains("commitment_weight = 0.25"));
    let words = dry_run("quantizer={kind=\"residual\",stages=2,each={kind=\"vq\",codebook_size=32}}");
    assert!(words.contains("commitment_weight = 0.25"), "{words}");
    assert!(words.contains("2 of 32 codes of dimension 8, 16x16 tokens"), "{words}");
    assert!(words.contains("10.000 bits per token"), "{words}");
    // The whole output is a config, with the description as a comment.
    let output = scratch.try_train("run", &["--dry-run", "--print-config", "--set=train.steps=7"]);
    let config: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    assert_eq!(config["train"]["steps"].as_integer(), Some(7));
    ended(&scratch.try_train("run", &["--print-config"]), 2, &["--dry-run"]);
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

#[test]
fn why_a_path_leads_nowhere_is_said() {
    let scratch = Scratch::new();
    symlink("/nowhere/at/all", scratch.path("link")).unwrap();
    let link = scratch.path("link").to_str().unwrap().to_owned();
    let leads = "is a link to /nowhere/at/all, which does not exist";
    refused(&scratch.try_train("link", &["--set=train.steps=1"]), 1, &[leads, "another --run"]);
    refused(&scratch.try_resume("link", &[]), 2, &["is not a run folder", leads]);
    refused(&pixtok(&["eval", &link]), 2, &[leads, "a run folder"]);
    for (set, part) in [
        (
            "data.train=~/pictures",
            "~/pictures does not exist, since only a shell replaces ~ by the home folder",
        ),
        ("data.val=~/pictures", "write the folder itself"),
        ("data.train=gone/pictures", &format!("does not exist in the current folder, {ROOT}")),
        (&format!("data.train={link}"), leads),
    ] {
        refused(&scratch.try_train("run", &["--set", set]), 2, &[part, "--data or data.train"]);
    }
}

#[test]
fn which_images_validate_is_said() {
    let scratch = Scratch::new();
    let (other, own) = (scratch.path("other"), scratch.path("val"));
    fs::create_dir(&other).unwrap();
    for i in 0..10 {
        let name = format!("{i:02}.jpg");
        fs::copy(scratch.path("train").join(&name), other.join(format!("other-{name}"))).unwrap();
    }
    let (other, own) = (other.to_str().unwrap(), own.to_str().unwrap());
    let set = format!("--set=data.train={other}");
    let dry_run = |args: &[&str]| said(&scratch.try_train("run", &[args, &["--dry-run"]].concat()));
    let words = dry_run(&[&set]);
    assert!(
        words.contains(&format!("validation images: {own}, as in the config; to choose others")),
        "{words}"
    );
    let words = dry_run(&["--data", other, "--set=data.val_share=0.4"]);
    let dropped =
        format!("validation images: a share of 0.4 of {other}; those of the config, {own}, are not used");
    assert!(words.contains(&dropped), "{words}");
    let val = format!("--set=data.val={own}");
    // Settings from the command line stay, also with --data.
    let words = dry_run(&["--data", other, &val]);
    assert!(words.contains(&format!("10 for training in {other}, 3 held out")), "{words}");
    for named in [&["--data", other, "--val-data", own][..], &["--data", other, &val], &[&set, &val], &[]] {
        let words = dry_run(named);
        assert!(!words.contains("validation images: "), "{words}");
    }
    let missing = scratch.try_train("run", &["--data", "/nowhere"]);
    refused(&missing, 2, &["/nowhere does not exist; give a folder of images"]);
    assert!(!said(&missing).contains("validation images: "), "the error stands by itself");
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
    // This is known only at the first evaluation; what was trained until then is kept.
    refused(&scratch.try_train("val-bad", &["--val-data", &bad]), 6, &parts);
    assert_eq!(checkpoints(&scratch.path("val-bad")), ["step-000012"]);
    // Once the images are fixed, a resume catches up.
    let mended = ["--val-data", good.to_str().unwrap()];
    ended(&scratch.try_resume("val-bad", &mended), 0, &["step 12: val psnr_db"]);
    for run in ["train-bad", "val-bad"] {
        let listed = fs::read_to_string(scratch.path(run).join("bad_samples.jsonl")).unwrap();
        assert_eq!(listed.lines().count(), 2, "{run}: {listed}");
    }
}

#[test]
fn memory_exhausted_says_what_to_lower() {
    let scratch = Scratch::new();
    // A limit that these sizes exceed at once, so that the machine's memory is never really filled.
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
fn a_loss_that_is_no_number_stops_before_the_step() {
    let scratch = Scratch::new();
    let sets = ["--set=optimizer.lr=1e30", "--set=optimizer.clip_norm=0", "--set=train.checkpoint_every=1"];
    let output = scratch.try_train("run", &sets);
    refused(
        &output,
        5,
        &["step 2", "NaN", ".jpg", "lower optimizer.lr", "--restart --set optimizer.lr=0.001"],
    );
    // The weights that caused it are useless.
    assert!(checkpoints(&scratch.path("run")).is_empty());
    assert!(scratch.path("run/damaged-step-000001").exists());
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
    let output = scratch.try_train("run", &["--dry-run", "--print-config", "--set=quantizer.kind=vq"]);
    ended(&output, 0, &["dropped quantizer.levels", "kind = \"vq\"", "codebook_size = 1024"]);
    let vq = "configs/photos96-vq.toml";
    let fsq = "--set=quantizer.kind=fsq";
    let output = pixtok(&["train", vq, "--dry-run", "--print-config", "--device", "cpu", fsq]);
    ended(&output, 0, &["dropped quantizer.codebook_dim", "kind = \"fsq\"", "levels = [8, 5, 5, 5]"]);
}

#[test]
fn checkpoints_and_weights_are_chosen_by_name() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=2", "--set=train.checkpoint_every=1"]);
    let (run, device) = (scratch.path("run"), device());
    let eval = |args: &[&str]| {
        pixtok(&[&["eval", run.to_str().unwrap(), "--threads", "1", "--device", &device], args].concat())
    };
    for (name, step) in
        [("last", "step 2"), ("best", "step 2"), ("step-1", "step 1"), ("step-000001", "step 1")]
    {
        ended(&eval(&["--checkpoint", name]), 0, &[step, "psnr_db", "usage"]);
    }
    let chosen = "chosen as the best of its run by psnr_db on these very images";
    ended(&eval(&["--checkpoint", "best"]), 0, &[chosen]);
    let elsewhere = scratch.path("train");
    for args in
        [&["--checkpoint", "last"][..], &["--checkpoint", "best", "--data", elsewhere.to_str().unwrap()]]
    {
        let words = said(&eval(args));
        assert!(!words.contains(chosen), "{args:?}: {words}");
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
fn a_best_metric_that_no_evaluation_has_is_refused_before_the_data_are_opened() {
    let scratch = Scratch::new();
    let small = ["--set=data.image_size=8", "--set=train.best_metric=ssim"];
    for args in [&["--set=data.train=absent"][..], &["--dry-run"]] {
        let output = scratch.try_train("run", &[&small[..], args].concat());
        refused(&output, 2, &["train.best_metric is ssim", "11 pixels", "data.image_size is 8", "psnr_db"]);
    }
    // A run that already has the metric goes on with a warning. It can switch to a different
    // metric, but not back to this one.
    scratch.train("run", &["--set=data.image_size=8", "--set=train.steps=2"]);
    let config = scratch.path("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let output = scratch.try_resume("run", &["--set=train.best_metric=ssim", "--set=train.steps=3"]);
    refused(&output, 2, &["train.best_metric is ssim"]);
    fs::write(&config, text.replace("best_metric = \"psnr_db\"", "best_metric = \"ssim\"")).unwrap();
    ended(
        &scratch.try_resume("run", &["--set=train.steps=3"]),
        0,
        &["warning: train.best_metric is ssim", "--set train.best_metric=psnr_db"],
    );
    let words = said(&scratch.try_resume("run", &["--set=train.best_metric=l1", "--set=train.steps=4"]));
    assert!(!words.contains("warning: train.best_metric"), "{words}");
}

#[test]
fn a_device_that_is_not_there() {
    let scratch = Scratch::new();
    let config = scratch.path("tiny.toml");
    let train = |device: &str| pixtok(&["train", config.to_str().unwrap(), "--dry-run", "--device", device]);
    ended(&train("gpu"), 2, &["\"gpu\"", "cpu, cuda, cuda:N or auto"]);
    refused(&train("cuda:99"), 2, &["CUDA", "--device cpu"]);
    if !pixtok_torch::cuda_devices().is_ok_and(|count| count > 0) {
        refused(&train("cuda"), 2, &["CUDA", "--device cpu"]);
        refused(&pixtok(&["doctor", "--device", "cuda"]), 2, &["CUDA", "--device cpu"]);
    }
}

#[test]
fn every_config_resolves_and_every_verb_explains_itself() {
    let entries = fs::read_dir(Path::new(ROOT).join("configs")).unwrap().map(|entry| entry.unwrap().path());
    for config in entries.filter(|path| path.is_file()) {
        let output = pixtok(&["train", config.to_str().unwrap(), "--dry-run", "--device", "cpu"]);
        let parts =
            [" parameters", " tokens for an image of ", "bits per token", "images  ", "memory      about "];
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
    // The command that a comparison starts for itself is hidden from users.
    assert!(!said(&pixtok(&["--help"])).contains("one job of a comparison"));
    refused(&pixtok(&["work"]), 2, &["standard input", "pixtok compare", "pixtok train"]);
}
