//! The convolutional networks agree with transcriptions of Open-MAGVIT2's, of Cosmos' image
//! tokenizers' and of Show-o's: latents, tokens, images and gradients. `tests/reference/magvit2.py`
//! and `haar.py` made the numbers and tried `scripts/import_weights.py`; both sides compute the
//! weights by one formula. `PIXTOK_TEST_DEVICE` chooses the device (default `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/weights.rs"]
mod weights;

use std::path::Path;

use numbers::{Numbers, assert_close, device, leaf};
use pixtok::config::Config;
use pixtok::model::cnn::{self, Haar, PerStage, Variant};
use pixtok::model::{ImageSize, Settings, Tokenizer, magvit2};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::variables::{Component, Variables};
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use pixtok_torch::tensors::{self, Tensors};
use tch::{Kind, Tensor};
use weights::uniform;

/// The allowed difference, as a share of the largest value.
const ALLOWED: f64 = 1e-5;

/// `probe` of `formula.py`: in −1..1.
fn probe(name: &str, shape: &[i64]) -> Tensor {
    (uniform(name, shape) * 2.0 - 1.0).to_kind(Kind::Float).to_device(device())
}

/// `weight` of `formula.py`.
fn weight(name: &str, shape: &[i64]) -> Tensor {
    let u = uniform(name, shape);
    let value = if shape.len() > 1 {
        let fan_in: i64 = shape[1..].iter().product();
        (u * 2.0 - 1.0) * (3.0 / fan_in as f64).sqrt()
    } else if name.ends_with("weight") {
        u * 0.5 + 0.75
    } else {
        u * 0.2 - 0.1
    };
    value.to_kind(Kind::Float)
}

fn quantizer(text: &str) -> QuantizerConfig {
    toml::from_str(text).unwrap()
}

/// Asserts that a network with the formula's weights makes what the transcription makes.
fn assert_agrees(
    numbers: &Numbers,
    case: &str,
    network: &dyn Settings,
    quantizer: &QuantizerConfig,
    batch: i64,
    size: ImageSize,
) {
    let store = Variables::new(device());
    let tokenizer = Tokenizer::new(&store, network, quantizer, size).unwrap();
    let variables = store.tensors();
    let filled: Tensors =
        variables.iter().map(|(name, own)| (name.clone(), weight(name, &own.size()))).collect();
    tensors::copy_into(&variables, &filled).unwrap();
    let get = |name: &str| numbers.get(&format!("{case}/{name}"));
    let own_probe = |name: &str, shape: &[i64]| probe(&format!("{case}/{name}"), shape);
    let agrees = |name: &str, ours: &Tensor| {
        assert_close(&format!("{case}: {name}"), &ours.detach(), &get(name), ALLOWED);
    };

    let images = leaf(&own_probe("images", &[batch, 3, i64::from(size.height), i64::from(size.width)]));
    let indices = no_grad(|| {
        agrees("latents", &tokenizer.latents(&images));
        tokenizer.encode(&images).unwrap()
    });
    assert_eq!(indices, get("indices"), "{case}: indices");
    agrees("recon", &no_grad(|| tokenizer.decode(&indices, size)));

    // As a training computes it.
    let latents = tokenizer.forward(&images, Mode::train(Seed(1))).unwrap().latents;
    agrees("latents", &latents);
    let shape = latents.size();
    (latents * own_probe("probe/encoder", &shape)).sum(Kind::Float).backward();
    agrees("grad/encoder/images", &images.grad());
    let z = leaf(&(own_probe("z", &shape) * 2.0));
    let decoded = tokenizer.reconstruct(&z, tokenizer.shape(size).unwrap(), size, Mode::train(Seed(1)));
    let towards = own_probe("probe/decoder", &decoded.size());
    (decoded * towards).sum(Kind::Float).backward();
    agrees("grad/decoder/z", &z.grad());

    for (name, variable) in &variables {
        let half = name.split('.').next().unwrap();
        let gradient = match &variable.size()[..] {
            [_] => variable.grad(),
            [_, others @ ..] => {
                let columns: i64 = others.iter().product();
                variable.grad().flatten(1, -1).mv(&probe(&format!("probe/{name}"), &[columns]))
            }
            [] => panic!("{name} has no axis"),
        };
        let name = format!("grad/{half}/{name}");
        // Of some cases the variables' are not stored.
        if numbers.find(&format!("{case}/{name}")).is_some() {
            agrees(&name, &gradient);
        }
    }
    let stored = numbers.under(&format!("{case}/grad/")).len();
    assert!(stored == 2 || stored == 2 + variables.len(), "{case}: {stored} gradients are stored");
}

#[test]
fn magvit2_is_open_magvit2s_network() {
    let numbers = Numbers::read("magvit2");
    let lfq = quantizer("kind = \"lfq\"\nbits = 6");
    let size = ImageSize { height: 20, width: 28 };
    for checkpoint_blocks in [false, true] {
        let network = magvit2::Config {
            channels: 64,
            multipliers: vec![1, 2, 1],
            res_blocks: 1,
            checkpoint_blocks,
            ..magvit2::Config::default()
        };
        assert_agrees(&numbers, "magvit2", &network, &lfq, 2, size);
    }
}

#[test]
fn the_preset_has_the_published_size() {
    let path = format!("{}/configs/imagenet256-f16-magvit2-lfq.toml", env!("CARGO_MANIFEST_DIR"));
    let (config, _) = Config::read(Path::new(&path), &[]).unwrap();
    config.check().unwrap();
    let store = Variables::new(tch::Device::Cpu);
    let _tokenizer =
        Tokenizer::new(&store, config.model.settings(), &config.quantizer, config.data.image_size).unwrap();
    let published = Numbers::read("magvit2").get("magvit2/parameters").int64_value(&[0]);
    assert_eq!(store.parameters(&Component::TOKENIZER), published);
}

#[test]
fn the_haar_transform_is_cosmos() {
    let numbers = Numbers::read("haar");
    for levels in [1, 2] {
        let haar = Haar::new(levels, device());
        let bands = [2, 3 << (2 * levels), 8 >> levels, 12 >> levels];
        for (name, given) in [
            ("forward", probe("transform/images", &[2, 3, 8, 12])),
            ("inverse", probe("transform/bands", &bands)),
        ] {
            let x = leaf(&given);
            let y = if name == "forward" { haar.forward(&x) } else { haar.inverse(&x) };
            let theirs = |key: &str| numbers.get(&format!("transform/{levels}/{key}"));
            assert_close(name, &y.detach(), &theirs(name), ALLOWED);
            let towards = probe(&format!("transform/{name}"), &y.size());
            (y * towards).sum(Kind::Float).backward();
            assert_close(name, &x.grad(), &theirs(&format!("grad/{name}")), ALLOWED);
        }
    }
}

#[test]
fn cosmos_image_tokenizers_are_the_published_variant_behind_the_transform() {
    let numbers = Numbers::read("haar");
    let fsq = quantizer("kind = \"fsq\"\nlevels = [8, 5, 5]");
    let published = |haar_levels, strides: &[i64], decoder_strides: Option<&[i64]>| cnn::Config {
        haar_levels,
        channels: 64,
        multipliers: vec![1, 1, 2],
        strides: Some(strides.to_vec()),
        decoder_strides: decoder_strides.map(<[i64]>::to_vec),
        res_blocks: PerStage::All(1),
        decoder_res_blocks: Some(PerStage::All(2)),
        mid_attention: true,
        latent_channels: Some(10),
        variant: Variant::Vqgan,
        ..cnn::Config::default()
    };
    for (case, network, height, width) in [
        ("di16x16", published(2, &[2, 2], None), 32, 48),
        // The encoder reduces after the finest stage, the decoder enlarges after the coarsest.
        ("di8x8", published(2, &[2, 1], Some(&[1, 2])), 24, 40),
        ("360p", published(1, &[2, 2, 2], None), 32, 48),
    ] {
        assert_agrees(&numbers, case, &network, &fsq, 1, ImageSize { height, width });
    }
}

#[test]
fn showos_tokenizer_is_the_published_variant_with_blocks_per_stage() {
    let network = cnn::Config {
        channels: 64,
        multipliers: vec![1, 2, 2],
        decoder_multipliers: Some(vec![1, 1, 2]),
        res_blocks: PerStage::Each(vec![2, 1, 1]),
        decoder_res_blocks: Some(PerStage::Each(vec![1, 2, 1])),
        mid_attention: true,
        latent_channels: Some(5),
        variant: Variant::Vqgan,
        ..cnn::Config::default()
    };
    let size = ImageSize { height: 16, width: 28 };
    let lfq = quantizer("kind = \"lfq\"\nbits = 5");
    assert_agrees(&Numbers::read("haar"), "showo", &network, &lfq, 1, size);
}
