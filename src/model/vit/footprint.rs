//! Estimates what a training step of the network keeps in memory, only from the plan.

use tch::Device;

use super::plan::Plan;
use crate::layers::Saved;
use crate::model::{Count, Footprint};

/// Of the planned network on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Footprint {
    let patches = plan.grid().positions() as i64;
    let positions = patches + plan.settings.registers;
    let mut count = Count::default();
    // Only one block at a time is computed again.
    let mut again = Saved::default();
    for sizes in [plan.encoder, plan.decoder] {
        let stack = plan.stack(sizes);
        let (kept, at_work) = stack.saved(plan.rotation(sizes).is_some(), device);
        // The vectors before the first block, and the sums before and after the last normalisation.
        let ends = Saved { halves: sizes.width, floats: 2 * sizes.width };
        count.add(positions, kept.and(ends));
        count.at_work(positions * stack.block.widest());
        again = again.or_more(at_work);
    }
    count.add(positions, again);
    // The image, and the decoder's pixels before and after they are put in order and convolved.
    count.add(plan.patch_numbers() * patches, Saved { halves: 3, floats: 1 });
    count.footprint()
}
