//! `pixtok export` and `pixtok codebook`: the files hold the tokenizer, and pixtok can read them.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "common/torchscript.rs"]
mod torchscript;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{GROUPS, SIMVQ, Scratch, VQ, device, pixtok, said};
use pixtok::config::Config;
use pixtok::model::{Tokenizer, size_of};
use pixtok::variables::{Component, Variables};
use pixtok_torch::tensors;
use serde_json::{Map, Value, json};
use tch::{CModule, Device, Kind, Tensor};

const FILES: [&str; 6] =
    ["README.md", "config.json", "config.toml", "decoder.pt", "encoder.pt", "model.safetensors"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(verb: &str, tokenizer: &Path, args: &[&str]) -> Output {
    let device = device();
    pixtok(&[&[verb, text(tokenizer), "--threads", "1", "--device", &device], args].concat())
}

fn done(output: &Output) -> String {
    let words = said(output);
    assert!(output.status.success(), "{words}");
    words
}

fn refused(output: &Output, parts: &[&str]) {
    let words = said(output);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(parts.iter().all(|part| words.contains(part)), "{parts:?}: {words}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn json_of(path: &Path) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Opens the tokenizer of a model folder through the library.
fn open(folder: &Path) -> (Variables, Tokenizer) {
    let (config, _) = Config::read(&folder.join("config.toml"), &[]).unwrap();
    let store = Variables::new(Device::Cpu);
    let tokenizer =
        Tokenizer::new(&store, config.model.settings(), &config.quantizer, config.data.image_size).unwrap();
    let weights = tensors::from_bytes(&fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
    tensors::copy_into(&store.tensors(), &weights).unwrap();
    store.freeze(&Component::TOKENIZER);
    (store, tokenizer)
}

#[test]
fn an_exported_tokenizer_is_the_runs_and_opens_as_one() {
    let scratch = Scratch::new();
    for (name, quantizer) in [("fsq", "seed=0"), ("vq", VQ), ("groups", GROUPS)] {
        let (source, out) = (scratch.path(name), scratch.path(&format!("{name}-exported")));
        scratch.train(name, &["--set", quantizer, "--set=model.mid_attention=true"]);
        let words = done(&run("export", &source, &["--out", text(&out)]));
        assert!(FILES.iter().all(|file| words.contains(file)) && words.contains("license"), "{words}");
        assert_eq!(names(&out), FILES, "{name}");

        let weights = fs::read(out.join("model.safetensors")).unwrap();
        assert_eq!(weights, fs::read(source.join("step-000012/model.safetensors")).unwrap(), "{name}");
        assert_eq!(
            fs::read_to_string(out.join("config.toml")).unwrap(),
            fs::read_to_string(source.join("config.toml")).unwrap()
        );
        let described = json_of(&out.join("config.json"));
        assert_eq!(described["weights_blake3"], blake3::hash(&weights).to_hex().as_str());
        assert_eq!(described["image_size"], json!([32, 32]));
        assert_eq!((&described["downsample"], &described["step"]), (&json!(2), &json!(12)));

        let figures = |folder: &Path| -> Map<String, Value> {
            serde_json::from_slice(&run("eval", folder, &["--json", "-"]).stdout).unwrap()
        };
        let (own, exported) = (figures(&source), figures(&out));
        for figure in ["psnr_db", "ssim", "usage", "entropy_bits", "codebook_size"] {
            assert_eq!(own[figure], exported[figure], "{name}: {figure}");
        }
        let pictures = scratch.path("pictures");
        let photograph = scratch.path("val/01.jpg");
        done(&run("reconstruct", &out, &[text(&photograph), "--out", text(&pictures)]));

        // The pair on a different number and size of images.
        for file in ["encoder.pt", "decoder.pt"] {
            torchscript::assert_loads_anywhere(&out.join(file));
        }
        let (_store, tokenizer) = open(&out);
        let images = Tensor::rand([3, 3, 12, 20], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        let module = |file: &str| CModule::load(out.join(file)).unwrap();
        let indices = module("encoder.pt").forward_ts(&[&images]).unwrap();
        assert_eq!(indices, tokenizer.encode(&images).unwrap(), "{name}");
        let off = module("decoder.pt").forward_ts(&[&indices]).unwrap()
            - tokenizer.decode(&indices, size_of(&images));
        assert!(off.abs().max().double_value(&[]) < 1e-5, "{name}");

        // It raises no error for an index without a code, as the card says; the card has a check.
        let last = described["codebook_size"].as_i64().unwrap() - 1;
        let images_of = |index: i64| module("decoder.pt").forward_ts(&[indices.full_like(index)]).unwrap();
        assert_eq!((images_of(-1), images_of(last + 1)), (images_of(0), images_of(last)), "{name}");
        let card = fs::read_to_string(out.join("README.md")).unwrap();
        for part in [
            format!("beyond {last} code {last}."),
            format!("assert 0 <= indices.min() and indices.max() <= {last}\n"),
        ] {
            assert!(card.contains(&part), "{part}: {card}");
        }

        // Exporting the export gives the same files, except for the card, which has no run to
        // describe.
        let again = scratch.path(&format!("{name}-again"));
        done(&run("export", &out, &["--out", text(&again)]));
        assert_eq!(fs::read(again.join("model.safetensors")).unwrap(), weights);
        assert!(fs::read_to_string(again.join("README.md")).unwrap().contains("did not measure"));
    }
}

#[test]
fn the_description_and_the_card_are_filled_from_the_run() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.ema_decay=0.5", "--set=model.latent_channels=6"]);
    let (source, raw, ema) = (scratch.path("run"), scratch.path("raw"), scratch.path("ema"));
    done(&run("export", &source, &["--out", text(&raw)]));
    // Into an existing, empty folder.
    fs::create_dir(&ema).unwrap();
    done(&run("export", &source, &["--weights", "ema", "--out", text(&ema)]));
    assert_eq!(
        fs::read(ema.join("model.safetensors")).unwrap(),
        fs::read(source.join("step-000012/ema.safetensors")).unwrap()
    );
    let described = json_of(&raw.join("config.json"));
    for (key, value) in [
        ("model_type", json!("pixtok")),
        ("codebooks", json!(1)),
        ("codebook_size", json!(1000)),
        ("codebook_dim", json!(4)),
        ("weights", json!("raw")),
        (
            "quantizer",
            json!({ "kind": "fsq", "levels": [8, 5, 5, 5], "bound": "tanh", "noise_probability": 0.0 }),
        ),
    ] {
        assert_eq!(described[key], value, "{key}");
    }
    assert!((described["bits_per_token"].as_f64().unwrap() - 1000f64.log2()).abs() < 1e-12);
    let model = &described["model"];
    assert_eq!((&model["strides"], &model["latent_channels"]), (&json!([2]), &json!(6)));
    assert_eq!((&model["decoder_res_blocks"], &model["multipliers"]), (&json!(1), &json!([1, 2])));
    assert_eq!(model["stem"], json!({ "channels": 8, "norm_groups": 2 }));
    assert_eq!(
        model["stages"][1],
        json!({ "channels": 16, "norm_groups": 4, "attention": false, "stride": 1 })
    );
    assert_eq!(described["preprocessing"]["filter"], "lanczos");
    assert_eq!(described["preprocessing"]["normalisation"], "x / 127.5 - 1");

    // The figures of each are those that the run logged.
    let log = fs::read_to_string(source.join("metrics.jsonl")).unwrap();
    let mut rows = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let row = rows.rfind(|row| row["val/psnr_db"].is_number()).unwrap();
    for (folder, key) in [(&raw, "val/psnr_db"), (&ema, "val_ema/psnr_db")] {
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        let front = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().0;
        assert!(front.contains("license: unknown") && front.contains("library_name: pixtok"), "{front}");
        assert!(front.contains("\n- fsq\n"), "{front}");
        let value = format!("| psnr_db | {:.2} | higher |", row[key].as_f64().unwrap());
        for part in [&value, "torch.jit.load", "pixtok_reader", "levels = [8, 5, 5, 5]", "for 12 of 12 steps"]
        {
            assert!(card.contains(part), "{part}: {card}");
        }
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_half() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let (source, out) = (scratch.path("run"), scratch.path("out"));
    let export = |args: &[&str]| run("export", &source, &[&["--out", text(&out)], args].concat());
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine"), "mine").unwrap();
    refused(&export(&[]), &["not empty", "give a new folder"]);
    assert_eq!(names(&out), ["mine"]);
    fs::remove_dir_all(&out).unwrap();
    refused(&export(&["--precision", "bf16"]), &["--precision is bf16", "float32"]);
    refused(&export(&["--checkpoint", "step-7"]), &["no checkpoint"]);
    refused(&run("export", &scratch.path("absent"), &["--out", text(&out)]), &["absent", "not a run folder"]);
    refused(&run("export", &source, &[]), &["--out"]);

    // Weights that are NaN.
    let model = scratch.path("model");
    fs::create_dir(&model).unwrap();
    fs::copy(source.join("config.toml"), model.join("config.toml")).unwrap();
    let saved = fs::read(source.join("step-000012/model.safetensors")).unwrap();
    let mut weights = tensors::from_bytes(&saved).unwrap();
    let _ = weights.get_mut("decoder.head.bias").unwrap().fill_(f64::NAN);
    tensors::write(&model.join("model.safetensors"), &weights).unwrap();
    let failed = run("export", &model, &["--out", text(&out)]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(&failed).contains("not finite"), "{}", said(&failed));
    let left = names(&scratch.path("")).into_iter().filter(|name| name.contains("out"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_codebook_is_written_for_numpy_and_as_safetensors() {
    let scratch = Scratch::new();
    for (name, quantizer, shape) in [
        ("fsq", "seed=0", vec![1000, 4]),
        ("vq", VQ, vec![64, 4]),
        ("simvq", SIMVQ, vec![64, 4]),
        ("groups", GROUPS, vec![4, 16, 2]),
    ] {
        let source = scratch.path(name);
        scratch.train(name, &["--set", quantizer, "--set=train.steps=2"]);
        let file = |ending: &str| scratch.path(&format!("{name}.{ending}"));
        let write = |file: &PathBuf| done(&run("codebook", &source, &["--out", text(file)]));
        let words = write(&file("safetensors"));
        assert!(words.contains("codes of") && words.contains("step 2"), "{words}");
        write(&file("npy"));
        let table = &tensors::from_bytes(&fs::read(file("safetensors")).unwrap()).unwrap()["codebook"];
        assert_eq!((table.size(), table.kind()), (shape.clone(), Kind::Float), "{name}");
        // The same bytes after NumPy's header.
        let npy = fs::read(file("npy")).unwrap();
        let mut bytes = vec![0; table.numel() * 4];
        table.copy_data_u8(&mut bytes, table.numel());
        let sizes = shape.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let header = String::from_utf8_lossy(&npy[10..128]).into_owned();
        assert!(npy.starts_with(b"\x93NUMPY\x01\x00") && header.contains(&format!("({sizes})")), "{header}");
        assert_eq!(npy[128..], bytes, "{name}");

        // The rows are the codes of the indices.
        let model = scratch.path(&format!("{name}-model"));
        fs::create_dir(&model).unwrap();
        fs::copy(source.join("config.toml"), model.join("config.toml")).unwrap();
        fs::copy(source.join("step-000002/model.safetensors"), model.join("model.safetensors")).unwrap();
        let (store, tokenizer) = open(&model);
        if shape.len() == 2 {
            let all = Tensor::arange(shape[0], (Kind::Int64, Device::Cpu)).view([1, -1]);
            let rows = tokenizer.quantizer.lookup(&all).squeeze_dim(0);
            assert_eq!(rows, *table, "{name}");
        } else {
            let first = &store.tensors()["quantizer.groups.0.stages.0.codebook"];
            assert_eq!(table.get(0), *first, "{name}");
        }
    }
    let source = scratch.path("fsq");
    let codebook = |args: &[&str]| run("codebook", &source, args);
    refused(&codebook(&["--out", "codes.csv"]), &["codes.csv", ".safetensors or .npy"]);
    refused(&codebook(&["--out", "codes.npy", "--precision", "bf16"]), &["--precision is bf16"]);
}
