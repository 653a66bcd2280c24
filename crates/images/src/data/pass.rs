//! Which images come next: an endless shuffled order, or one pass from first to last.

use super::order::order;
use super::{Cursor, Dataset, Share};
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
    /// The images that `share` takes of the epoch of `start`, and where in them it goes on. In
    /// training, `batch_size` is the number of its images in a batch.
    pub(super) fn stream(self, dataset: &Dataset, share: Share, start: Cursor, batch_size: usize) -> Stream {
        match self {
            Self::Train { seed, window } => {
                let order = order(dataset, window, seed, start.epoch);
                if share == Share::whole() {
                    Stream::of_one(order, start)
                } else {
                    Stream::of_several(&order, share, start, batch_size)
                }
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
                Stream::of_one(share.of_images(dataset).deal(places.filter(owned)), start)
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

/// The images of an epoch that one process takes, one after another.
#[derive(Debug)]
pub(super) struct Stream {
    pub epoch: u64,
    /// Their indices in the data set.
    pub images: Vec<u32>,
    /// The place in `images` from which the process goes on.
    pub first: usize,
    /// The position in the epoch's order at which `images` begins.
    position: usize,
    /// A cursor's position moves on by the first number when this process has taken the second
    /// number of images. With several processes, these are a whole batch and its share of it.
    strides: (usize, usize),
}

impl Stream {
    /// The stream of a single process: `order` itself. It leaves nothing out, so that it gets as
    /// many batches as possible if images are bad.
    fn of_one(order: Vec<u32>, start: Cursor) -> Self {
        let first = order.len().min(start.position as usize);
        Self { epoch: start.epoch, images: order, first, position: 0, strides: (1, 1) }
    }

    /// The share of the whole batches that fit into `order` from the position of `start` on.
    fn of_several(order: &[u32], share: Share, start: Cursor, own: usize) -> Self {
        let position = order.len().min(start.position as usize);
        let batch = own * share.size;
        let images = share.of_batches(&order[position..], batch);
        let first = images.len().min(start.ahead as usize);
        Self { epoch: start.epoch, images, first, position, strides: (batch, own) }
    }

    /// The cursor after the images before place `taken` of `images`.
    pub fn cursor(&self, taken: usize) -> Cursor {
        let (batch, own) = self.strides;
        let position = self.position + taken / own * batch;
        Cursor { epoch: self.epoch, position: position as u64, ahead: (taken % own) as u64 }
    }

    /// Whether it goes on from the start of the epoch.
    pub fn is_from_start(&self) -> bool {
        self.position + self.first == 0
    }
}

/// The index in a data set of `total` images of the `k`-th of `images` images (at most `total`)
/// that are spread evenly over it.
pub(super) fn spread(k: usize, images: usize, total: usize) -> usize {
    (k as u128 * total as u128 / images as u128) as usize
}
