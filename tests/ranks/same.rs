//! Several processes train as one does on the same batches.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use pixtok_images::picture::{DecodeOptions, read};

use super::common::{Scratch, photographs};
use super::resume::cursor;
use super::{apart, log, rows_with, train};

/// Crops of 64 pixels of enough photographs, in batches that 2 and 3 processes can divide.
const SETTINGS: [&str; 4] = [
    "--data=data/photos96/train",
    "--set=data.image_size=64",
    "--set=train.batch_size=12",
    "--set=train.steps=20",
];
/// The steps that must agree to rounding.
const FIRST: usize = 5;

/// Moving averages of the codes, which start by k-means, and restarts. With so few codes hardly an
/// index depends on rounding.
const VQ: &str = "quantizer={kind=\"vq\",codebook_size=32,codebook_dim=4,start=\"kmeans\",restart_threshold=1.0,\
    codebook_update={kind=\"ema\",decay=0.9}}";

const RESIDUAL: &str = "quantizer={kind=\"residual\",stages=2,each={kind=\"fsq\",levels=[8,5]}}";

/// A training on the pictures of [`write_aspects`].
pub(super) const BUCKETS: [&str; 3] =
    ["--set=data.buckets=[32,[24,44],[44,24]]", "--set=data.max_bad_fraction=0.5", "--set=train.steps=20"];
/// The only one of its bucket.
pub(super) const TALL: &str = "tall-12.png";
/// The length of a PNG's header.
pub(super) const HEADER: usize = 33;

/// Writes pictures of three aspects: seven squares, five that are wide, and one that is tall.
pub(super) fn write_aspects(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (number, photograph) in photographs("train").into_iter().take(13).enumerate() {
        let (name, width, height) = match number {
            0..7 => ("square", 48, 48),
            7..12 => ("wide", 66, 36),
            _ => ("tall", 36, 66),
        };
        let part = read(&photograph, &DecodeOptions::default()).unwrap().centre_crop(width, height);
        fs::write(folder.join(format!("{name}-{number:02}.png")), part.to_png().unwrap()).unwrap();
    }
}

/// Overwrites a file with zeros from byte `from` on.
pub(super) fn damage(path: &Path, from: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[from..].fill(0);
    fs::write(path, bytes).unwrap();
}

/// An adversary with the parts that depend on more than one image, and noise.
fn adversary(norm: &str) -> String {
    format!(
        "adversarial={{start=2,weighting={{kind=\"adaptive\"}},r1={{weight=0.1,every=2}},\
         lecam={{weight=0.01,decay=0.9}},augment=[\"color\",\"translation\",\"cutout\"],\
         discriminator={{kind=\"patch\",channels=4,layers=1,norm=\"{norm}\"}}}}"
    )
}

fn trained(scratch: &Scratch, size: u32, run: &str, args: &[&str]) {
    train(scratch, size, run, &[&SETTINGS[..], args].concat());
}

/// Asserts that two runs have the same losses up to rounding, at first, and still similar ones at
/// the end. One rounding may choose another code, from which on the runs are not the same.
///
/// Returns whether every step has the same codes.
fn assert_the_same(what: &str, one: &Path, several: &Path) -> bool {
    let [one, several] = [one, several].map(|run| rows_with(run, "loss/total"));
    assert_eq!((one.len(), several.len()), (20, 20), "{what}");
    let of_codes = |row: &BTreeMap<String, Value>| -> Vec<String> {
        row.keys().filter(|key| key.starts_with("codebook/")).cloned().collect()
    };
    let same_codes = |(a, b): &(&BTreeMap<String, Value>, &BTreeMap<String, Value>)| {
        of_codes(a).iter().all(|key| apart(key, a, b) < 1e-9)
    };
    let alike: Vec<_> = one.iter().zip(&several).take_while(same_codes).collect();
    // On some processor rounding may choose another code in the first step already.
    let first = apart("loss/total", &one[0], &several[0]);
    assert!(first <= 1e-3, "{what}: the first losses differ by {first:e}");
    let all_alike = alike.len() == one.len();
    for (a, b) in alike.into_iter().take(FIRST) {
        let keys = |row: &BTreeMap<String, Value>| -> Vec<String> {
            row.keys().filter(|key| *key != "speed/waiting_share").cloned().collect()
        };
        assert_eq!(keys(a), keys(b), "{what}");
        for key in a.keys().filter(|key| key.starts_with("loss/")) {
            let apart = match key.as_str() {
                // A mean of logits of both signs may be near 0.
                "loss/adversarial" => (a[key].as_f64().unwrap() - b[key].as_f64().unwrap()).abs(),
                _ => apart(key, a, b),
            };
            assert!(apart <= 1e-5, "{what}: {key} of step {} differs by {apart:e}: {a:?}, {b:?}", a["step"]);
        }
    }
    let (a, b) = (&one[19], &several[19]);
    let apart = apart("loss/total", a, b);
    assert!(apart <= 2e-2, "{what}: the last losses differ by {apart:e}: {a:?}, {b:?}");
    all_alike
}

/// Asserts the same of all figures of the evaluation, which processes share. `alike` is whether the
/// training had the same codes in every step.
fn assert_same_evaluation(what: &str, one: &Path, several: &Path, alike: bool) {
    let allowed = if alike { 1e-4 } else { 2e-2 };
    let [one, several] = [one, several].map(|run| rows_with(run, "val/psnr_db").swap_remove(0));
    assert_eq!(one.keys().collect::<Vec<_>>(), several.keys().collect::<Vec<_>>(), "{what}");
    for key in one.keys() {
        assert!(apart(key, &one, &several) < allowed, "{what}: {key}: {one:?}, {several:?}");
    }
}

#[test]
fn two_and_three_processes_train_fsq_as_one_does() {
    let scratch = Scratch::new();
    trained(&scratch, 1, "one", &[]);
    for (size, run, args) in
        [(2, "two", &[][..]), (3, "three", &[]), (2, "parts", &["--set=train.micro_batches=2"])]
    {
        trained(&scratch, size, run, args);
        let alike = assert_the_same(run, &scratch.path("one"), &scratch.path(run));
        // The three validation images are no multiple of two.
        assert_same_evaluation(run, &scratch.path("one"), &scratch.path(run), alike);
    }
    each_process_logs_its_speed(&scratch.path("two"));

    // Sums of two addends don't depend on their order, so here nothing rounds differently.
    trained(&scratch, 1, "in-parts", &["--set=train.micro_batches=2"]);
    let [two, in_parts] = ["two", "in-parts"]
        .map(|run| fs::read(scratch.path(run).join("step-000020/model.safetensors")).unwrap());
    assert!(two == in_parts, "two processes differ from one with two micro-batches");

    // Rounded gradients change the training a little.
    trained(&scratch, 2, "bf16", &["--set=train.gradients=bf16"]);
    let [exact, rounded] = ["two", "bf16"].map(|run| rows_with(&scratch.path(run), "loss/total"));
    let apart: Vec<f64> = exact.iter().zip(&rounded).map(|(a, b)| apart("loss/total", a, b)).collect();
    assert!(apart.iter().all(|apart| *apart < 1e-2), "{apart:?}");
    let [exact, rounded] =
        ["two", "bf16"].map(|run| fs::read(scratch.path(run).join("step-000020/model.safetensors")).unwrap());
    assert!(exact != rounded, "nothing was rounded");
}

/// What is drawn for single images depends on their places in the batch, not on their process.
#[test]
fn two_processes_draw_what_two_micro_batches_do() {
    const VIT: &str = "model={kind=\"vit\",patch=8,width=32,depth=2,heads=2DEPTH}";
    const ONE_D: &str = "model={kind=\"one-d\",patch=8,width=32,depth=1,heads=2,latent_tokens=7TAIL}";
    const STAGES: &str = "quantizer={kind=\"residual\",stages=3TAIL,each={kind=\"fsq\",levels=[8,5]}}";
    let scratch = Scratch::new();
    let (some, all) = (",tail_drop={keep_full=0.3}", ",tail_drop={keep_full=1.0}");
    for (name, setting, place, drawn, nothing) in [
        ("vit", VIT, "DEPTH", ",stochastic_depth=0.5", ""),
        ("one-d", ONE_D, "TAIL", some, all),
        ("stages", STAGES, "TAIL", some, all),
    ] {
        let weights = |size: u32, what: &str, drawn: &str, more: &[&str]| {
            let (run, setting) = (format!("{name}-{what}"), setting.replace(place, drawn));
            let args = [&["--set", &setting, "--set=train.steps=6"][..], more].concat();
            trained(&scratch, size, &run, &args);
            fs::read(scratch.path(&run).join("step-000006/model.safetensors")).unwrap()
        };
        let two = weights(2, "two", drawn, &[]);
        let in_parts = weights(1, "in-parts", drawn, &["--set=train.micro_batches=2"]);
        assert!(two == in_parts, "{name}: two processes differ from one with two micro-batches");
        assert!(two != weights(2, "plain", nothing, &[]), "{name}: nothing was drawn");
    }
}

/// Each process has a log of its own, and the run's log has the speed of all together.
fn each_process_logs_its_speed(run: &Path) {
    let own = [0, 1].map(|process| log(&run.join(format!("processes/{process}.jsonl"))));
    let together = rows_with(run, "loss/total");
    assert_eq!((own[0].len(), own[1].len()), (together.len(), together.len()));
    for (i, row) in together.iter().enumerate() {
        let of = |key: &str| own.each_ref().map(|rows| rows[i][key].as_f64().unwrap());
        assert!(own.iter().all(|rows| rows[i]["step"] == row["step"]));
        let [sum, speed] =
            [of("speed/images_per_sec").iter().sum(), row["speed/images_per_sec"].as_f64().unwrap()];
        assert!((speed / sum - 1.0).abs() < 1e-6, "{speed} images/s, and {sum} in the processes");
        assert!(of("speed/waiting_share").iter().all(|share| (0.0..=1.0).contains(share)));
        assert!((0.0..=1.0).contains(&row["speed/waiting_share"].as_f64().unwrap()));
    }
}

#[test]
fn two_processes_train_in_buckets_as_one_does() {
    let scratch = Scratch::new();
    let (folder, val) = (scratch.path("aspects"), scratch.path("val"));
    write_aspects(&folder);
    // So images of another bucket are cut to its size.
    damage(&folder.join(TALL), HEADER);
    let data = ["--data", folder.to_str().unwrap(), "--val-data", val.to_str().unwrap()];
    for (size, run, parts) in [(2, "two", 1), (1, "in-parts", 2)] {
        let parts = format!("--set=train.micro_batches={parts}");
        train(&scratch, size, run, &[&data[..], &BUCKETS, &[&parts]].concat());
        let bad = fs::read_to_string(scratch.path(run).join("bad_samples.jsonl")).unwrap();
        assert!(bad.lines().count() == 1 && bad.contains(TALL), "{run}: {bad}");
    }
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [two, in_parts] = ["two", "in-parts"]
            .map(|run| fs::read(scratch.path(run).join("step-000020").join(name)).unwrap());
        assert!(two == in_parts, "{name} of two processes differs from that of one with two micro-batches");
    }
    assert_eq!(cursor(&scratch.path("two"), 20), cursor(&scratch.path("in-parts"), 20));
}

#[test]
fn two_processes_train_codebooks_as_one_does() {
    let scratch = Scratch::new();
    for (name, quantizer) in [("vq", VQ), ("residual", RESIDUAL)] {
        let [one, two] = ["one", "two"].map(|run| format!("{name}-{run}"));
        trained(&scratch, 1, &one, &["--set", quantizer]);
        trained(&scratch, 2, &two, &["--set", quantizer]);
        assert_the_same(name, &scratch.path(&one), &scratch.path(&two));
    }
}

#[test]
fn two_processes_train_against_an_adversary_as_one_does() {
    let scratch = Scratch::new();
    for norm in ["batch", "group", "actnorm"] {
        let [one, two] = ["one", "two"].map(|run| format!("{norm}-{run}"));
        trained(&scratch, 1, &one, &["--set", &adversary(norm)]);
        trained(&scratch, 2, &two, &["--set", &adversary(norm)]);
        assert_the_same(norm, &scratch.path(&one), &scratch.path(&two));
        let last = rows_with(&scratch.path(&two), "loss/r1");
        for key in ["loss/discriminator", "loss/lecam", "adversarial/weight"] {
            assert!(last[0].contains_key(key), "{key}: {last:?}");
        }
    }
}
