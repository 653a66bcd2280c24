//! A network whose blocks are computed again takes less memory for a step.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/peak.rs"]
mod peak;

use peak::{forget_peak, peak_bytes};
use pixtok::model::cnn::{Config, PerStage};
use pixtok::model::{ImageSize, Settings, Tokenizer};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::variables::Variables;
use pixtok_base::seed::Seed;
use tch::{Device, Kind, Tensor};

const IMAGES: i64 = 4;

/// One forward and backward pass over images of this side.
fn step(config: &Config, quantizer: &QuantizerConfig, side: u32) {
    let store = Variables::new(Device::Cpu);
    pixtok_torch::reseed(Seed(1));
    let size = ImageSize { height: side, width: side };
    let tokenizer = Tokenizer::new(&store, config, quantizer, size).unwrap();
    let shape = [IMAGES, 3, i64::from(side), i64::from(side)];
    let images = Tensor::rand(shape, (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let out = tokenizer.forward(&images, Mode::train(Seed(2))).unwrap();
    (out.recon - images).square().mean(Kind::Float).backward();
}

#[test]
fn blocks_that_are_computed_again_take_less_memory() {
    if numbers::device() != Device::Cpu {
        return;
    }
    let side = 128;
    let quantizer = toml::from_str("kind = \"fsq\"\nlevels = [8, 5]").unwrap();
    let plain =
        Config { channels: 8, multipliers: vec![1, 1], res_blocks: PerStage::All(8), ..Config::default() };
    let again = Config { checkpoint_blocks: true, ..plain.clone() };
    // What libtorch allocates once.
    step(&plain, &quantizer, 16);
    forget_peak();
    let before = peak_bytes();
    // The smaller one comes first: memory that the process keeps from it does not make the other
    // look smaller, since both peaks are above the same beginning.
    let [again, plain] = [again, plain].map(|config| {
        step(&config, &quantizer, side);
        let size = ImageSize { height: side, width: side };
        let planned = config.plan(&quantizer, size.into()).unwrap().footprint(Device::Cpu);
        let (peak, planned) = (peak_bytes() - before, planned.activation_bytes(IMAGES, 4));
        println!("{} MiB, {} MiB by estimate", peak >> 20, planned >> 20);
        peak as f64
    });
    assert!(again < 0.6 * plain, "{again} of {plain} bytes");
}
