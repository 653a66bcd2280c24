//! The order of the images in an epoch.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Dataset, Share};
use pixtok_base::seed::Seed;

/// The order of all images, as a function of (seed, epoch). The images of a folder are shuffled as
/// a whole. The tars of a data set are shuffled and read one after another, so that a disk reads
/// mostly sequentially; their images are then shuffled as if through a buffer of `window` images,
/// from which one is drawn at a time. Parquet files are shuffled in the same way by pages, with a
/// window that memory may limit.
pub(super) fn order(dataset: &Dataset, window: usize, seed: Seed, epoch: u64) -> Vec<u32> {
    let mut rng = seed.derive("order", &[epoch]).rng();
    let Some(mut shards) = dataset.shards(Share::whole()) else {
        let mut order: Vec<u32> = (0..dataset.len() as u32).collect();
        order.shuffle(&mut rng);
        return order;
    };
    shards.shuffle(&mut rng);
    let window = dataset.window(window);
    let mut order: Vec<u32> = shards.into_iter().flatten().collect();
    for next in 0..order.len() {
        // The images in the buffer start at `next`.
        let buffer = next..order.len().min(next.saturating_add(window));
        order.swap(next, rng.random_range(buffer));
    }
    order
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::Split;

    /// `images` empty files, in a folder or in `tars` tars.
    fn dataset(images: usize, tars: usize) -> (tempfile::TempDir, Dataset) {
        let root = tempfile::tempdir().unwrap();
        if tars == 0 {
            (0..images).for_each(|i| fs::write(root.path().join(format!("{i:04}.png")), b"").unwrap());
        }
        for tar in 0..tars {
            let mut builder = tar::Builder::new(vec![]);
            for i in 0..images / tars {
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                builder.append_data(&mut header, format!("{i:04}.png"), &b""[..]).unwrap();
            }
            fs::write(root.path().join(format!("{tar}.tar")), builder.into_inner().unwrap()).unwrap();
        }
        let dataset = Dataset::open(root.path(), Split::All).unwrap();
        (root, dataset)
    }

    #[test]
    fn orders_are_permutations_that_differ() {
        for tars in [0, 5] {
            let (_root, set) = dataset(1000, tars);
            for window in [1, 30, 5000] {
                let first = order(&set, window, Seed(5), 0);
                let mut sorted = first.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..1000));
                assert_eq!(first, order(&set, window, Seed(5), 0));
                assert_ne!(first, order(&set, window, Seed(5), 1));
                assert_ne!(first, order(&set, window, Seed(6), 0));
            }
        }
    }

    #[test]
    fn tars_come_one_after_the_other_within_the_window() {
        let (_root, set) = dataset(1000, 5);
        let tars = |order: &[u32]| -> Vec<u32> { order.iter().map(|image| image / 200).collect() };
        let plain = order(&set, 1, Seed(1), 0);
        let mut one_by_one = tars(&plain);
        one_by_one.dedup();
        assert_eq!(one_by_one.len(), 5);
        let mixed = order(&set, 30, Seed(1), 0);
        assert_ne!(mixed[..200], plain[..200]);
        // An image can come at most `window` places before its own place, but any number of places
        // after it.
        for (place, image) in plain.iter().enumerate() {
            let now = mixed.iter().position(|other| other == image).unwrap();
            assert!(now + 30 > place, "{place} {now}");
        }
    }
}
