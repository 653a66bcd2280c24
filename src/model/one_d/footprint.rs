//! Estimates what a training step of the network keeps in memory, only from the plan.

use tch::Device;

use super::config::PixelDecoder;
use super::plan::Plan;
use crate::layers::Saved;
use crate::model::transformer::Sizes;
use crate::model::{Count, Halves};

/// Tokens before and after the blocks, in float32: the parts that are put together, their sum with
/// positions, and what goes into the normalisations.
const ENDS: i64 = 4;
/// Pixels in float32: the patches of the decoder and its image.
const DECODED: i64 = 2;

/// The transformer with these sizes, of either half.
fn add_transformer(count: &mut Count, plan: &Plan, sizes: Sizes, device: Device) {
    let positions = 1 + plan.patches() + plan.tokens();
    let stack = plan.stack(sizes);
    let (kept, again) = stack.saved(plan.common.rotation(sizes).is_some(), device);
    let ends = Saved { halves: 0, floats: ENDS * sizes.width };
    count.add(positions, kept.and(ends));
    count.add_again(positions, again);
    count.at_work(positions * stack.block.widest());
}

fn add_pixel_decoder(count: &mut Count, plan: &Plan, settings: &PixelDecoder, device: Device) {
    let patches = plan.patches();
    let of_patch = 2 * plan.common.decoder.width + settings.codes + settings.code_dim;
    count.add(patches * of_patch, Saved { halves: 1, floats: 1 });
    let layer = Saved::by_layer(device);
    let coarsest = settings.channels * settings.multipliers.last().copied().unwrap_or(1);
    count.add_blocks(settings.res_blocks, coarsest * patches, layer.times(2));
    let mut positions = patches;
    for (i, multiplier) in settings.multipliers.iter().enumerate().rev() {
        count.add_blocks(settings.res_blocks, settings.channels * multiplier * positions, layer.times(2));
        if i > 0 {
            // The input of the convolution after the enlargement.
            positions *= 4;
            count.add(settings.channels * multiplier * positions, Saved::INPUT);
        }
    }
    let finest = settings.channels * settings.multipliers.first().copied().unwrap_or(1);
    count.add(finest * positions, layer);
}

/// Counts what both halves of the network keep in a training step on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Halves {
    let Halves { mut encoder, mut decoder } = Halves::new(plan.settings.checkpoint_blocks);
    add_transformer(&mut encoder, plan, plan.common.encoder, device);
    add_transformer(&mut decoder, plan, plan.common.decoder, device);
    let image = plan.common.trained.image;
    let pixels = 3 * i64::from(image.height) * i64::from(image.width);
    encoder.add(pixels, Saved { halves: 0, floats: 1 });
    decoder.add(pixels, Saved { halves: 0, floats: DECODED });
    if let Some(settings) = &plan.pixel_decoder {
        add_pixel_decoder(&mut decoder, plan, settings, device);
    }
    Halves { encoder, decoder }
}
