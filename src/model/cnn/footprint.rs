//! Estimates what a training step of the network keeps in memory, only from the plan.

use pixtok_torch::fuses_norm_silu;
use tch::Device;

use super::plan::Plan;
use crate::model::Footprint;

/// The largest activations that exist at one time besides those that are kept: inputs, results and
/// gradients of a layer at work.
const AT_WORK: i64 = 4;

/// What the layers so far keep for each image.
#[derive(Default)]
struct Count {
    saved: Saved,
    /// The number of elements of the largest single activation.
    largest: i64,
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
}

/// Of the planned network on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Footprint {
    let (layer, attention) = (Saved::by_layer(device), Saved::by_attention(device));
    let mut count = Count::default();
    let mut pixels = i64::from(plan.image.height) * i64::from(plan.image.width);
    let finest = pixels;
    let both_halves = plan.res_blocks + plan.decoder_res_blocks;
    for stage in &plan.stages {
        let elements = stage.channels * pixels;
        let block = layer.times(2).and(attention.times(i64::from(stage.attention)));
        add(&mut count, elements, block.times(both_halves));
        // The inputs of the convolutions around a change of resolution: on the way down at the
        // coarser width, and on the way up at this resolution.
        if stage.stride > 1 {
            add(&mut count, elements, Saved { halves: 2, floats: 0 });
        }
        pixels /= stage.stride * stage.stride;
    }
    if plan.mid_attention {
        add(&mut count, plan.coarsest_channels() * pixels, layer.times(4).and(attention).times(2));
    }
    add(&mut count, plan.coarsest_channels() * pixels, layer);
    add(&mut count, plan.stages.first().map_or(1, |stage| stage.channels) * finest, layer);
    Footprint {
        saved_per_image: count.saved.halves + AT_WORK * count.largest,
        saved_in_float_per_image: count.saved.floats,
    }
}

fn add(count: &mut Count, elements: i64, saved: Saved) {
    count.saved = count.saved.and(saved.times(elements));
    count.largest = count.largest.max(elements);
}
