//! TiTok's encoder and decoder in both layouts, after `scripts/import_weights.py`: values and
//! gradients agree with stored numbers of a transcription, which `tests/reference/titok.py` made.
//! `PIXTOK_TEST_DEVICE` chooses the device (default `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;

use std::path::Path;

use numbers::{Numbers, assert_close, device, leaf};
use pixtok::config::Config;
use pixtok::model::one_d::{self, Layout, PixelDecoder, Size};
use pixtok::model::{ImageSize, Settings, TokenShape, Tokenizer, size_of};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::variables::{Component, Variables};
use pixtok_torch::no_grad;
use pixtok_torch::tensors::{self, Tensors};
use tch::{Device, Kind, Tensor};

/// Of values and of gradients: both sides start from the same float32 numbers, and the stored ones
/// were computed in float64.
const TOLERANCE: f64 = 1e-5;

/// The small network of a layout, and the name of its distance.
fn network(layout: &str) -> (one_d::Config, &'static str) {
    let config = one_d::Config {
        width: Some(12),
        depth: Some(1),
        latent_tokens: 7,
        latent_channels: Some(5),
        ..one_d::Config::default()
    };
    if layout == "vq8k" {
        let sizes = one_d::Config {
            heads: Some(3),
            decoder_width: Some(16),
            decoder_heads: Some(2),
            patch: 4,
            ..config
        };
        return (sizes, "euclidean");
    }
    let pixels = PixelDecoder {
        codes: 20,
        code_dim: 6,
        channels: 8,
        multipliers: vec![1, 2],
        res_blocks: 1,
        norm_groups: 4,
    };
    let sizes = one_d::Config {
        layout: Layout::Legacy,
        heads: Some(2),
        decoder_width: Some(8),
        decoder_depth: Some(2),
        patch: 2,
        pixel_decoder: Some(pixels),
        ..config
    };
    (sizes, "cosine")
}

fn quantizer(size: i64, dim: i64, distance: &str) -> QuantizerConfig {
    toml::from_str(&format!(
        "kind = \"vq\"\ncodebook_size = {size}\ncodebook_dim = {dim}\ndistance = \"{distance}\"\n\
         codebook_update = {{ kind = \"gradient\" }}"
    ))
    .unwrap()
}

/// The imported tokenizer of a layout.
fn imported(numbers: &Numbers, layout: &str, checkpoint_blocks: bool) -> (Variables, Tokenizer) {
    let (network, distance) = network(layout);
    let network = one_d::Config { checkpoint_blocks, ..network };
    let size = size_of(&numbers.get(&format!("{layout}/images")));
    let store = Variables::new(device());
    let tokenizer = Tokenizer::new(&store, &network, &quantizer(24, 5, distance), size).unwrap();
    let weights: Tensors = numbers.under(&format!("{layout}/weights/")).into_iter().collect();
    tensors::copy_into(&store.tensors(), &weights).unwrap();
    (store, tokenizer)
}

#[test]
fn both_layouts_are_the_originals_with_their_gradients() {
    let numbers = Numbers::read("titok");
    for layout in ["vq8k", "legacy"] {
        for checkpoint_blocks in [false, true] {
            let (store, tokenizer) = imported(&numbers, layout, checkpoint_blocks);
            let get = |name: &str| numbers.get(&format!("{layout}/{name}"));
            let close = |name: &str, ours: &Tensor| {
                let what = format!("{layout}, checkpoint_blocks {checkpoint_blocks}: {name}");
                assert_close(&what, ours, &get(name), TOLERANCE);
            };
            let (images, z_q) = (leaf(&get("images")), leaf(&get("z_q")));
            let size = size_of(&images);
            let shape = tokenizer.shape(size).unwrap();
            assert_eq!(shape, TokenShape::Sequence { n: 7 });
            let latents = tokenizer.latents(&images);
            let recon = tokenizer.reconstruct(&z_q, shape, size, Mode::Eval);
            close("latents", &latents.detach());
            close("recon", &recon.detach());
            let total =
                (&latents * get("g_latents")).sum(Kind::Float) + (&recon * get("g_recon")).sum(Kind::Float);
            total.backward();
            close("grad/images", &images.grad());
            close("grad/z_q", &z_q.grad());
            let mut compared = 0;
            for (name, tensor) in store.tensors() {
                if !name.starts_with("quantizer.") {
                    close(&format!("grad/{name}"), &tensor.grad());
                    compared += 1;
                }
            }
            assert_eq!(compared + 2, numbers.under(&format!("{layout}/grad/")).len());

            let (indices, recon) = no_grad(|| {
                let indices = tokenizer.encode(&images).unwrap();
                (indices.shallow_clone(), tokenizer.decode(&indices, size))
            });
            assert_eq!(indices, get("indices"), "{layout}");
            close("recon", &recon);
        }
    }
}

/// Counts of the published models, by the transcription: without the quantizer's codes.
#[test]
fn published_sizes_have_the_published_parameters() {
    let numbers = Numbers::read("titok");
    let s128 = one_d::Config {
        layout: Layout::Legacy,
        size: Some(Size::S),
        latent_tokens: 128,
        ..one_d::Config::default()
    };
    let bl64 = one_d::Config {
        size: Some(Size::B),
        decoder_size: Some(Size::L),
        latent_tokens: 64,
        ..one_d::Config::default()
    };
    for (model, config, quantizer) in
        [("s128", s128, quantizer(4096, 12, "cosine")), ("bl64_vq8k", bl64, quantizer(8192, 64, "euclidean"))]
    {
        let store = Variables::new(Device::Cpu);
        let plan = config.plan(&quantizer, ImageSize { height: 256, width: 256 }.into()).unwrap();
        let _encoder = plan.encoder(&store.scope(Component::Encoder));
        let _decoder = plan.decoder(&store.scope(Component::Decoder));
        let published = numbers.get(&format!("parameters/{model}")).int64_value(&[0]);
        assert_eq!(store.parameters(&Component::TOKENIZER), published, "{model}");
    }
}

#[test]
fn the_preset_is_the_published_model() {
    let path = format!("{}/configs/imagenet256-titok-bl64-vq8k.toml", env!("CARGO_MANIFEST_DIR"));
    let (config, _) = Config::read(Path::new(&path), &[]).unwrap();
    config.check().unwrap();
    let expected = one_d::Config {
        size: Some(Size::B),
        decoder_size: Some(Size::L),
        latent_tokens: 64,
        patch: 16,
        ..one_d::Config::default()
    };
    assert_eq!(config.model, pixtok::model::Config::OneD(expected));
    let settings = config.quantizer.settings();
    assert_eq!((settings.natural_width(), settings.codes()), (64, (1, 8192)));
}
