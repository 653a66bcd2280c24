//! How much layers keep for the backward pass.

use tch::Device;

use pixtok_torch::fuses_norm_silu;

/// The numbers that a part of a network keeps for the backward pass: for each element, for each
/// position, or of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saved {
    /// Numbers in the precision of the training.
    pub halves: i64,
    /// Numbers in float32, whatever the precision.
    pub floats: i64,
}

impl Saved {
    /// The input of a convolution, or of a block of convolutions that is computed again.
    pub const INPUT: Self = Self { halves: 1, floats: 0 };

    /// A group norm, SiLU and a convolution, each of which keeps its input. If norm and SiLU are a
    /// single operation, SiLU's input is not kept. On CUDA, autocast computes group norms in
    /// float32, and so their results.
    #[must_use]
    pub fn by_layer(device: Device) -> Self {
        if fuses_norm_silu(device) { Self { halves: 2, floats: 0 } } else { Self { halves: 1, floats: 2 } }
    }

    /// The same for so many equal parts.
    #[must_use]
    pub fn times(self, times: i64) -> Self {
        Self { halves: self.halves * times, floats: self.floats * times }
    }

    /// The sum over both parts.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { halves: self.halves + other.halves, floats: self.floats + other.floats }
    }

    /// The larger of both.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        if other.halves + other.floats > self.halves + self.floats { other } else { self }
    }
}
