//! Estimates what a training step of the network keeps in memory, only from the plan.

use pixtok_torch::fuses_norm_silu;
use tch::Device;

use super::plan::Plan;
use crate::model::Footprint;

/// The largest activations that exist at one time besides those that are kept: inputs, results and
/// gradients of a layer at work.
const AT_WORK: i64 = 4;

/// What the layers so far keep for each image. Other convolutional networks count by it too.
#[derive(Default)]
pub(in crate::model) struct Count {
    saved: Saved,
    /// The number of elements of the largest single activation.
    largest: i64,
    /// Whether the backward pass computes blocks again.
    recomputed: bool,
    /// What the largest block keeps while it is computed again.
    in_turn: Saved,
}

impl Count {
    /// Of no layer yet. `recomputed`: whether the backward pass computes blocks again.
    pub fn new(recomputed: bool) -> Self {
        Self { recomputed, ..Self::default() }
    }

    /// Layers that keep `saved` for each of their `elements`.
    pub fn add(&mut self, elements: i64, saved: Saved) {
        self.saved = self.saved.and(saved.times(elements));
        self.largest = self.largest.max(elements);
    }

    /// `count` blocks that keep `saved` for each of their `elements`.
    pub fn add_blocks(&mut self, count: i64, elements: i64, saved: Saved) {
        if self.recomputed {
            self.in_turn = self.in_turn.or_more(saved.times(elements));
            self.add(elements, Saved::INPUT.times(count));
        } else {
            self.add(elements, saved.times(count));
        }
    }

    /// All parts so far.
    pub fn footprint(&self) -> Footprint {
        let saved = self.saved.and(self.in_turn);
        Footprint {
            saved_per_image: saved.halves + AT_WORK * self.largest,
            saved_in_float_per_image: saved.floats,
        }
    }
}

/// The numbers that a part of the network keeps, for each element or of an image.
#[derive(Clone, Copy, Default)]
pub(in crate::model) struct Saved {
    /// Numbers in the precision of the training.
    pub halves: i64,
    /// Numbers in float32: on CUDA, autocast computes group norms and their results in it.
    pub floats: i64,
}

impl Saved {
    /// The input of a convolution, or of a block that is computed again.
    pub const INPUT: Self = Self { halves: 1, floats: 0 };

    /// A norm, SiLU and a convolution keep their inputs. If norm and SiLU are a single operation,
    /// SiLU's input isn't kept.
    pub fn by_layer(device: Device) -> Self {
        if fuses_norm_silu(device) { Self { halves: 2, floats: 0 } } else { Self { halves: 1, floats: 2 } }
    }

    /// Attention keeps the norm's input and output, query, key, value, and the result.
    fn by_attention(device: Device) -> Self {
        if device == Device::Cpu { Self { halves: 6, floats: 0 } } else { Self { halves: 5, floats: 1 } }
    }

    pub fn times(self, times: i64) -> Self {
        Self { halves: self.halves * times, floats: self.floats * times }
    }

    pub fn and(self, other: Self) -> Self {
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
    let mut count = Count::new(plan.settings.checkpoint_blocks);
    let patch = 1_i64 << plan.settings.haar_levels;
    let mut pixels = i64::from(plan.image.height) / patch * (i64::from(plan.image.width) / patch);
    for stage in &plan.stages {
        let elements = stage.channels * pixels;
        count.add_blocks(stage.res_blocks, elements, block);
        if stage.attention {
            count.add_blocks(stage.res_blocks, elements, attention);
        }
        // The input of the convolution to the coarser resolution.
        if stage.stride > 1 {
            count.add(elements, Saved::INPUT);
        }
        pixels /= stage.stride * stage.stride;
    }
    if plan.mid_attention {
        for channels in [plan.coarsest_channels(), plan.coarsest_decoder_channels()] {
            count.add_blocks(2, channels * pixels, block);
            count.add_blocks(1, channels * pixels, attention);
        }
    }
    count.add(plan.coarsest_channels() * pixels, layer);
    let mut channels = plan.coarsest_decoder_channels();
    for (i, stage) in plan.stages.iter().enumerate().rev() {
        channels = stage.decoder_channels;
        count.add_blocks(stage.decoder_res_blocks, channels * pixels, block);
        if stage.attention {
            count.add_blocks(stage.decoder_res_blocks, channels * pixels, attention);
        }
        if stage.up > 1 {
            pixels *= stage.up * stage.up;
            // The input of the convolution from the coarser resolution, about as wide as what
            // follows.
            let finer = i.checked_sub(1).map_or(channels, |finer| plan.stages[finer].decoder_channels);
            count.add(finer * pixels, Saved::INPUT);
        }
    }
    count.add(channels * pixels, layer);
    count.footprint()
}
