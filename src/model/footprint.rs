//! What a training step keeps in memory, estimated from the plan alone.

use tch::Device;

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

/// What a norm, SiLU and convolution after each other keep per element: their inputs. Where norm and SiLU are one operation, on the
/// CPU, there is one input fewer.
const SAVED_BY_LAYER: i64 = 3;
/// What an attention keeps: the norm's input and output, query, key, value, and the result.
const SAVED_BY_ATTENTION: i64 = 6;

impl Footprint {
    /// Of a network on `device`, for images of `image_size` (height, width).
    ///
    /// # Errors
    /// As building the network.
    pub fn new(
        model: &Config,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
        device: Device,
    ) -> Result<Self, ModelError> {
        let plan = model.plan(quantizer, image_size)?;
        let layer = if device == Device::Cpu { SAVED_BY_LAYER - 1 } else { SAVED_BY_LAYER };
        let res_block = 2 * layer;
        let mut count = Footprint { saved_per_image: 0, largest_per_image: 0 };
        let mut pixels = image_size.0 * image_size.1;
        let finest = pixels;
        let both_halves = plan.res_blocks + plan.decoder_res_blocks;
        for stage in &plan.stages {
            let elements = stage.channels * pixels;
            let attention = if stage.attention { SAVED_BY_ATTENTION } else { 0 };
            count.add(elements, both_halves * (res_block + attention));
            // The inputs of the convolutions around a change of resolution: here going down, at the coarser width
            // and this resolution coming up.
            if stage.stride > 1 {
                count.add(elements, 2);
            }
            pixels /= stage.stride * stage.stride;
        }
        if plan.mid_attention {
            count.add(plan.coarsest_channels() * pixels, 2 * (2 * res_block + SAVED_BY_ATTENTION));
        }
        count.add(plan.coarsest_channels() * pixels, layer);
        count.add(plan.stages.first().map_or(1, |stage| stage.channels) * finest, layer);
        Ok(count)
    }

    fn add(&mut self, elements: i64, times: i64) {
        self.saved_per_image += elements * times;
        self.largest_per_image = self.largest_per_image.max(elements);
    }

    /// Bytes of a micro-batch of `images` at `bytes_per_number`.
    #[must_use]
    pub fn activation_bytes(&self, images: i64, bytes_per_number: i64) -> i64 {
        (self.saved_per_image + 4 * self.largest_per_image) * images * bytes_per_number
    }
}
