//! Estimates what a training step of the network keeps in memory, only from the plan.

use tch::Device;

use super::plan::Plan;
use crate::layers::Saved;
use crate::model::Halves;

/// Attention keeps the norm's input and output, query, key, value, and the result.
fn by_attention(device: Device) -> Saved {
    if device == Device::Cpu { Saved { halves: 6, floats: 0 } } else { Saved { halves: 5, floats: 1 } }
}

/// Counts what both halves of the network keep in a training step on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Halves {
    let (layer, attention) = (Saved::by_layer(device), by_attention(device));
    let block = layer.times(2);
    let Halves { mut encoder, mut decoder } = Halves::new(plan.settings.checkpoint_blocks);
    let patch = 1_i64 << plan.settings.haar_levels;
    let mut pixels = i64::from(plan.image.height) / patch * (i64::from(plan.image.width) / patch);
    for stage in &plan.stages {
        let elements = stage.channels * pixels;
        encoder.add_blocks(stage.res_blocks, elements, block);
        if stage.attention {
            encoder.add_blocks(stage.res_blocks, elements, attention);
        }
        // The input of the convolution to the coarser resolution.
        if stage.stride > 1 {
            encoder.add(elements, Saved::INPUT);
        }
        pixels /= stage.stride * stage.stride;
    }
    if plan.mid_attention {
        for (half, channels) in
            [(&mut encoder, plan.coarsest_channels()), (&mut decoder, plan.coarsest_decoder_channels())]
        {
            half.add_blocks(2, channels * pixels, block);
            half.add_blocks(1, channels * pixels, attention);
        }
    }
    encoder.add(plan.coarsest_channels() * pixels, layer);
    let mut channels = plan.coarsest_decoder_channels();
    for (i, stage) in plan.stages.iter().enumerate().rev() {
        channels = stage.decoder_channels;
        decoder.add_blocks(stage.decoder_res_blocks, channels * pixels, block);
        if stage.attention {
            decoder.add_blocks(stage.decoder_res_blocks, channels * pixels, attention);
        }
        if stage.up > 1 {
            pixels *= stage.up * stage.up;
            // The input of the convolution from the coarser resolution, about as wide as what
            // follows.
            let finer = i.checked_sub(1).map_or(channels, |finer| plan.stages[finer].decoder_channels);
            decoder.add(finer * pixels, Saved::INPUT);
        }
    }
    decoder.add(channels * pixels, layer);
    Halves { encoder, decoder }
}
