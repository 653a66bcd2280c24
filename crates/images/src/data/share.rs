//! The share of a data set's images that each of several processes takes.

use super::Dataset;

/// The share of one of several processes that load the same data set.
///
/// In training, the processes divide each batch, so the order of the images does not depend on
/// their number. Of a batch of B images, which are next to each other in the order of the epoch,
/// process r of N takes the B / N images from place r·B / N on. So each process reads its own
/// images out of every archive, and for Parquet files it decodes the pages that hold its images.
///
/// In an evaluation, whole archives are dealt out if there are at least as many as processes, so
/// that each is read by only one process. Otherwise images are dealt out, one to each process in
/// turn. Either way the shares have no image in common and together are the whole set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of the process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
}

impl Share {
    /// The share of a single process: everything.
    #[must_use]
    pub fn whole() -> Self {
        Self { rank: 0, size: 1 }
    }

    /// Whether item `number` of things that are dealt out belongs to this share.
    pub(super) fn takes(self, number: usize) -> bool {
        number % self.size == self.rank
    }

    /// The images of this share in an `order` that is divided into batches of `batch_size` images,
    /// a multiple of the number of processes. Images at the end that do not fill a batch belong to
    /// no share.
    pub(super) fn of_batches(self, order: &[u32], batch_size: usize) -> Vec<u32> {
        let own = batch_size / self.size;
        let first = self.rank * own;
        order.chunks_exact(batch_size).flat_map(|batch| &batch[first..first + own]).copied().collect()
    }

    /// In an evaluation: the share of the archives; everything if images are dealt out.
    pub(super) fn of_files(self, dataset: &Dataset) -> Share {
        if self.is_by_file(dataset) { self } else { Self::whole() }
    }

    /// In an evaluation: the share of the images of its archives; everything if archives are dealt
    /// out.
    pub(super) fn of_images(self, dataset: &Dataset) -> Share {
        if self.is_by_file(dataset) { Self::whole() } else { self }
    }

    fn is_by_file(self, dataset: &Dataset) -> bool {
        !dataset.is_folder() && self.deals_files(dataset.files())
    }

    /// Whether whole archives are dealt out if there are this many.
    fn deals_files(self, files: usize) -> bool {
        files >= self.size
    }

    /// The archives of this share of a list of them; `None` if there are too few to deal out, or
    /// only one share.
    pub(super) fn of_list<T: Clone>(self, files: &[T]) -> Option<Vec<T>> {
        let own = || files.iter().skip(self.rank).step_by(self.size).cloned().collect();
        (self.size > 1 && self.deals_files(files.len())).then(own)
    }

    /// The `images` that are dealt to this share if they are dealt out one by one.
    pub(super) fn deal(self, images: impl Iterator<Item = u32>) -> Vec<u32> {
        images.skip(self.rank).step_by(self.size).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::data::order::order;
    use crate::data::pass::Pass;
    use crate::data::{Cursor, Split};
    use pixtok_base::seed::Seed;

    /// `images` empty files, in a folder or dealt to `tars` tars; each tar has one image more than
    /// the previous one.
    fn dataset(root: &Path, tars: usize) -> Dataset {
        if tars == 0 {
            (0..23).for_each(|image| fs::write(root.join(format!("{image:02}.png")), b"").unwrap());
        }
        for tar in 0..tars {
            let mut builder = tar::Builder::new(vec![]);
            for image in 0..tar + 7 {
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                builder.append_data(&mut header, format!("{image:02}.png"), &b""[..]).unwrap();
            }
            fs::write(root.join(format!("{tar}.tar")), builder.into_inner().unwrap()).unwrap();
        }
        Dataset::open(root, Split::All).unwrap()
    }

    /// The images of a share from the start of an epoch on.
    fn images(pass: Pass, set: &Dataset, share: Share, epoch: u64, own_batch: usize) -> Vec<u32> {
        pass.stream(set, share, Cursor { epoch, ..Cursor::default() }, own_batch).images
    }

    fn shares(size: usize, images: impl Fn(Share) -> Vec<u32>) -> Vec<Vec<u32>> {
        (0..size).map(|rank| images(Share { rank, size })).collect()
    }

    #[test]
    fn a_list_is_dealt_out_if_it_is_long_enough() {
        let share = |rank, size| Share { rank, size }.of_list(&["a", "b", "c", "d", "e"]);
        assert_eq!([share(0, 2), share(1, 2)], [Some(vec!["a", "c", "e"]), Some(vec!["b", "d"])]);
        assert_eq!((share(4, 5), share(0, 6), share(0, 1)), (Some(vec!["e"]), None, None));
    }

    #[test]
    fn shares_of_an_evaluation_have_nothing_in_common_and_are_the_whole_set() {
        for tars in [0, 1, 3, 5] {
            let root = tempfile::tempdir().unwrap();
            let set = dataset(root.path(), tars);
            let total = set.len();
            for pass in [Pass::Eval { images: total }, Pass::Eval { images: total / 2 }] {
                for size in 1..=6 {
                    let shares = shares(size, |share| images(pass, &set, share, 0, 4));
                    let mut together = shares.concat();
                    together.sort_unstable();
                    let whole = images(pass, &set, Share::whole(), 0, 4);
                    if let Pass::Eval { images } = pass {
                        let by = |rank| set.evaluated_by(Share { rank, size }, Some(images));
                        let own = |rank: usize| shares[rank].iter().map(|&image| image as usize);
                        assert!((0..size).all(|rank| own(rank).eq(by(rank))));
                    }
                    assert_eq!(together, whole, "{tars} tars, {size} processes");
                    // If there are enough archives, none is read by two processes.
                    let files = |share: &Vec<u32>| {
                        let of = |&image: &u32| {
                            (0..set.files()).find(|&file| set.images_of(file).contains(&(image as usize)))
                        };
                        share.iter().filter_map(of).collect::<BTreeSet<usize>>()
                    };
                    let readers: usize = shares.iter().map(|share| files(share).len()).sum();
                    let by_file = tars >= size;
                    assert_eq!(readers == files(&shares.concat()).len(), by_file || tars == 0 || size == 1);
                }
            }
        }
    }

    #[test]
    fn shares_of_a_batch_are_next_to_each_other() {
        for tars in [0, 5] {
            let root = tempfile::tempdir().unwrap();
            let set = dataset(root.path(), tars);
            let pass = Pass::Train { seed: Seed(4), window: 5 };
            for (size, epoch) in [(1, 0), (2, 0), (3, 1), (4, 2)] {
                let own = 12 / size;
                let shares = shares(size, |share| images(pass, &set, share, epoch, own));
                let whole = order(&set, 5, Seed(4), epoch);
                for (number, batch) in whole.chunks_exact(12).enumerate() {
                    let parts = shares.iter().flat_map(|share| &share[number * own..][..own]);
                    assert!(parts.eq(batch), "batch {number} of {size} processes");
                }
                if size > 1 {
                    assert!(shares.iter().all(|share| share.len() == whole.len() / 12 * own));
                }
            }
        }
    }
}
