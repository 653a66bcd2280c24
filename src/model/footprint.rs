//! What a training step keeps in memory, estimated from the plan alone.

use super::plan::{Config, ModelError};
use crate::quantizer::QuantizerConfig;

/// Numbers that one image leaves behind in the forward pass for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Kept until the backward pass.
    pub saved_per_image: i64,
    /// The largest single activation.
    pub largest_per_image: i64,
}

/// What a residual block keeps per element of its width: the inputs of both norms, SiLUs and convolutions.
const SAVED_BY_RES_BLOCK: i64 = 6;
/// What an attention keeps: the norm's input and output, query, key, value, and the result.
const SAVED_BY_ATTENTION: i64 = 6;
/// What norm, SiLU and the last convolution keep.
const SAVED_BY_HEAD: i64 = 3;

impl Footprint {
    /// Of a network on images of `image_size` (height, width).
    ///
    /// # Errors
    /// As building the network.
    pub fn new(
        model: &Config,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Self, ModelError> {
        let plan = model.plan(quantizer, image_size)?;
        let mut count = Footprint { saved_per_image: 0, largest_per_image: 0 };
        let mut pixels = image_size.0 * image_size.1;
        let finest = pixels;
        let both_halves = plan.res_blocks + plan.decoder_res_blocks;
        for stage in &plan.stages {
            let elements = stage.channels * pixels;
            let attention = if stage.attention { SAVED_BY_ATTENTION } else { 0 };
            count.add(elements, both_halves * (SAVED_BY_RES_BLOCK + attention));
            // The inputs of the convolutions around a change of resolution: here going down, at the coarser width
            // and this resolution coming up.
            if stage.stride > 1 {
                count.add(elements, 2);
            }
            pixels /= stage.stride * stage.stride;
        }
        if plan.mid_attention {
            count.add(plan.coarsest_channels() * pixels, 2 * (2 * SAVED_BY_RES_BLOCK + SAVED_BY_ATTENTION));
        }
        count.add(plan.coarsest_channels() * pixels, SAVED_BY_HEAD);
        count.add(plan.stages.first().map_or(1, |stage| stage.channels) * finest, SAVED_BY_HEAD);
        Ok(count)
    }

    fn add(&mut self, elements: i64, times: i64) {
        self.saved_per_image += elements * times;
        self.largest_per_image = self.largest_per_image.max(elements);
    }

    /// Bytes of a training step: activations of one micro-batch at `bytes_per_number`, and weights, gradients and two
    /// moments (and the average) of `parameters` in float32.
    #[must_use]
    pub fn training_bytes(&self, images: i64, bytes_per_number: i64, parameters: i64, averaged: bool) -> i64 {
        let activations = (self.saved_per_image + 4 * self.largest_per_image) * images * bytes_per_number;
        activations + parameters * 4 * if averaged { 5 } else { 4 }
    }
}
