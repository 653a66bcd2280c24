//! Estimates the memory of a training step from the config and the networks.

use anyhow::Result;
use indicatif::BinaryBytes;
use tch::Device;

use super::networks::Networks;
use super::precision::Settled;
use crate::config::Config;
use pixtok_torch::{Precision, cuda_devices};

/// Bytes of a trained number, which is float32.
const FLOAT: i64 = 4;
/// Memory of the program with libtorch's libraries and the gaps between allocations, measured on a
/// CPU.
const PROGRAM_BYTES: i64 = 300 << 20;
/// Bytes of a weight in bf16, which autocast keeps.
const CAST: i64 = 2;

/// Estimated bytes of the parts.
struct Estimate {
    /// Weights, moments and averages, including the discriminator and the loss's network.
    weights: i64,
    /// The copy from which a checkpoint is written while the training goes on.
    saved: i64,
    /// The part of them that processes divide, if they do: moments and averages.
    divided: i64,
    gradients: i64,
    /// What the tokenizer keeps for the backward pass, including weights in bf16.
    tokenizer: i64,
    /// What the loss's network keeps. The discriminator follows after it, so both are never kept at
    /// the same time.
    loss: i64,
    discriminator: i64,
    /// Tables of the quantizer.
    tables: i64,
    /// Whether gradients of earlier micro-batches exist while the next one runs.
    micro_batches: bool,
}

impl Estimate {
    fn new(config: &Config, networks: &Networks, device: Device, precision: Precision) -> Result<Self> {
        let train = &config.train;
        let halves = precision == Precision::Bf16;
        let (images, bytes) =
            ((train.batch_size / train.micro_batches) as i64, if halves { CAST } else { FLOAT });
        // A batch of the largest images needs the most.
        let (largest, numbers) = (config.data.largest_size(), networks.numbers(config));
        let size = (i64::from(largest.height), i64::from(largest.width));
        let network = config.plan()?.footprint(device);
        let kept = (network.activation_bytes(images, bytes) as f64 * config.largest_growth()) as i64;
        let loss = config.loss.needed_network();
        let weights_of_loss = loss.map_or(0, |backbone| backbone.parameters());
        let learned = numbers.trained + numbers.discriminator;
        let averaged = if train.ema_decay > 0.0 { numbers.trained } else { 0 };
        let all = numbers.trained + numbers.fixed + numbers.discriminator + weights_of_loss;
        let models = if train.ema_decay > 0.0 { 2 } else { 1 };
        let copied = models * (numbers.trained + numbers.fixed) + numbers.discriminator + numbers.moments;
        // The copy is in the host's memory. The last checkpoint is written without one.
        let copies = !device.is_cuda() && train.checkpoint_every.min(train.eval_every) < train.steps;
        let discriminator = config.adversarial.as_ref().map_or(0, |adversarial| {
            let of_image = adversarial.discriminator.saved_per_image(size);
            // For images and reconstructions. The penalty also keeps the pass over the images and
            // the graph of its gradient.
            let penalty = if adversarial.r1.is_some() { 2 * FLOAT } else { 0 };
            (2 * bytes + penalty) * of_image * images
        });
        Ok(Self {
            weights: FLOAT * (all + numbers.moments + averaged),
            saved: if copies { FLOAT * copied } else { 0 },
            divided: if train.shard_optimizer { FLOAT * (numbers.moments + averaged) } else { 0 },
            gradients: FLOAT * learned,
            tokenizer: kept + if halves { CAST * all } else { 0 },
            loss: loss.map_or(0, |backbone| backbone.saved_bytes(size, bytes) * images),
            discriminator,
            tables: config.quantizer.settings().saved_bytes(config.vectors_of_a_micro_batch()?),
            micro_batches: train.micro_batches > 1,
        })
    }

    /// The peak: before the backward pass, or after it, when gradients have replaced what was kept.
    fn peak(&self) -> i64 {
        let kept = self.tokenizer + self.tables + self.loss.max(self.discriminator);
        let beside = if self.micro_batches { self.gradients + kept } else { self.gradients.max(kept) };
        PROGRAM_BYTES + self.weights + self.saved + beside
    }
}

/// Describes the memory of a training step on this device. If the device is a CPU and there is
/// CUDA too, also on CUDA, whose kernels keep more.
pub(super) fn words(config: &Config, settled: &Settled, networks: &Networks) -> Result<Vec<String>> {
    let here = networks.device();
    let mut words = words_on(here, settled.precision, config, networks)?;
    if !here.is_cuda() && cuda_devices().is_ok_and(|devices| devices > 0) {
        let there = Device::Cuda(0);
        words.extend(words_on(there, settled.chosen.resolve(there), config, networks)?);
    }
    Ok(words)
}

/// One line with the memory of a training step, one with its largest parts, and one with what
/// processes divide.
fn words_on(
    device: Device,
    precision: Precision,
    config: &Config,
    networks: &Networks,
) -> Result<Vec<String>> {
    let estimate = Estimate::new(config, networks, device, precision)?;
    let place = if device.is_cuda() { "on CUDA" } else { "on the CPU" };
    let parts = [
        ("weights and moments", estimate.weights),
        ("the copy for checkpoints", estimate.saved),
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
    let mut words = vec![
        format!(
            "memory      about {} for a training step {place} in {precision}, by estimate",
            BinaryBytes(estimate.peak() as u64)
        ),
        format!("            of it, not all at once: {}", parts.join(", ")),
    ];
    if estimate.divided > 0 {
        words.push(format!(
            "            of the weights and moments, {} are divided over the processes (train.shard_optimizer)",
            BinaryBytes(estimate.divided as u64)
        ));
    }
    Ok(words)
}
