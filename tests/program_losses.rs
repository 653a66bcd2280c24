//! `pixtok train` with losses of networks, adversaries and frozen components: what is refused
//! before the training, and what is written.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/weights.rs"]
mod weights;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{ADVERSARY, Scratch, device, pixtok, said};
use numbers::Numbers;

/// The last row of a log that has a training loss.
fn last_row(scratch: &Scratch, run: &str) -> serde_json::Value {
    let text = fs::read_to_string(scratch.path(run).join("metrics.jsonl")).unwrap();
    let mut rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.rfind(|row| row.get("loss/total").is_some()).unwrap()
}

/// The message of a training that must be refused with exit code 2 and leave nothing behind.
fn refused(scratch: &Scratch, args: &[&str]) -> String {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = format!("refused-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let output = scratch.try_train(&run, args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
    assert!(!scratch.path(&run).exists(), "{args:?} has left a run folder");
    said(&output)
}

fn assert_words(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in: {message}");
    }
}

#[test]
fn a_network_loss_wants_its_weights() {
    let scratch = Scratch::new();
    let lpips = ["--set=loss.lpips=0.5", "--set=loss.network=alex", "--set=train.steps=2"];
    let message = refused(&scratch, &lpips);
    assert_words(
        &message,
        &["loss.lpips", "lpips-alex.safetensors", "--lpips-weights", "convert_weights.py", "loss.lpips = 0"],
    );

    // A dry run works without them.
    let output = scratch.try_train("dry", &[&lpips[..], &["--dry-run"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert_words(&said(&output), &["the loss's network: none here", "lpips-alex.safetensors"]);
    let nonsense = ["--dry-run", "--lpips-weights", "README.md"];
    let output = scratch.try_train("dry", &[&lpips[..], &nonsense].concat());
    assert_words(&said(&output), &["the loss's network: none here", "README.md"]);

    let file = scratch.path("alex.safetensors");
    weights::write(&Numbers::read("nets"), "alex", &file);
    let file = file.to_str().unwrap();
    let message = refused(&scratch, &["--set=loss.lpips=0.5", "--lpips-weights", file]);
    assert_words(&message, &["AlexNet", "VGG16", "loss.network"]);
    let message = refused(&scratch, &["--lpips-weights", file]);
    assert_words(&message, &["--lpips-weights", "no term of [loss] needs weights"]);
    let message = refused(
        &scratch,
        &["--set=loss.lpips=0.5", "--lpips-weights", scratch.path("tiny.toml").to_str().unwrap()],
    );
    assert_words(&message, &["tiny.toml", "an incomplete or invalid safetensors file"]);

    let given = [&lpips[..], &["--set=loss.features=0.1", "--lpips-weights", file]].concat();
    scratch.train("run", &given);
    let row = last_row(&scratch, "run");
    for name in ["loss/lpips", "loss/features", "loss/mse", "loss/recon", "share/lpips"] {
        assert!(row[name].as_f64().unwrap() > 0.0, "{name}: {row}");
    }
    // With different weights it would not be the same run.
    let other = scratch.path("other.safetensors");
    let mut tensors = pixtok_torch::tensors::from_bytes(&fs::read(file).unwrap()).unwrap();
    for tensor in tensors.values_mut() {
        *tensor = &*tensor * 0.5;
    }
    pixtok_torch::tensors::write(&other, &tensors).unwrap();
    let longer = "--set=train.steps=4";
    let output = scratch.try_resume("run", &[longer, "--lpips-weights", other.to_str().unwrap()]);
    assert!(!output.status.success());
    assert_words(&said(&output), &["other weights", "--lpips-weights"]);
    // The run remembers the path of its weights.
    scratch.resume("run", &[longer]);
}

#[test]
fn a_comparison_gives_losses_their_weights() {
    let scratch = Scratch::new();
    let sweep = scratch.path("sweep.toml");
    let text = "base = \"tiny.toml\"\nset = { train.steps = 2 }\n\
        [[arms]]\nname = \"pixels\"\n[[arms]]\nname = \"lpips\"\nset = { loss = { lpips = 0.5, network = \"alex\" } }\n";
    fs::write(&sweep, text).unwrap();
    let out = scratch.path("out");
    let compare = |more: &[&str]| {
        let args = ["compare", sweep.to_str().unwrap(), "--out", out.to_str().unwrap(), "--threads", "1"];
        pixtok(&[&args[..], &["--devices", &device(), "--jobs", "1"], more].concat())
    };
    let output = compare(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert_words(&said(&output), &["loss.lpips", "lpips-alex.safetensors", "--lpips-weights"]);
    assert!(!out.exists());

    let file = scratch.path("alex.safetensors");
    weights::write(&Numbers::read("nets"), "alex", &file);
    let output = compare(&["--metrics", "psnr_db", "--lpips-weights", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(out.join("arms/lpips/seed-0/metrics.jsonl").exists());
}

#[test]
fn an_adversary_that_does_not_fit_is_refused() {
    let scratch = Scratch::new();
    let message = refused(&scratch, &["--set=adversarial={discriminator={kind=\"patch\",layers=6}}"]);
    assert_words(&message, &["adversarial.discriminator.layers is 6", "32 pixels", "3 or less"]);
    let message = refused(&scratch, &["--set=adversarial={wieght=1}"]);
    assert_words(&message, &["adversarial.wieght", "weight"]);
    let adaptive = "adversarial={weighting={kind=\"adaptive\"}}";
    let message = refused(&scratch, &["--set", adaptive, "--set=train.freeze=[\"decoder\"]"]);
    assert_words(&message, &["adversarial.weighting", "decoder"]);
}

#[test]
fn both_sides_of_an_adversarial_run_are_logged() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set", ADVERSARY]);
    let row = last_row(&scratch, "run");
    for name in [
        "loss/adversarial",
        "loss/discriminator",
        "loss/lecam",
        "loss/r1",
        "share/adversarial",
        "adversarial/weight",
        "discriminator/accuracy",
        "discriminator/logits_real",
        "discriminator/logits_fake",
        "optim/lr_discriminator",
        "optim/grad_norm",
        "optim/grad_norm_discriminator",
    ] {
        assert!(row[name].is_number(), "{name}: {row}");
    }
    let text = fs::read_to_string(scratch.path("run/metrics.jsonl")).unwrap();
    let before: Vec<&str> = text.lines().filter(|line| line.contains("\"step\":7,")).collect();
    assert!(!before.is_empty() && before.iter().all(|line| !line.contains("discriminator")), "{before:?}");
    // A model holds only the tokenizer.
    let model = fs::read(scratch.path("run/step-000012/model.safetensors")).unwrap();
    let names: Vec<String> = pixtok_torch::tensors::from_bytes(&model).unwrap().into_keys().collect();
    assert!(names.iter().all(|name| !name.contains("discriminator")), "{names:?}");
}

#[test]
fn frozen_parts_come_from_another_run() {
    let scratch = Scratch::new();
    let frozen = "train.freeze=[\"encoder\",\"quantizer\"]";
    let message = refused(&scratch, &["--set", frozen]);
    assert_words(&message, &["train.freeze", "--init-from"]);
    let message = refused(&scratch, &["--set=train.freeze=[\"encoder\",\"quantizer\",\"decoder\"]"]);
    assert_words(&message, &["train.freeze", "nothing is left to train"]);
    scratch.train("old", &["--set=train.steps=2"]);
    let old = scratch.path("old");
    let from = ["--init-from", old.to_str().unwrap(), "--set", frozen];
    let message = refused(&scratch, &[&from[..], &["--set=quantizer.levels=[8,6,5]"]].concat());
    assert_words(&message, &["which were trained with other settings", "quantizer.levels"]);
    let message = refused(&scratch, &[&from[..], &["--dry-run", "--set=quantizer.levels=[8,6,5]"]].concat());
    assert_words(&message, &["which were trained with other settings", "quantizer.levels"]);
    let message = refused(&scratch, &[&from[..], &["--set=model.norm_groups=1"]].concat());
    assert_words(&message, &["which were trained with other settings", "model.norm_groups"]);
    let photographs = scratch.path("train");
    let message = refused(&scratch, &["--init-from", photographs.to_str().unwrap()]);
    assert_words(&message, &["neither a run folder nor a model folder"]);
    let encoder = [
        "--init-from",
        old.to_str().unwrap(),
        "--set=train.freeze=[\"encoder\"]",
        "--set=model.multipliers=[1,1]",
    ];
    let output = scratch.try_train("refused", &encoder);
    assert!(!output.status.success());
    assert!(!scratch.path("refused").exists());
    assert_words(&said(&output), &["which were trained with other settings", "model.multipliers"]);
    // Here the shapes agree.
    let quantizer = ["--init-from", old.to_str().unwrap(), "--set=train.freeze=[\"quantizer\"]"];
    let message = refused(&scratch, &[&quantizer[..], &["--set=quantizer.bound=\"sigmoid\""]].concat());
    assert_words(&message, &["which were trained with other settings", "quantizer.bound"]);
    let message = refused(
        &scratch,
        &["--init-from", old.to_str().unwrap(), "--set=train.freeze=[\"encoder\",\"decoder\"]"],
    );
    assert_words(&message, &["train.freeze", "nothing is left to train"]);
}

#[test]
fn a_pair_keeps_the_encoder_of_another_network() {
    let scratch = Scratch::new();
    scratch.train("old", &["--set=train.steps=2"]);
    let old = scratch.path("old");
    let frozen = "--set=train.freeze=[\"encoder\",\"quantizer\"]";
    let from = ["--init-from", old.to_str().unwrap(), frozen, "--set=train.steps=2"];
    let text = fs::read_to_string(old.join("config.toml")).unwrap();
    let model = text.parse::<toml::Table>().unwrap()["model"].clone();
    let of = |table: &toml::Value| {
        let keys = table.as_table().unwrap().iter().map(|(key, value)| format!("{key} = {value}"));
        keys.collect::<Vec<_>>().join(", ")
    };
    let (mut other, mut decoder) = (model.clone(), model.clone());
    other.as_table_mut().unwrap().insert("mid_attention".into(), true.into());
    decoder.as_table_mut().unwrap().insert("res_blocks".into(), 2.into());
    let pair = |encoder: &toml::Value| {
        format!("--set=model={{kind=\"pair\",encoder={{{}}},decoder={{{}}}}}", of(encoder), of(&decoder))
    };
    let message = refused(&scratch, &[&from[..], &[pair(&other).as_str()]].concat());
    assert_words(&message, &["which were trained with other settings", "model.encoder.mid_attention"]);

    scratch.train("pair", &[&from[..], &[pair(&model).as_str()]].concat());
    let weights = |run: &str| {
        let file = fs::read(scratch.path(run).join("step-000002/model.safetensors")).unwrap();
        pixtok_torch::tensors::from_bytes(&file).unwrap()
    };
    let (before, after) = (weights("old"), weights("pair"));
    let kept: Vec<&String> = before.keys().filter(|name| name.starts_with("encoder.")).collect();
    assert!(kept.len() > 10 && kept.iter().all(|name| before[*name] == after[*name]), "{kept:?}");
    assert!(after.keys().any(|name| name.starts_with("decoder.stage0.res1.")), "{:?}", after.keys());
    scratch.resume("pair", &["--set=train.steps=3"]);
}
