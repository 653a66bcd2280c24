//! The inner parts of training one by one, at the yardstick's sizes: `just bench-hot`, or `just bench-hot fsq` for those with that
//! name. To see what a change does; what is claimed of pixtok's speed is measured by `just bench`.
#![allow(clippy::unwrap_used, reason = "a program that stops at the first error")]

use std::path::Path;

use divan::Bencher;
use pixtok::data::{Config, Encoded, Filter, Fit, ImageSize, Prepare};
use pixtok::picture::{DecodeOptions, Picture, read};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::seed::Seed;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn};

fn main() {
    divan::main();
}

fn normal(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// GroupNorm and SiLU of a batch in bf16, forward and backward, at each resolution of the network.
#[divan::bench(args = [(16, 64), (32, 32), (64, 16)])]
fn norm_silu(bencher: Bencher, (channels, side): (i64, i64)) {
    let shape = [32, channels, side, side];
    let x = normal(&shape, Kind::BFloat16).set_requires_grad(true);
    let gradient = normal(&shape, Kind::BFloat16);
    let affine = || normal(&[channels], Kind::Float).set_requires_grad(true);
    let (weight, bias) = (affine(), affine());
    bencher.bench_local(|| {
        let y = x.group_norm(channels / 4, Some(&weight), Some(&bias), 1e-5, false).silu();
        Tensor::run_backward(&[(y * &gradient).sum(Kind::Float)], &[&x, &weight, &bias], false, false)
    });
}

/// Forward and backward of a batch's latents.
#[divan::bench]
fn fsq(bencher: Bencher) {
    let (store, z) = (nn::VarStore::new(Device::Cpu), normal(&[32, 4, 16, 16], Kind::Float));
    let fsq =
        config(json!({ "kind": "fsq", "levels": [8, 5, 5, 5] })).settings().build(&store.root(), 4).unwrap();
    let z = z.set_requires_grad(true);
    bencher.bench_local(|| {
        let quantized = fsq.quantize(&z, Mode::Train { seed: Seed(3) });
        Tensor::run_backward(&[quantized.latent.sum(Kind::Float)], &[&z], false, false)
    });
}

/// The nearest codes to a batch's latents, D 8.
#[divan::bench(args = [1024, 4096, 16384])]
fn nearest(bencher: Bencher, codes: i64) {
    let (store, z) = (nn::VarStore::new(Device::Cpu), normal(&[32, 8, 16, 16], Kind::Float));
    let vq = json!({ "kind": "vq", "codebook_size": codes, "codebook_dim": 8, "start": "uniform" });
    let vq = config(vq).settings().build(&store.root(), 8).unwrap();
    bencher.bench_local(|| tch::no_grad(|| vq.quantize(&z, Mode::Eval).indices));
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
    let tile = |path| read(path, &DecodeOptions::default()).unwrap();
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
