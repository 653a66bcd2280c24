//! Estimates what a training step of the network keeps in memory, only from the plan.

use tch::Device;

use super::plan::Plan;
use crate::layers::Saved;
use crate::model::transformer::Sizes;
use crate::model::{Count, Halves};

/// The transformer with these sizes, of either half.
fn add_transformer(count: &mut Count, plan: &Plan, sizes: Sizes, device: Device) {
    let positions = plan.common.grid().positions() as i64 + plan.settings.registers;
    let stack = plan.stack(sizes);
    let (kept, again) = stack.saved(plan.common.rotation(sizes).is_some(), device);
    // The vectors before the first block, and the sums before and after the last normalisation.
    let ends = Saved { halves: sizes.width, floats: 2 * sizes.width };
    count.add(positions, kept.and(ends));
    count.add_again(positions, again);
    count.at_work(positions * stack.block.widest());
}

/// Counts what both halves of the network keep in a training step on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Halves {
    let Halves { mut encoder, mut decoder } = Halves::new(plan.settings.checkpoint_blocks);
    add_transformer(&mut encoder, plan, plan.common.encoder, device);
    add_transformer(&mut decoder, plan, plan.common.decoder, device);
    let pixels = plan.patch_numbers() * plan.common.grid().positions() as i64;
    // The image.
    encoder.add(pixels, Saved::INPUT);
    // The pixels before and after they are put in order and convolved.
    decoder.add(pixels, Saved { halves: 2, floats: 1 });
    Halves { encoder, decoder }
}
