//! Published tokenizers after `scripts/import_weights.py`: the indices and images are the same as
//! the originals'. `tests/reference/imported.py` made the numbers and ran the script.
//! `PIXTOK_TEST_DEVICE` chooses the device (default `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "common/numbers.rs"]
mod numbers;

use std::fs;
use std::path::Path;

use common::{Scratch, pixtok, said};
use numbers::{Numbers, assert_close, device};
use pixtok::config::Config;
use pixtok::model::cnn::{PerStage, Variant};
use pixtok::model::{self, ImageSize, Tokenizer, size_of};
use pixtok::quantizer::QuantizerConfig;
use pixtok::variables::{Component, Variables};
use pixtok_torch::tensors::{self, Tensors};
use tch::Tensor;

fn quantizer(source: &str) -> QuantizerConfig {
    let distance = if source == "llamagen" { "cosine" } else { "euclidean" };
    toml::from_str(&format!(
        "kind = \"vq\"\ncodebook_size = 24\ncodebook_dim = 6\ndistance = \"{distance}\"\n\
         codebook_update = {{ kind = \"gradient\" }}"
    ))
    .unwrap()
}

fn network() -> model::cnn::Config {
    model::cnn::Config {
        channels: 32,
        multipliers: vec![1, 2],
        res_blocks: PerStage::All(1),
        decoder_res_blocks: Some(PerStage::All(2)),
        attention: vec![12],
        mid_attention: true,
        latent_channels: Some(10),
        variant: Variant::Vqgan,
        ..model::cnn::Config::default()
    }
}

#[test]
fn imported_tokenizers_are_the_originals() {
    let numbers = Numbers::read("imported");
    for source in ["taming", "llamagen"] {
        let get = |name: &str| numbers.get(&format!("{source}/{name}"));
        let store = Variables::new(device());
        let size = ImageSize { height: 24, width: 40 };
        let tokenizer = Tokenizer::new(&store, &network(), &quantizer(source), size).unwrap();
        let weights: Tensors = numbers.under("weights/").into_iter().collect();
        tensors::copy_into(&store.tensors(), &weights).unwrap();
        store.freeze(&Component::TOKENIZER);
        let images = get("images");
        let latents = tokenizer.latents(&images).unflatten(1, [12, 20]).permute([0, 3, 1, 2]);
        assert_close(&format!("{source}: latents"), &latents, &get("latents"), 1e-5);
        let indices = tokenizer.encode(&images).unwrap();
        assert_eq!(indices, get("indices"), "{source}: indices");
        assert_close(
            &format!("{source}: recon"),
            &tokenizer.decode(&indices, size_of(&images)),
            &get("recon"),
            1e-4,
        );
    }
}

#[test]
fn an_imported_folder_is_evaluated() {
    let numbers = Numbers::read("imported");
    let scratch = Scratch::new();
    let folder = scratch.path("model");
    fs::create_dir(&folder).unwrap();
    let weights: Tensors = numbers.under("weights/").into_iter().collect();
    tensors::write(&folder.join("model.safetensors"), &weights).unwrap();
    let mut config: toml::Table = toml::from_str("data = { image_size = [24, 40] }").unwrap();
    config.insert("model".into(), toml::Value::try_from(network()).unwrap());
    config.insert("quantizer".into(), toml::Value::try_from(quantizer("taming")).unwrap());
    fs::write(folder.join("config.toml"), config.to_string()).unwrap();
    let [model, images] = [&folder, &scratch.path("val")].map(|path| path.to_str().unwrap().to_owned());
    let output = pixtok(&[
        "eval",
        &model,
        "--data",
        &images,
        "--device",
        &common::device(),
        "--threads",
        "1",
        "--json",
        "-",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(figures["psnr_db"].as_f64().unwrap() > 0.0, "{figures}");
}

#[test]
fn a_run_says_its_groups_and_one_of_an_older_pixtok_is_refused() {
    let scratch = Scratch::new();
    let vqgan = ["model.variant=vqgan", "model.channels=32", "train.steps=1"];
    let args: Vec<&str> = vqgan.iter().flat_map(|set| ["--set", *set]).collect();
    scratch.train("run", &args);
    let [run, out] = [scratch.path("run"), scratch.path("out")];
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert_eq!(config.matches("\nnorm_groups = 32\n").count(), 1, "{config}");
    let exported =
        pixtok(&["export", run.to_str().unwrap(), "--out", out.to_str().unwrap(), "--threads", "1"]);
    assert!(exported.status.success(), "{}", said(&exported));

    // A model from an older pixtok, which gave 8 and 16 groups to 32 and 64 channels.
    let images = scratch.path("val");
    for folder in [&run, &out] {
        fs::write(folder.join("config.toml"), config.replace("norm_groups = 32\n", "")).unwrap();
        let [tokenizer, data] = [folder, &images].map(|path| path.to_str().unwrap());
        let refused = pixtok(&["eval", tokenizer, "--data", data, "--threads", "1"]);
        assert_eq!(refused.status.code(), Some(2));
        let said = said(&refused);
        assert!(said.contains("vqgan without model.norm_groups") && said.contains("older pixtok"), "{said}");
    }
    let started = scratch.try_train("other", &[&args[..], &["--init-from", run.to_str().unwrap()]].concat());
    assert!(said(&started).contains("older pixtok"), "{}", said(&started));
}

#[test]
fn presets_have_the_published_sizes() {
    let numbers = Numbers::read("imported");
    for (source, preset) in [("taming", "vq-taming"), ("llamagen", "vq-llamagen")] {
        let path = format!("{}/configs/imagenet256-f16-{preset}.toml", env!("CARGO_MANIFEST_DIR"));
        let (config, _) = Config::read(Path::new(&path), &[]).unwrap();
        config.check().unwrap();
        let store = Variables::new(tch::Device::Cpu);
        let _tokenizer =
            Tokenizer::new(&store, config.model.settings(), &config.quantizer, config.data.image_size)
                .unwrap();
        let variables = store.tensors();
        let networks = variables.iter().filter(|(name, _)| !name.starts_with("quantizer."));
        let parameters: usize = networks.map(|(_, tensor): (_, &Tensor)| tensor.numel()).sum();
        let published = numbers.get(&format!("{source}/parameters")).int64_value(&[0]);
        assert_eq!(parameters as i64, published, "{preset}");
    }
}
