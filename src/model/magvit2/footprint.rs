//! Estimates what a training step of the network keeps in memory, only from the plan.

use tch::Device;

use super::plan::Plan;
use crate::layers::Saved;
use crate::model::Halves;

/// Counts what both halves of the network keep in a training step on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Halves {
    let layer = Saved::by_layer(device);
    let block = layer.times(2);
    let blocks = plan.settings.res_blocks;
    let Halves { mut encoder, mut decoder } = Halves::new(plan.settings.checkpoint_blocks);
    let mut pixels = i64::from(plan.image.height) * i64::from(plan.image.width);
    decoder.add(plan.widths.first().map_or(0, |width| width * pixels), layer);
    for (i, width) in plan.widths.iter().enumerate() {
        let elements = width * pixels;
        encoder.add_blocks(blocks, elements, block);
        decoder.add_blocks(blocks, elements, block);
        // What comes up from the coarser stage has its width until the first block.
        let from_below = plan.widths.get(i + 1).unwrap_or(width) * pixels;
        decoder.add(from_below, by_adaptive_norm(device));
        if i + 1 < plan.widths.len() {
            // The inputs of the convolutions on the way down, and on the way up to this resolution.
            encoder.add(elements, Saved::INPUT);
            pixels /= 4;
            decoder.add(plan.widths[i + 1] * pixels, Saved::INPUT);
        }
    }
    let coarsest = plan.coarsest_channels() * pixels;
    encoder.add_blocks(blocks, coarsest, block);
    decoder.add_blocks(blocks, coarsest, block);
    encoder.add(coarsest, layer);
    Halves { encoder, decoder }
}

/// The input of the norm, and its result, whose product with the scale follows. On CUDA, autocast
/// computes the norm in float32.
fn by_adaptive_norm(device: Device) -> Saved {
    if device == Device::Cpu { Saved { halves: 2, floats: 0 } } else { Saved { halves: 0, floats: 2 } }
}
