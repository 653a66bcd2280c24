//! The memory of a training step: as much as the network's plan estimates, and less if its blocks
//! are computed again.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "the parent process reads what a child measured")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/peak.rs"]
mod peak;

use std::env;
use std::process::Command;

use peak::{forget_peak, peak_bytes};
use pixtok::model::{Config, ImageSize, Tokenizer};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::variables::Variables;
use pixtok_base::seed::Seed;
use tch::{Device, Kind, Tensor};

const IMAGES: i64 = 4;
const SIDE: u32 = 128;
/// A side of images whose step allocates little.
const SMALL: u32 = 16;

/// In the environment of a process that measures one step: the keys of its network.
const NETWORK: &str = "PIXTOK_MEASURED_NETWORK";
const TEST: &str = "a_step_takes_what_is_estimated_and_less_with_blocks_computed_again";

const NETWORKS: [&str; 3] = [
    "kind = \"cnn\"\nchannels = 8\nmultipliers = [1, 1]\nres_blocks = 8",
    "kind = \"vit\"\npatch = 8\nwidth = 192\ndepth = 6\nheads = 3",
    "kind = \"one-d\"\npositions = \"rope\"\npatch = 8\nlatent_tokens = 32\nwidth = 192\ndepth = 6\nheads = 3",
];

fn read(network: &str) -> (Config, QuantizerConfig) {
    (toml::from_str(network).unwrap(), toml::from_str("kind = \"fsq\"\nlevels = [8, 5]").unwrap())
}

fn square(side: u32) -> ImageSize {
    ImageSize { height: side, width: side }
}

/// One forward and backward pass over images of this side.
fn step(tokenizer: &Tokenizer, side: u32) {
    let shape = [IMAGES, 3, i64::from(side), i64::from(side)];
    let images = Tensor::rand(shape, (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let out = tokenizer.forward(&images, Mode::train(Seed(2))).unwrap();
    (out.recon - images).square().mean(Kind::Float).backward();
}

/// Prints the bytes that a step needs on top of weights and their gradients.
fn measure(network: &str) {
    let (model, quantizer) = read(network);
    let store = Variables::new(Device::Cpu);
    pixtok_torch::reseed(Seed(1));
    let tokenizer = Tokenizer::new(&store, model.settings(), &quantizer, square(SIDE)).unwrap();
    // Allocates the gradients, and what libtorch needs once.
    step(&tokenizer, SMALL);
    forget_peak();
    let before = peak_bytes();
    step(&tokenizer, SIDE);
    // The test harness has begun a line.
    println!("\npeak {}", peak_bytes() - before);
}

/// What [`measure`] prints in a process of its own, where no earlier step has left memory behind.
fn measured(network: &str) -> i64 {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(NETWORK, network)
        // Freed tensors go back to the system at once.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let peak = printed.lines().find_map(|line| line.strip_prefix("peak "));
    let peak = peak.unwrap_or_else(|| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)));
    peak.trim().parse().unwrap()
}

fn estimated(network: &str) -> i64 {
    let (model, quantizer) = read(network);
    let plan = model.settings().plan(&quantizer, square(SIDE).into()).unwrap();
    plan.footprint(Device::Cpu).activation_bytes(IMAGES, 4)
}

#[test]
fn a_step_takes_what_is_estimated_and_less_with_blocks_computed_again() {
    if numbers::device() != Device::Cpu {
        return;
    }
    if let Ok(network) = env::var(NETWORK) {
        measure(&network);
        return;
    }
    for network in NETWORKS {
        let [plain, again] = [false, true].map(|checkpoint_blocks| {
            let network = format!("{network}\ncheckpoint_blocks = {checkpoint_blocks}\n");
            let (measured, estimated) = (measured(&network), estimated(&network));
            println!("{network}{} MiB, {} MiB by estimate", measured >> 20, estimated >> 20);
            let share = measured as f64 / estimated as f64;
            assert!((0.75..=1.25).contains(&share), "{network}{measured} bytes, {estimated} by estimate");
            measured as f64
        });
        assert!(again < 0.6 * plain, "{network}: {again} of {plain} bytes");
    }
}
