//! Bit for bit: two runs with one seed are the same, and a resumed run is the same as one that
//! never stopped.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{
    ADVERSARY, GROUPS, NOISY, SIMVQ, STYLEGAN, Scratch, VQ, VQ_GRADIENT, copy_run, device, photographs, said,
    tables,
};
use pixtok::checkpoint::{RunFolder, RunWriter};

/// A transformer that leaves out branches at random.
const VIT: &str = "model={kind=\"vit\",patch=4,width=32,depth=2,heads=2,registers=1,stochastic_depth=0.3}";
/// A transformer to tokens in a sequence, of which some images train on the first ones.
const ONE_D: &str = "model={kind=\"one-d\",patch=4,width=32,depth=1,heads=2,latent_tokens=7,\
    tail_drop={keep_full=0.3}}";
/// Stages, of which some images train on the first ones.
const STAGES: &str = "quantizer={kind=\"residual\",stages=3,tail_drop={keep_full=0.3},\
    each={kind=\"fsq\",levels=[8,5]}}";

const STEPS: u64 = 12;
/// Ten images in batches of four: an epoch ends after every second step.
const RESUMED_AT: [u64; 4] = [1, 7, 8, 11];
const FILES: [&str; 4] = ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"];
/// The file that only adversarial runs have.
const COMPANIONS: &str = "companions.safetensors";

/// A checkpoint at every step, an evaluation in between, and a weight average.
const FULL: [&str; 6] = [
    "--set=train.checkpoint_every=1",
    "--set=train.keep_checkpoints=100",
    "--set=train.eval_every=5",
    "--set=train.ema_decay=0.9",
    "--set=train.micro_batches=2",
    "--set=data.workers=2",
];

fn files_at_the_end(run: &Path) -> Vec<Vec<u8>> {
    let folder = run.join(format!("step-{STEPS:06}"));
    let companions = fs::read(folder.join(COMPANIONS)).ok();
    FILES.iter().map(|name| fs::read(folder.join(name)).unwrap()).chain(companions).collect()
}

/// The rows of a log without the speeds, which differ between runs.
fn rows(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line| {
        let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().remove("speed/images_per_sec");
        row
    };
    text.lines().map(row).collect()
}

#[test]
fn repeated_and_resumed_runs_are_identical() {
    let both = &["fp32", "bf16"][..];
    for (name, setting, precisions) in [
        ("fsq", None, both),
        ("vq", Some(VQ), both),
        ("vq by gradient", Some(VQ_GRADIENT), both),
        ("groups of residuals", Some(GROUPS), &["bf16"]),
        ("residual fsq with noise", Some(NOISY), &["bf16"]),
        ("simvq", Some(SIMVQ), &["bf16"]),
        ("vit", Some(VIT), &["bf16"]),
        ("one-d", Some(ONE_D), &["bf16"]),
        ("first stages", Some(STAGES), &["bf16"]),
        ("fsq by muon", Some("optimizer.muon={}"), &["bf16"]),
        ("fsq with an adversary from step 7", Some(ADVERSARY), both),
        ("fsq with a stylegan from step 7", Some(STYLEGAN), &["bf16"]),
    ] {
        for precision in precisions {
            let scratch = Scratch::new();
            let precision = format!("train.precision={precision}");
            let mut args: Vec<&str> = FULL.to_vec();
            args.extend(["--set", &precision]);
            if device() == "cuda" {
                args.push("--set=train.deterministic=true");
            }
            args.extend(setting.iter().flat_map(|setting| ["--set", setting]));
            scratch.train("whole", &args);
            let whole = files_at_the_end(&scratch.path("whole"));
            // A different number of decoding threads must not matter.
            let again: Vec<&str> = args.iter().copied().chain(["--set", "data.workers=1"]).collect();
            scratch.train("again", &again);
            assert!(whole == files_at_the_end(&scratch.path("again")), "{name} {precision}: two runs differ");
            for step in RESUMED_AT {
                let copy = format!("resumed-{step}");
                copy_run(&scratch.path("whole"), &scratch.path(&copy), step);
                scratch.resume(&copy, &[]);
                let what = format!("{name} {precision} resumed at step {step}");
                assert!(
                    whole == files_at_the_end(&scratch.path(&copy)),
                    "{what}: tensors or counters differ"
                );
                assert_eq!(
                    rows(&scratch.path("whole")),
                    rows(&scratch.path(&copy)),
                    "{what}: the logs differ"
                );
            }
        }
    }
}

/// What a block keeps for the backward pass changes no bit. A resumed run may change it.
#[test]
fn runs_whose_blocks_are_computed_again_are_identical() {
    let single = ["--set=model.mid_attention=true"];
    let again = ["--set=model.checkpoint_blocks=true"];
    let pair = [
        "--set=model={kind=\"pair\",encoder={channels=8,multipliers=[1,2,2]},decoder={kind=\"vit\",patch=4,width=16,\
         depth=2,heads=2}}",
    ];
    let both = ["--set=model.encoder.checkpoint_blocks=true", "--set=model.decoder.checkpoint_blocks=true"];
    for (precision, model, again) in
        [("fp32", &single, &again[..]), ("bf16", &single, &again[..]), ("fp32", &pair, &both[..])]
    {
        let scratch = Scratch::new();
        let precision = format!("--set=train.precision={precision}");
        let more = [precision.as_str(), "--set", ADVERSARY];
        let mut args = [&FULL[..], &model[..], &more].concat();
        if device() == "cuda" {
            args.push("--set=train.deterministic=true");
        }
        scratch.train("whole", &args);
        scratch.train("again", &[&args[..], again].concat());
        copy_run(&scratch.path("whole"), &scratch.path("resumed"), 7);
        scratch.resume("resumed", again);
        let whole = files_at_the_end(&scratch.path("whole"));
        for run in ["again", "resumed"] {
            assert!(whole == files_at_the_end(&scratch.path(run)), "{precision} {run}");
            assert_eq!(rows(&scratch.path("whole")), rows(&scratch.path(run)), "{precision} {run}");
        }
    }
}

/// Parquet pages are shuffled and cached, and a resumed run must reproduce that.
#[test]
fn runs_on_parquet_resume_exactly() {
    let scratch = Scratch::new();
    let photographs = photographs("train");
    for (name, rows) in [("train-00000-of-00002", 0..7), ("train-00001-of-00002", 7..10), ("test", 10..12)] {
        let rows: Vec<_> = photographs[rows].iter().map(|path| (path.clone(), "x")).collect();
        tables::write(&scratch.path("set/data").join(name).with_extension("parquet"), &rows);
    }
    let set = scratch.path("set");
    let picked = ["--data", set.to_str().unwrap(), "--split", "train", "--val-split", "test"];
    let cached = ["--set=data.cache_gib=0.001"];
    let args: Vec<&str> = FULL.iter().copied().chain(picked).collect();
    scratch.train("whole", &args);
    let whole = files_at_the_end(&scratch.path("whole"));
    for (step, more) in [(1, &[][..]), (7, &["--set=data.workers=1"])] {
        let copy = format!("resumed-{step}");
        copy_run(&scratch.path("whole"), &scratch.path(&copy), step);
        scratch.resume(&copy, more);
        assert!(whole == files_at_the_end(&scratch.path(&copy)), "resumed at step {step}");
    }
    scratch.train("cached", &[&args[..], &cached].concat());
    let output = scratch.try_train("neither", &[&picked[..2], &["--set=train.steps=1"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("several splits of a data set: test, train"), "{}", said(&output));
}

#[test]
fn weights_alone_do_not_resume_a_run() {
    let scratch = Scratch::new();
    scratch.train("whole", &FULL);
    copy_run(&scratch.path("whole"), &scratch.path("weights"), 7);
    {
        // The checkpoint of step 7 with its weights, but without its moments.
        let run = RunWriter::resume(&scratch.path("weights")).unwrap();
        let snapshot = RunFolder::open(&scratch.path("weights")).unwrap().load(7).unwrap().snapshot;
        for tensor in snapshot.optimizer.values() {
            let _ = tensor.shallow_clone().zero_();
        }
        run.save(7, &snapshot).unwrap();
    }
    scratch.resume("weights", &[]);
    let model = |run: &str| files_at_the_end(&scratch.path(run)).swap_remove(0);
    assert!(model("whole") != model("weights"), "the moments made no difference");
}

#[test]
fn another_seed_is_another_run() {
    let scratch = Scratch::new();
    scratch.train("zero", &["--set=train.steps=2"]);
    scratch.train("one", &["--set=train.steps=2", "--set=seed=1"]);
    let model = |run: &str| fs::read(scratch.path(run).join("step-000002/model.safetensors")).unwrap();
    assert!(model("zero") != model("one"));
}
