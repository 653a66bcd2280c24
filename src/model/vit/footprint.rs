//! Estimates what a training step of the network keeps in memory, only from the plan.

use pixtok_torch::fuses_gated_silu;
use tch::Device;

use super::config::Sizes;
use super::plan::Plan;
use crate::layers::{AttentionNorm, BlockSettings, FeedForwardKind};
use crate::model::Footprint;

/// The largest activations that exist at one time besides those that are kept: inputs, results and
/// gradients of a layer at work.
const AT_WORK: i64 = 4;

/// The numbers that a part of the network keeps, for each position or of an image.
#[derive(Clone, Copy, Default)]
struct Saved {
    /// Numbers in the precision of the training.
    halves: i64,
    /// Numbers in float32, whatever the precision.
    floats: i64,
}

impl Saved {
    fn times(self, times: i64) -> Self {
        Self { halves: self.halves * times, floats: self.floats * times }
    }

    fn and(self, other: Self) -> Self {
        Self { halves: self.halves + other.halves, floats: self.floats + other.floats }
    }
}

/// Of a block, for each position. Attention keeps no table of all pairs of positions:
/// `scaled_dot_product_attention` computes it in blocks, on either device.
fn of_block(settings: &BlockSettings, rotated: bool, device: Device) -> Saved {
    let BlockSettings { width, hidden, .. } = *settings;
    let on_cpu = device == Device::Cpu;
    // The sums before each part, which the norms keep.
    let sums = 2;
    let (normalised, normalised_in_float) = match settings.attention_norm {
        AttentionNorm::None => (0, 0),
        // Queries and keys before they are scaled.
        AttentionNorm::QkRms => (2, 2),
        // Keys in float32 where the training is not.
        AttentionNorm::KeyL2 => (1, i64::from(!on_cpu)),
    };
    // Those that are turned take the place of those that are normalised.
    let made = if rotated { 2 } else { normalised };
    // Inputs of the three or four linear layers, query, key and value, and the result.
    let attention = 2 + 3 + made + 1;
    let scales = if settings.layer_scale.is_some() { 2 } else { 0 };
    let inner = match settings.feed_forward {
        // gate, up, and their product.
        FeedForwardKind::SwiGlu if fuses_gated_silu(device) => 3,
        // gate, silu(gate), up, and their product.
        FeedForwardKind::SwiGlu => 4,
        // up, and its GELU.
        FeedForwardKind::Gelu => 2,
    };
    Saved {
        halves: (attention + scales) * width + inner * hidden,
        floats: (sums + normalised_in_float) * width,
    }
}

/// Of the blocks of a half with `sizes`, for each position: all of them together, and one of them.
fn of_blocks(plan: &Plan, sizes: Sizes, device: Device) -> (Saved, Saved) {
    let block = of_block(&plan.block(sizes, 0), plan.rotation(sizes).is_some(), device);
    let inputs = Saved { halves: 0, floats: sizes.width * sizes.depth };
    (if plan.settings.checkpoint_blocks { inputs } else { block.times(sizes.depth) }, block)
}

/// Of the planned network on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Footprint {
    let patches = plan.grid().positions() as i64;
    let positions = patches + plan.settings.registers;
    let halves = [plan.encoder, plan.decoder];
    let blocks = halves.map(|sizes| of_blocks(plan, sizes, device));
    // A block that is computed again keeps all that it keeps otherwise, one at a time.
    let again = blocks.map(|(_, block)| block).into_iter().max_by_key(|block| block.halves);
    let again = again.filter(|_| plan.settings.checkpoint_blocks);
    // The vectors before the first block, and the sums before and after the last normalisation.
    let ends = halves.map(|Sizes { width, .. }| Saved { halves: width, floats: 2 * width });
    let parts = blocks.into_iter().map(|(all, _)| all).chain(ends).chain(again);
    let kept = parts.fold(Saved::default(), Saved::and).times(positions);
    let widest = halves.map(|Sizes { width, .. }| (3 * width).max(plan.settings.hidden(width)));
    let largest = widest.into_iter().max().unwrap_or_default() * positions;
    // The image, and the decoder's pixels before and after they are put in order and convolved.
    let pixels = plan.patch_numbers() * patches;
    Footprint {
        saved_per_image: kept.halves + 3 * pixels + AT_WORK * largest.max(pixels),
        saved_in_float_per_image: kept.floats + pixels,
    }
}
