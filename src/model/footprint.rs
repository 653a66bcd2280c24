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
    /// The bytes of a micro-batch of `images`, with `bytes_per_number` in the training's precision.
    #[must_use]
    pub fn activation_bytes(&self, images: i64, bytes_per_number: i64) -> i64 {
        (self.saved_per_image * bytes_per_number + self.saved_in_float_per_image * FLOAT_BYTES) * images
    }
}

/// What the two halves of a network keep for each image.
#[derive(Debug, Clone, Copy)]
pub struct Halves {
    /// Of the encoder.
    pub encoder: Count,
    /// Of the decoder.
    pub decoder: Count,
}

impl Halves {
    /// An empty count. `recomputed`: whether the backward pass computes blocks again.
    #[must_use]
    pub fn new(recomputed: bool) -> Self {
        Self { encoder: Count::new(recomputed), decoder: Count::new(recomputed) }
    }

    /// Of both together. Only one layer is at work at a time, and only one block is computed again.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let Self { encoder, decoder } = self;
        let again = encoder.in_turn.or_more(decoder.in_turn);
        let saved = encoder.saved.and(decoder.saved).and(again);
        Footprint {
            saved_per_image: saved.halves + AT_WORK * encoder.largest.max(decoder.largest),
            saved_in_float_per_image: saved.floats,
        }
    }
}

/// What the layers of a half so far keep for each image.
#[derive(Debug, Clone, Copy, Default)]
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
    /// An empty count. `recomputed`: whether the backward pass computes blocks again.
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
            self.add_again(elements, saved);
            self.add(elements, Saved::INPUT.times(count));
        } else {
            self.add(elements, saved.times(count));
        }
    }

    /// A block that keeps `saved` for each of its `elements` while it is computed again.
    pub fn add_again(&mut self, elements: i64, saved: Saved) {
        self.in_turn = self.in_turn.or_more(saved.times(elements));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_work_in_turn_counts_once() {
        let half = |recomputed, elements| {
            let mut count = Count::new(recomputed);
            count.add(elements, Saved { halves: 2, floats: 1 });
            count.add_blocks(3, elements, Saved { halves: 5, floats: 0 });
            count
        };
        let of = |recomputed, encoder, decoder| {
            Halves { encoder: half(recomputed, encoder), decoder: half(recomputed, decoder) }.footprint()
        };
        let kept = Footprint { saved_per_image: 17 * 110 + AT_WORK * 100, saved_in_float_per_image: 110 };
        assert_eq!((of(false, 10, 100), of(false, 100, 10)), (kept, kept));
        let again = Footprint { saved_per_image: 5 * 110 + 5 * 100 + AT_WORK * 100, ..kept };
        assert_eq!((of(true, 10, 100), of(true, 100, 10)), (again, again));
    }
}
