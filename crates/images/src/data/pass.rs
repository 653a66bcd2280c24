//! Which images come next: an endless shuffled order, or one pass from first to last.

use super::order::order;
use super::{Dataset, Share};
use pixtok_base::seed::Seed;

/// Where the images of the batches come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
    /// Epoch after epoch, each in its own order; what fills no batch is dropped.
    Train {
        /// Of the orders and of the augmentation.
        seed: Seed,
        /// Of the order of tars.
        window: usize,
    },
    /// Once, so many images, spread evenly over the data set, in index order; the last batch may be smaller.
    Eval {
        /// At most as many as there are.
        images: usize,
    },
}

impl Pass {
    /// The images of an epoch that belong to `share`, in their order.
    pub(super) fn order(self, dataset: &Dataset, share: Share, epoch: u64) -> Vec<u32> {
        match self {
            Self::Train { seed, window } => {
                let mut order = order(dataset, window, seed, epoch, share);
                // As many for each process, or some would begin the next epoch a batch before the others. What is left
                // out would fill no batch of all of them together.
                if share.of_images(dataset) != Share::whole() {
                    order.truncate(dataset.len() / share.size);
                }
                order
            }
            Self::Eval { images } => {
                let total = dataset.len();
                let own = dataset.images_of_share(share.of_files(dataset));
                let places = (0..images).map(|k| spread(k, images, total) as u32);
                let owned = |place: &u32| {
                    own[own.partition_point(|range| range.end <= *place)..]
                        .first()
                        .is_some_and(|range| range.contains(place))
                };
                share.of_images(dataset).deal(places.filter(owned).collect())
            }
        }
    }

    /// What the random choices for an image come from: its own seed, whatever its place in a batch and whichever
    /// process loads it. Evaluation makes no random choice.
    pub(super) fn seed(self, epoch: u64, image: usize) -> Seed {
        match self {
            Self::Train { seed, .. } => seed.derive("augment", &[epoch, image as u64]),
            Self::Eval { .. } => Seed(0),
        }
    }

    /// Whether one epoch follows the other.
    pub(super) fn is_endless(self) -> bool {
        matches!(self, Self::Train { .. })
    }
}

/// The place in a data set of `total` images of the `k`-th of `images` images (at most `total`)
/// that are spread evenly over it.
pub(super) fn spread(k: usize, images: usize, total: usize) -> usize {
    (k as u128 * total as u128 / images as u128) as usize
}
