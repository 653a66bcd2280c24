//! Estimates what a training step of the network keeps in memory, only from the plan.

use pixtok_torch::fuses_norm_silu;
use tch::Device;

use super::config::{PixelDecoder, Positions, Sizes};
use super::plan::Plan;
use crate::model::Footprint;

/// The largest activations that exist at one time besides those that are kept.
const AT_WORK: i64 = 4;
/// Numbers of a token that a block keeps, as a multiple of its width: what goes into the linear
/// layers, queries, keys, values, and both sides of the activation.
const BLOCK: i64 = 14;
/// Queries and keys after they are turned.
const TURNED: i64 = 2;
/// What goes into both normalisations of a block, in float32.
const BLOCK_FLOATS: i64 = 2;
/// The width inside a feed-forward part, as a multiple of the width: the largest activation.
const HIDDEN: i64 = 4;
/// Tokens before and after the blocks, in float32: the parts that are put together, their sum with
/// positions, and what goes into the normalisations.
const ENDS: i64 = 4;
/// Pixels in float32: the input of the encoder, the patches of the decoder and its image.
const IMAGES: i64 = 3;

/// What the layers so far keep for each image.
#[derive(Default)]
struct Count {
    /// Numbers in the precision of the training.
    halves: i64,
    /// Numbers in float32, whatever the precision.
    floats: i64,
    /// The number of elements of the largest single activation.
    largest: i64,
}

impl Count {
    fn add(&mut self, elements: i64, halves: i64, floats: i64) {
        self.halves += halves * elements;
        self.floats += floats * elements;
        self.largest = self.largest.max(elements);
    }

    fn transformer(&mut self, plan: &Plan, sizes: Sizes) {
        let elements = (1 + plan.patches() + plan.tokens()) * sizes.width;
        let turned = if plan.settings.positions == Positions::Rope { TURNED } else { 0 };
        // Of blocks that are computed again only the input is kept, and one of them is at work.
        let (whole, inputs) =
            if plan.settings.checkpoint_blocks { (1, sizes.depth) } else { (sizes.depth, 0) };
        self.add(elements, (BLOCK + turned) * whole, BLOCK_FLOATS * whole + inputs + ENDS);
        self.largest = self.largest.max(HIDDEN * elements);
    }

    /// A norm, SiLU and a convolution keep their inputs. If norm and SiLU are a single operation,
    /// SiLU's input isn't kept. On CUDA, autocast computes norms and their results in float32.
    fn convolutions(&mut self, elements: i64, layers: i64, device: Device) {
        let (halves, floats) = if fuses_norm_silu(device) { (2, 0) } else { (1, 2) };
        self.add(elements, halves * layers, floats * layers);
    }

    fn pixel_decoder(&mut self, plan: &Plan, settings: &PixelDecoder, device: Device) {
        let patches = plan.patches();
        self.add(patches * (2 * plan.decoder.width + settings.codes + settings.code_dim), 1, 1);
        let layers = 2 * settings.res_blocks;
        let coarsest = settings.channels * settings.multipliers.last().copied().unwrap_or(1);
        self.convolutions(coarsest * patches, layers, device);
        let mut positions = patches;
        for (i, multiplier) in settings.multipliers.iter().enumerate().rev() {
            let elements = settings.channels * multiplier * positions;
            self.convolutions(elements, layers, device);
            if i > 0 {
                // The input of the convolution after the enlargement.
                positions *= 4;
                self.add(settings.channels * multiplier * positions, 1, 0);
            }
        }
        let finest = settings.channels * settings.multipliers.first().copied().unwrap_or(1);
        self.convolutions(finest * positions, 1, device);
    }
}

/// Of the planned network on `device`.
pub(super) fn of(plan: &Plan, device: Device) -> Footprint {
    let mut count = Count::default();
    count.transformer(plan, plan.encoder);
    count.transformer(plan, plan.decoder);
    count.add(3 * i64::from(plan.image.height) * i64::from(plan.image.width), 0, IMAGES);
    if let Some(settings) = &plan.pixel_decoder {
        count.pixel_decoder(plan, settings, device);
    }
    Footprint {
        saved_per_image: count.halves + AT_WORK * count.largest,
        saved_in_float_per_image: count.floats,
    }
}
