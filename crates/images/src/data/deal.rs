//! Deals an epoch's order to buckets: which images are in which batch.

use super::buckets::Buckets;

/// An image's place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// The index in the data set.
    pub image: u32,
    /// How many epochs ago it was the image's turn: above 0 if its pile was too low for a batch.
    pub ago: u32,
}

/// The batches of `epoch`, one after another, each of `batch_size` images of one bucket. `order`
/// gives the order of all images in an epoch.
///
/// A bucket has an endless sequence of images: its part of the order of epoch 0, of epoch 1, and so
/// on. Every `batch_size` of them are a batch. So with n images in the bucket, e·n mod B of them
/// wait at the beginning of epoch e. If n ≥ B, they are the last ones of the previous epoch. A
/// bucket with fewer images fills a batch only in some epochs, with all of its images and more than
/// once. Its order then has no meaning, so it is the ascending one, which takes no earlier orders.
pub(super) fn deal(
    buckets: &Buckets,
    batch_size: usize,
    epoch: u64,
    order: impl Fn(u64) -> Vec<u32>,
) -> Vec<Turn> {
    let count = buckets.sizes().len();
    let is_small = |bucket: usize| buckets.images_of(bucket).len() < batch_size;
    let waiting = |bucket: usize| (begun(buckets, bucket, epoch) % batch_size as u64) as usize;
    let mut heights: Vec<usize> = (0..count).map(waiting).collect();
    let mut piles: Vec<Vec<Turn>> = vec![vec![]; count];
    if (0..count).any(|bucket| heights[bucket] > 0 && !is_small(bucket)) {
        // Some image waits, so this is not the first epoch.
        for &image in order(epoch - 1).iter().rev() {
            let bucket = buckets.bucket_of(image);
            if !is_small(bucket) && piles[bucket].len() < heights[bucket] {
                piles[bucket].push(Turn { image, ago: 1 });
            }
        }
        piles.iter_mut().for_each(|pile| pile.reverse());
    }
    let mut batches = vec![];
    for image in order(epoch) {
        let bucket = buckets.bucket_of(image);
        heights[bucket] += 1;
        if !is_small(bucket) {
            piles[bucket].push(Turn { image, ago: 0 });
        }
        if heights[bucket] == batch_size {
            heights[bucket] = 0;
            if is_small(bucket) {
                batches.extend(round(buckets.images_of(bucket), batch_size, epoch));
            } else {
                batches.append(&mut piles[bucket]);
            }
        }
    }
    batches
}

/// The number of images of a bucket that had their turn before `epoch`.
fn begun(buckets: &Buckets, bucket: usize, epoch: u64) -> u64 {
    epoch * buckets.images_of(bucket).len() as u64
}

/// The batch of a small bucket that becomes full in `epoch`.
fn round(images: &[u32], batch_size: usize, epoch: u64) -> impl Iterator<Item = Turn> {
    let (own, batch_size) = (images.len() as u64, batch_size as u64);
    let first = epoch * own / batch_size * batch_size;
    (first..first + batch_size)
        .map(move |place| Turn { image: images[(place % own) as usize], ago: (epoch - place / own) as u32 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::seq::SliceRandom;

    use super::*;
    use crate::data::{Config, ImageSize};
    use pixtok_base::seed::Seed;

    const SIDES: [(u32, u32); 4] = [(64, 64), (64, 96), (96, 64), (32, 128)];

    /// Buckets with these numbers of images, whose indices are mixed.
    fn buckets(counts: &[usize]) -> Buckets {
        let sizes = SIDES.map(|(height, width)| ImageSize { height, width });
        let config = Config { buckets: Some(sizes.to_vec()), ..Config::default() };
        let of = |(bucket, &count): (usize, &usize)| vec![[SIDES[bucket].1, SIDES[bucket].0]; count];
        let mut pictures: Vec<[u32; 2]> = counts.iter().enumerate().flat_map(of).collect();
        pictures.shuffle(&mut Seed(9).rng());
        Buckets::new(&config, &pictures)
    }

    fn order(images: usize, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..images as u32).collect();
        order.shuffle(&mut Seed(4).derive("order", &[epoch]).rng());
        order
    }

    #[test]
    fn every_image_has_its_turn_once_an_epoch_in_batches_of_one_size() {
        for (counts, batch_size) in
            [([20, 13, 9, 5], 4), ([8, 8, 8, 8], 8), ([40, 1, 0, 7], 6), ([3, 2, 1, 1], 5), ([1, 0, 0, 0], 1)]
        {
            let (buckets, total) = (buckets(&counts), counts.iter().sum::<usize>());
            let (mut turns, mut dealt) = (BTreeMap::new(), 0);
            let epochs = 30;
            for epoch in 0..epochs {
                let batches = deal(&buckets, batch_size, epoch, |epoch| order(total, epoch));
                assert_eq!(batches, deal(&buckets, batch_size, epoch, |epoch| order(total, epoch)));
                assert_eq!(batches.len() % batch_size, 0);
                for batch in batches.chunks(batch_size) {
                    let bucket = buckets.bucket_of(batch[0].image);
                    assert!(batch.iter().all(|turn| buckets.bucket_of(turn.image) == bucket));
                    for turn in batch {
                        let own = epoch - u64::from(turn.ago);
                        *turns.entry((own, turn.image)).or_insert(0) += 1;
                    }
                }
                dealt += batches.len();
                // No more than a batch waits on any pile.
                let all = (epoch as usize + 1) * total;
                assert!(dealt <= all && all - dealt <= counts.len() * (batch_size - 1), "{counts:?}");
            }
            // Each image once for each epoch, and all of those before the last ones.
            assert!(turns.values().all(|&count| count == 1), "{counts:?}");
            let sure = epochs - batch_size as u64;
            let early = turns.keys().filter(|(epoch, _)| *epoch < sure).count();
            assert_eq!(early, sure as usize * total, "{counts:?}");
        }
    }

    #[test]
    fn full_buckets_show_every_image_once_in_each_epoch() {
        let buckets = buckets(&[8, 16, 4, 12]);
        let mut before = vec![];
        for epoch in 0..3 {
            let batches = deal(&buckets, 4, epoch, |epoch| order(40, epoch));
            let mut images: Vec<u32> = batches.iter().map(|turn| turn.image).collect();
            assert_ne!(images, before);
            before.clone_from(&images);
            images.sort_unstable();
            assert!(images.into_iter().eq(0..40) && batches.iter().all(|turn| turn.ago == 0));
        }
    }

    #[test]
    fn batches_come_in_the_order_in_which_they_become_full() {
        let buckets = buckets(&[10, 10, 0, 0]);
        let order = order(20, 0);
        let batches = deal(&buckets, 5, 0, |_| order.clone());
        let place = |turn: &Turn| order.iter().position(|image| *image == turn.image).unwrap();
        let lasts: Vec<usize> = batches.chunks(5).map(|batch| place(&batch[4])).collect();
        assert!(lasts.is_sorted() && lasts.len() == 4);
        for batch in batches.chunks(5) {
            assert!(batch.iter().map(place).is_sorted());
        }
    }
}
