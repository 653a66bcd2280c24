//! What a training step keeps in memory, estimated from the settings alone.

const FLOAT_BYTES: i64 = 4;

/// Numbers that one image leaves behind in the forward pass for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// In the precision of the training.
    pub saved_per_image: i64,
    /// In float32 whatever the precision.
    pub saved_in_float_per_image: i64,
    /// The largest single activation.
    pub largest_per_image: i64,
}

impl Footprint {
    /// Bytes of a micro-batch of `images` at `bytes_per_number` of the training's precision.
    #[must_use]
    pub fn activation_bytes(&self, images: i64, bytes_per_number: i64) -> i64 {
        let of_precision = self.saved_per_image + 4 * self.largest_per_image;
        (of_precision * bytes_per_number + self.saved_in_float_per_image * FLOAT_BYTES) * images
    }
}
