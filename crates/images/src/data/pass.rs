//! Which images come next: an endless shuffled order, or one pass from first to last.

use super::order::order;
use super::{Dataset, Share};
use pixtok_base::seed::Seed;

/// The source of the images of the batches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
    /// Epoch after epoch, each in its own order. Images that don't fill a batch are dropped.
    Train {
        /// The seed of the orders and of the augmentation.
        seed: Seed,
        /// The shuffle window for archives.
        window: usize,
    },
    /// One pass over this number of images, spread evenly over the data set, in index order. The
    /// last batch may be smaller.
    Eval {
        /// The number of images, at most as many as there are.
        images: usize,
    },
}

impl Pass {
    /// The images of an epoch that belong to `share`, in their order.
    pub(super) fn order(self, dataset: &Dataset, share: Share, epoch: u64) -> Vec<u32> {
        match self {
            Self::Train { seed, window } => {
                let mut order = order(dataset, window, seed, epoch, share);
                // The same number for each process; otherwise some would start the next epoch one
                // batch before the others. The images left out would not fill a batch of all
                // processes together.
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

    /// The seed of the random choices for an image. It depends neither on the image's place in a
    /// batch nor on the process that loads it. Evaluation makes no random choices.
    pub(super) fn seed(self, epoch: u64, image: usize) -> Seed {
        match self {
            Self::Train { seed, .. } => seed.derive("augment", &[epoch, image as u64]),
            Self::Eval { .. } => Seed(0),
        }
    }

    /// Whether one epoch follows another.
    pub(super) fn is_endless(self) -> bool {
        matches!(self, Self::Train { .. })
    }
}

/// The index in a data set of `total` images of the `k`-th of `images` images (at most `total`)
/// that are spread evenly over it.
pub(super) fn spread(k: usize, images: usize, total: usize) -> usize {
    (k as u128 * total as u128 / images as u128) as usize
}
