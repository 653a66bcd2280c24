//! What a training step keeps in memory, as a network's plan estimates it.

use crate::layers::Saved;

const FLOAT_BYTES: i64 = 4;

/// The largest activations that exist at one time besides those that are kept: inputs, results and
/// gradients of a layer at work.
const AT_WORK: i64 = 4;

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

/// What the layers so far keep for each image.
#[derive(Debug, Default)]
pub struct Count {
    saved: Saved,
    /// The number of elements of the largest single activation.
    largest: i64,
    /// Whether the backward pass computes blocks again.
    recomputed: bool,
    /// What the largest block keeps while it is computed again.
    in_turn: Saved,
}

impl Count {
    /// Of no layer yet. `recomputed`: whether the backward pass computes blocks again.
    #[must_use]
    pub fn new(recomputed: bool) -> Self {
        Self { recomputed, ..Self::default() }
    }

    /// Layers that keep `saved` for each of their `elements`.
    pub fn add(&mut self, elements: i64, saved: Saved) {
        self.saved = self.saved.and(saved.times(elements));
        self.at_work(elements);
    }

    /// A layer whose largest activation has so many elements.
    pub fn at_work(&mut self, elements: i64) {
        self.largest = self.largest.max(elements);
    }

    /// `count` blocks that keep `saved` for each of their `elements`.
    pub fn add_blocks(&mut self, count: i64, elements: i64, saved: Saved) {
        if self.recomputed {
            self.in_turn = self.in_turn.or_more(saved.times(elements));
            self.add(elements, Saved::INPUT.times(count));
        } else {
            self.add(elements, saved.times(count));
        }
    }

    /// All parts so far.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let saved = self.saved.and(self.in_turn);
        Footprint {
            saved_per_image: saved.halves + AT_WORK * self.largest,
            saved_in_float_per_image: saved.floats,
        }
    }
}
