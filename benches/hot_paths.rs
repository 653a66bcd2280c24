//! The inner parts of training one by one, at the yardstick's sizes: `just bench-hot`, or `just bench-hot fsq` for those with that
//! name. To see what a change does; what is claimed of pixtok's speed is measured by `just bench`.
#![allow(clippy::unwrap_used, reason = "a program that stops at the first error")]

use std::path::Path;

use divan::Bencher;
use pixtok::layers::{self, Extension, Rotation, RotationSettings};
use pixtok::optim::{Muon, muon};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::variables::{Component, Init, Variables};
use pixtok_base::seed::Seed;
use pixtok_images::data::{Config, Encoded, Filter, Fit, ImageSize, Prepare};
use pixtok_images::picture::{DecodeOptions, Picture, read};
use pixtok_tokens::Grid;
use pixtok_torch::{Precision, no_grad, with_precision};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn main() {
    divan::main();
}

fn normal(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// [32, channels, side, side] in bf16 as a step of training has it.
fn activations(channels: i64, side: i64) -> Tensor {
    let plain = normal(&[32, side, side, channels], Kind::BFloat16);
    plain.permute([0, 3, 1, 2]).set_requires_grad(true)
}

/// Normalisation and SiLU, forward and backward, at each resolution of the network.
#[divan::bench(args = [(16, 64), (32, 32), (64, 16)])]
fn norm_silu(bencher: Bencher, (channels, side): (i64, i64)) {
    let (store, x) = (Variables::new(Device::Cpu), activations(channels, side));
    let norm = layers::GroupNorm::new(
        &store.root(Component::Encoder),
        channels / 4,
        channels,
        layers::GROUP_NORM_EPS,
    );
    bencher.bench_local(|| {
        let y = layers::norm_silu(&norm, &x);
        Tensor::run_backward(&[y.sum(Kind::Float)], &[&x], false, false)
    });
}

/// Upsampling and its convolution, forward and backward, at both resolutions of the network.
#[divan::bench(args = [(64, 16), (32, 32)])]
fn upsample(bencher: Bencher, (channels, side): (i64, i64)) {
    let (store, x) = (Variables::new(Device::Cpu), activations(channels, side));
    let conv = layers::conv(&store.root(Component::Encoder), channels, channels, 3, 1);
    bencher.bench_local(|| {
        let y = with_precision(Precision::Bf16, || layers::upsample(2, &conv, &x));
        Tensor::run_backward(&[y.sum(Kind::Float)], &[&x, &conv.weight], false, false)
    });
}

/// Forward and backward of a normalisation of ViT-S at 256×256, two images.
#[divan::bench]
fn rms_norm(bencher: Bencher) {
    let x = normal(&[2, 256, 384], Kind::Float).set_requires_grad(true);
    let weight = normal(&[384], Kind::Float).set_requires_grad(true);
    bencher.bench_local(|| {
        let y = pixtok_torch::rms_norm(&x, &weight, 1e-6);
        Tensor::run_backward(&[y.sum(Kind::Float)], &[&x, &weight], false, false)
    });
}

/// Forward and backward of the middle of its feed-forward part.
#[divan::bench]
fn gated_silu(bencher: Bencher) {
    let [gate, up] = [0, 1].map(|_| normal(&[2, 256, 1024], Kind::Float).set_requires_grad(true));
    bencher.bench_local(|| {
        let y = pixtok_torch::gated_silu(&gate, &up);
        Tensor::run_backward(&[y.sum(Kind::Float)], &[&gate, &up], false, false)
    });
}

/// Forward and backward of the rotation of its queries, as they come from the product.
#[divan::bench]
fn rotation(bencher: Bencher) {
    let grid = Grid { h: 16, w: 16 };
    let settings =
        RotationSettings { base: 100.0, head_dim: 64, trained: grid, extension: Extension::default() };
    let rotation = Rotation::of_grid(&settings, &Tensor::zeros([16, 16], (Kind::Float, Device::Cpu)));
    let qkv = normal(&[2, 256, 3, 6, 64], Kind::Float).set_requires_grad(true);
    bencher.bench_local(|| {
        let y = rotation.apply(&qkv.select(2, 0).transpose(1, 2));
        Tensor::run_backward(&[y.sum(Kind::Float)], &[&qkv], false, false)
    });
}

/// A step of Muon over eight weights of the network.
#[divan::bench(args = [16, 64])]
fn muon(bencher: Bencher, channels: i64) {
    let (store, init) = (Variables::new(Device::Cpu), Init::Gaussian { mean: 0.0, deviation: 1.0 });
    for i in 0..8 {
        let weight =
            store.root(Component::Decoder).conv(&format!("conv{i}"), [channels, channels, 3, 3], init);
        weight.sum(Kind::Float).backward();
    }
    let mut muon = Muon::new(&muon::Config::default(), 0.0, store.entries());
    bencher.bench_local(|| muon.step(1.0, None));
}

/// Forward and backward of a batch's latents.
#[divan::bench]
fn fsq(bencher: Bencher) {
    let (store, z) = (Variables::new(Device::Cpu), normal(&[32, 256, 4], Kind::Float));
    let fsq = config(json!({ "kind": "fsq", "levels": [8, 5, 5, 5] }))
        .settings()
        .build(&store.root(Component::Quantizer), 4)
        .unwrap();
    let z = z.set_requires_grad(true);
    bencher.bench_local(|| {
        let quantized = fsq.quantize(&z, Mode::train(Seed(3)));
        Tensor::run_backward(&[quantized.latent.sum(Kind::Float)], &[&z], false, false)
    });
}

/// The nearest codes to a batch's latents, D 8.
#[divan::bench(args = [1024, 4096, 16384])]
fn nearest(bencher: Bencher, codes: i64) {
    let (store, z) = (Variables::new(Device::Cpu), normal(&[32, 256, 8], Kind::Float));
    let vq = json!({ "kind": "vq", "codebook_size": codes, "codebook_dim": 8, "start": "uniform" });
    let vq = config(vq).settings().build(&store.root(Component::Quantizer), 8).unwrap();
    bencher.bench_local(|| no_grad(|| vq.quantize(&z, Mode::Eval).indices));
}

fn config(value: Value) -> QuantizerConfig {
    serde_json::from_value(value).unwrap()
}

/// A JPEG of 500×375 to an image of 256×256, on one thread.
#[divan::bench]
fn decode_and_resize(bencher: Bencher) {
    let size = ImageSize { height: 256, width: 256 };
    let data = Config { image_size: size, filter: Filter::Bicubic, ..Config::default() };
    let prepare = Prepare::new(&data, Fit::Centre);
    let jpeg = Encoded::Bytes(photographs(500, 375).to_jpeg(90).unwrap());
    bencher.bench_local(|| prepare.image(&jpeg).unwrap());
}

/// The embedded photographs side by side, as far as they fit.
fn photographs(width: usize, height: usize) -> Picture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/photos96/val");
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    files.sort();
    let tile = |path| read(path, &DecodeOptions::default()).unwrap().release();
    let tiles: Vec<Picture> = files.iter().take(24).map(|path| tile(path)).collect();
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let Picture { width: side, rgb: pixels, .. } = &tiles[(y / 96 * 6 + x / 96) % tiles.len()];
            let at = 3 * (y % 96 * side + x % 96);
            rgb.extend_from_slice(&pixels[at..at + 3]);
        }
    }
    Picture { width, height, rgb }
}
