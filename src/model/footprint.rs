//! What a training step keeps in memory, as a network's plan estimates it.

const FLOAT_BYTES: i64 = 4;

/// The numbers that a training step keeps for each image, for the backward pass and on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Numbers in the precision of the training.
    pub saved_per_image: i64,
    /// Numbers in float32, whatever the precision.
    pub saved_in_float_per_image: i64,
}

impl Footprint {
    /// Of a network with one half of this network and one of `other`, whose halves keep about the
    /// same each.
    #[must_use]
    pub fn half_with(self, other: Self) -> Self {
        Self {
            saved_per_image: (self.saved_per_image + other.saved_per_image) / 2,
            saved_in_float_per_image: (self.saved_in_float_per_image + other.saved_in_float_per_image) / 2,
        }
    }

    /// The bytes of a micro-batch of `images`, with `bytes_per_number` in the training's precision.
    #[must_use]
    pub fn activation_bytes(&self, images: i64, bytes_per_number: i64) -> i64 {
        (self.saved_per_image * bytes_per_number + self.saved_in_float_per_image * FLOAT_BYTES) * images
    }
}
