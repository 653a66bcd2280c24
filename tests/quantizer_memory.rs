//! Lookup and loss terms stay within `quantizer.memory_budget` whatever the number of codes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/kinds.rs"]
mod kinds;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/peak.rs"]
mod peak;

use numbers::quantizer;
use peak::{forget_peak, peak_bytes};
use pixtok::quantizer::Mode;
use pixtok_base::seed::Seed;
use tch::{Device, Kind, Tensor};

#[test]
fn no_quantizer_takes_more_than_its_budget() {
    if numbers::device() != Device::Cpu {
        return;
    }
    // A table of these vectors and 65,536 codes would be 1 GiB.
    let (codes, grid) = (1 << 16, [2, 32, 64]);
    let budget: i64 = 64 << 20;
    for large in kinds::quantizers().into_iter().flat_map(|kind| kind.memory) {
        let config = large.quantizer;
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
