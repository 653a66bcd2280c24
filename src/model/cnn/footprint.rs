//! Estimates what a training step of the network keeps in memory, only from the plan.

use pixtok_torch::fuses_norm_silu;
use tch::Device;

use super::plan::Plan;
use crate::model::Footprint;

/// The largest activations that exist at one time besides those that are kept: inputs, results and
/// gradients of a layer at work.
const AT_WORK: i64 = 4;

/// A block that is computed again keeps its input.
const INPUT: Saved = Saved { halves: 1, floats: 0 };

/// What the layers so far keep for each image.
#[derive(Default)]
struct Count {
    saved: Saved,
    /// The number of elements of the largest single activation.
    largest: i64,
    /// Whether the backward pass computes blocks again.
    recomputed: bool,
    /// What the largest block keeps while it is computed again.
    in_turn: Saved,
}

impl Count {
    /// Layers that keep `saved` for each of their `elements`.
    fn add(&mut self, elements: i64, saved: Saved) {
        self.saved = self.saved.and(saved.times(elements));
        self.largest = self.largest.max(elements);
    }

    /// `count` blocks that keep `saved` for each of their `elements`.
    fn add_blocks(&mut self, count: i64, elements: i64, saved: Saved) {
        if self.recomputed {
            self.in_turn = self.in_turn.or_more(saved.times(elements));
            self.add(elements, INPUT.times(count));
        } else {
            self.add(elements, saved.times(count));
        }
    }
}

/// The numbers that a part of the network keeps, for each element or of an image.
#[derive(Clone, Copy, Default)]
struct Saved {
    /// Numbers in the precision of the training.
    halves: i64,
    /// Numbers in float32: on CUDA, autocast computes group norms and their results in it.
    floats: i64,
}

impl Saved {
    /// A norm, SiLU and a convolution keep their inputs. If norm and SiLU are a single operation,
    /// SiLU's input isn't kept.
    fn by_layer(device: Device) -> Self {
        if fuses_norm_silu(device) { Self { halves: 2, floats: 0 } } else { Self { halves: 1, floats: 2 } }
    }

    /// Attention keeps the norm's input and output, query, key, value, and the result.
    fn by_attention(device: Device) -> Self {
        if device == Device::Cpu { Self { halves: 6, floats: 0 } } else { Self { halves: 5, floats: 1 } }
    }

    fn times(self, times: i64) -> Self {
        Self { halves: self.halves * times, floats: self.floats * times }
    }

    fn and(self, other: Self) -> Self {
        Self { halves: self.halves + other.halves, floats: self.floats + other.floats }
    }

    /// The one of both with more numbers.
    fn or_more(self, other: Self) -> Self {
        if other.halves + other.floats > self.halves + self.floats { other } else { self }
    }
}

/// Of the planned network on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Footprint {
    let (layer, attention) = (Saved::by_layer(device), Saved::by_attention(device));
    let block = layer.times(2);
    let mut count = Count { recomputed: plan.settings.checkpoint_blocks, ..Count::default() };
    let mut pixels = i64::from(plan.image.height) * i64::from(plan.image.width);
    let finest = pixels;
    let both_halves = plan.res_blocks + plan.decoder_res_blocks;
    for stage in &plan.stages {
        let elements = stage.channels * pixels;
        count.add_blocks(both_halves, elements, block);
        if stage.attention {
            count.add_blocks(both_halves, elements, attention);
        }
        // The inputs of the convolutions around a change of resolution: on the way down at the
        // coarser width, and on the way up at this resolution.
        if stage.stride > 1 {
            count.add(elements, Saved { halves: 2, floats: 0 });
        }
        pixels /= stage.stride * stage.stride;
    }
    if plan.mid_attention {
        let elements = plan.coarsest_channels() * pixels;
        count.add_blocks(4, elements, block);
        count.add_blocks(2, elements, attention);
    }
    count.add(plan.coarsest_channels() * pixels, layer);
    count.add(plan.stages.first().map_or(1, |stage| stage.channels) * finest, layer);
    let saved = count.saved.and(count.in_turn);
    Footprint {
        saved_per_image: saved.halves + AT_WORK * count.largest,
        saved_in_float_per_image: saved.floats,
    }
}
