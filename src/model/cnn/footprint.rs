//! Estimates what a training step of the network keeps in memory, only from the plan.

use pixtok_torch::fuses_norm_silu;
use tch::Device;

use super::plan::{Plan, Stage};
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
}

impl Count {
    /// A part that keeps this much for each of `elements`.
    pub fn add(&mut self, elements: i64, saved: Saved) {
        self.saved = self.saved.and(saved.times(elements));
        self.largest = self.largest.max(elements);
    }

    /// All parts so far.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            saved_per_image: self.saved.halves + AT_WORK * self.largest,
            saved_in_float_per_image: self.saved.floats,
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
}

/// Of the planned network on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Footprint {
    let (layer, attention) = (Saved::by_layer(device), Saved::by_attention(device));
    let block = |stage: &Stage| layer.times(2).and(attention.times(i64::from(stage.attention)));
    let one = Saved { halves: 1, floats: 0 };
    let mut count = Count::default();
    let patch = 1_i64 << plan.settings.haar_levels;
    let mut pixels = i64::from(plan.image.height) / patch * (i64::from(plan.image.width) / patch);
    for stage in &plan.stages {
        let elements = stage.channels * pixels;
        count.add(elements, block(stage).times(stage.res_blocks));
        // The input of the convolution to the coarser resolution.
        if stage.stride > 1 {
            count.add(elements, one);
        }
        pixels /= stage.stride * stage.stride;
    }
    let coarsest = [plan.coarsest_channels(), plan.coarsest_decoder_channels()];
    if plan.mid_attention {
        for channels in coarsest {
            count.add(channels * pixels, layer.times(4).and(attention));
        }
    }
    count.add(plan.coarsest_channels() * pixels, layer);
    let mut channels = plan.coarsest_decoder_channels();
    for (i, stage) in plan.stages.iter().enumerate().rev() {
        channels = stage.decoder_channels;
        count.add(channels * pixels, block(stage).times(stage.decoder_res_blocks));
        if stage.up > 1 {
            pixels *= stage.up * stage.up;
            // The input of the convolution from the coarser resolution, about as wide as what
            // follows.
            let finer = i.checked_sub(1).map_or(channels, |finer| plan.stages[finer].decoder_channels);
            count.add(finer * pixels, one);
        }
    }
    count.add(channels * pixels, layer);
    count.footprint()
}
