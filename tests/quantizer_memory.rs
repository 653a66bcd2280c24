//! Lookup and loss terms stay within `quantizer.memory_budget` whatever the number of codes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/peak.rs"]
mod peak;

use numbers::quantizer;
use peak::{forget_peak, peak_bytes};
use pixtok::quantizer::Mode;
use pixtok_base::seed::Seed;
use serde_json::json;
use tch::{Device, Kind, Tensor};

#[test]
fn no_quantizer_takes_more_than_its_budget() {
    if numbers::device() != Device::Cpu {
        return;
    }
    let (codes, grid) = (1 << 16, [2, 32, 64]);
    // The table of 4,096 vectors and 65,536 codes would be 1 GiB.
    for config in [
        json!({ "kind": "vq", "codebook_size": codes, "codebook_dim": 8, "start": "uniform", "restart_threshold": 1.0 }),
        json!({ "kind": "vq", "codebook_size": codes, "codebook_dim": 64, "start": "uniform" }),
        json!({ "kind": "vq", "codebook_size": codes, "codebook_dim": 8, "start": "uniform", "distance": "cosine" }),
        json!({
            "kind": "vq", "codebook_size": codes, "codebook_dim": 8, "start": "uniform", "entropy_weight": 0.1,
            "codebook_update": { "kind": "gradient" },
        }),
        json!({ "kind": "simvq", "codebook_size": 1 << 20, "codebook_dim": 8 }),
        json!({ "kind": "lfq", "bits": 18 }),
        json!({ "kind": "bsq", "bits": 31, "entropy_group_bits": 16 }),
        json!({ "kind": "ibq", "codebook_size": 2048, "codebook_dim": 8 }),
        json!({
            "kind": "grouped", "groups": 2,
            "each": { "kind": "vq", "codebook_size": codes, "codebook_dim": 8, "start": "uniform", "memory_budget": "64MiB" },
        }),
        json!({ "kind": "fsq", "levels": [8, 8, 8, 5, 5, 5] }),
    ] {
        let mut config = config;
        let budget: i64 = 64 << 20;
        if config["kind"] != "fsq" && config["kind"] != "grouped" {
            config["memory_budget"] = json!("64MiB");
        }
        let parsed: pixtok::quantizer::QuantizerConfig = serde_json::from_value(config.clone()).unwrap();
        let width = parsed.settings().natural_width();
        let (_store, mut quantizer) = quantizer(config.clone(), width);
        pixtok_torch::reseed(Seed(1));
        let z = Tensor::randn([grid[0], width, grid[1], grid[2]], (Kind::Float, Device::Cpu));
        let z = z.set_requires_grad(true);
        forget_peak();
        let before = peak_bytes();
        let quantized = quantizer.quantize(&z, Mode::train(Seed(2)));
        let losses = quantized.losses.iter().map(|term| &term.value * term.weight);
        losses.fold(quantized.latent.sum(Kind::Float), |sum, loss| sum + loss).backward();
        let step = peak_bytes() - before;
        drop(quantizer.update(&quantized.statistics, Seed(3)));
        // Vectors, codes and gradients, which exist whatever the search does: a few times their own
        // size.
        let codebook = quantizer.codebook();
        let unavoidable = 4
            * 4
            * (z.numel() as i64 + if codebook.size <= codes { codebook.size * codebook.dim } else { 0 });
        println!("{config}: {} MiB in a step", step >> 20);
        assert!(step < budget + unavoidable, "{config}: {} MiB", step >> 20);
    }
}
