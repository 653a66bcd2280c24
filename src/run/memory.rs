//! What a training step keeps in memory, estimated from the config and the networks.

use anyhow::Result;
use indicatif::BinaryBytes;
use tch::Device;

use super::networks::Networks;
use super::precision::Settled;
use crate::config::Config;
use pixtok_torch::Precision;

/// Bytes of a number that is trained: of float32.
const FLOAT: i64 = 4;
/// The program with libtorch's libraries and what its allocations leave between them, measured on a CPU.
const PROGRAM_BYTES: i64 = 300 << 20;
/// What autocast keeps: a weight in bf16.
const CAST: i64 = 2;

/// Bytes, by what takes them.
struct Estimate {
    /// Weights, moments and averages, also of the discriminator and of the loss's network.
    weights: i64,
    gradients: i64,
    /// What the tokenizer keeps for the backward pass, with weights in bf16.
    tokenizer: i64,
    /// What the loss's network keeps, and the discriminator after it: not at the same time.
    loss: i64,
    discriminator: i64,
    /// Tables of the quantizer.
    tables: i64,
    /// Whether gradients of earlier micro-batches stay beside what the next one keeps.
    micro_batches: bool,
}

impl Estimate {
    fn new(config: &Config, networks: &Networks, device: Device, precision: Precision) -> Result<Self> {
        let train = &config.train;
        let halves = precision == Precision::Bf16;
        let (images, bytes) =
            ((train.batch_size / train.micro_batches) as i64, if halves { CAST } else { FLOAT });
        let (size, numbers) = (config.image_size(), networks.numbers(config));
        let network = config.plan()?.footprint(device);
        let loss = config.loss.needed_network();
        let weights_of_loss = loss.map_or(0, |backbone| backbone.parameters());
        let learned = numbers.trained + numbers.discriminator;
        let averaged = if train.ema_decay > 0.0 { numbers.trained } else { 0 };
        let all = numbers.trained + numbers.fixed + numbers.discriminator + weights_of_loss;
        let discriminator = config.adversarial.as_ref().map_or(0, |adversarial| {
            let of_image = adversarial.discriminator.saved_per_image(size);
            // Of images and of reconstructions; the penalty keeps what its images left, and what its gradient is made of.
            let penalty = if adversarial.r1.is_some() { 2 * FLOAT } else { 0 };
            (2 * bytes + penalty) * of_image * images
        });
        Ok(Self {
            weights: FLOAT * (all + numbers.moments + averaged),
            gradients: FLOAT * learned,
            tokenizer: network.activation_bytes(images, bytes) + if halves { CAST * all } else { 0 },
            loss: loss.map_or(0, |backbone| backbone.saved_bytes(size, bytes) * images),
            discriminator,
            tables: config.quantizer.settings().saved_bytes(config.vectors_of_a_micro_batch()?),
            micro_batches: train.micro_batches > 1,
        })
    }

    /// At the most: before the backward pass, or after it, when gradients have taken the place of what was kept.
    fn peak(&self) -> i64 {
        let kept = self.tokenizer + self.tables + self.loss.max(self.discriminator);
        let beside = if self.micro_batches { self.gradients + kept } else { self.gradients.max(kept) };
        PROGRAM_BYTES + self.weights + beside
    }
}

/// What a training step takes here, and on CUDA if that is elsewhere: it has other kernels, that keep more.
pub(super) fn words(config: &Config, settled: &Settled, networks: &Networks) -> Result<String> {
    let here = networks.device();
    let mut words = words_on(here, settled.precision, config, networks)?;
    if !here.is_cuda() {
        let there = Device::Cuda(0);
        words += &words_on(there, settled.chosen.resolve(there), config, networks)?;
    }
    Ok(words)
}

/// A line of what a training step takes, and one of its largest parts.
fn words_on(device: Device, precision: Precision, config: &Config, networks: &Networks) -> Result<String> {
    let estimate = Estimate::new(config, networks, device, precision)?;
    let place = if device.is_cuda() { "on CUDA" } else { "on the CPU" };
    let parts = [
        ("weights and moments", estimate.weights),
        ("gradients", estimate.gradients),
        ("kept for the backward pass", estimate.tokenizer),
        ("the loss's network", estimate.loss),
        ("the discriminator", estimate.discriminator),
        ("N×K tables of the quantizer", estimate.tables),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(name, bytes)| format!("{name} {}", BinaryBytes(bytes as u64)))
        .collect();
    Ok(format!(
        "# memory: about {} for a training step {place} in {precision}, by estimate\n# of it, not all at once: {}\n",
        BinaryBytes(estimate.peak() as u64),
        parts.join(", ")
    ))
}
