//! The share of a data set's images that each of several processes takes.

use super::Dataset;

/// The share of one of several processes that load the same data set.
///
/// If there are at least as many archives as processes, whole archives are dealt out, so that each
/// is read by only one process. Otherwise images are dealt out, one to each process in turn. Either
/// way the shares of a set have no image in common and together are the whole set.
///
/// If images are dealt out, the batches that the processes take at the same time hold together the
/// images that one process would take in a batch as large as all of them.
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

    /// The share of the archives; everything if images are dealt out.
    pub(super) fn of_files(self, dataset: &Dataset) -> Share {
        if self.is_by_file(dataset) { self } else { Self::whole() }
    }

    /// The share of the images of its archives, in any order; everything if archives are dealt out.
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

    /// The images of `order` that are dealt to this share.
    pub(super) fn deal(self, order: Vec<u32>) -> Vec<u32> {
        if self == Self::whole() {
            return order;
        }
        order.into_iter().skip(self.rank).step_by(self.size).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::data::Split;
    use crate::data::order::order;
    use crate::data::pass::Pass;
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

    #[test]
    fn a_list_is_dealt_out_if_it_is_long_enough() {
        let share = |rank, size| Share { rank, size }.of_list(&["a", "b", "c", "d", "e"]);
        assert_eq!([share(0, 2), share(1, 2)], [Some(vec!["a", "c", "e"]), Some(vec!["b", "d"])]);
        assert_eq!((share(4, 5), share(0, 6), share(0, 1)), (Some(vec!["e"]), None, None));
    }

    #[test]
    fn shares_have_nothing_in_common_and_are_the_whole_set() {
        for tars in [0, 1, 3, 5] {
            let root = tempfile::tempdir().unwrap();
            let set = dataset(root.path(), tars);
            let total = set.len();
            let train = Pass::Train { seed: Seed(4), window: 5 };
            for (pass, epoch) in [
                (train, 0),
                (train, 1),
                (Pass::Eval { images: total }, 0),
                (Pass::Eval { images: total / 2 }, 0),
            ] {
                for size in 1..=6 {
                    let shares: Vec<Vec<u32>> =
                        (0..size).map(|rank| pass.order(&set, Share { rank, size }, epoch)).collect();
                    let mut together = shares.concat();
                    together.sort_unstable();
                    let mut whole = pass.order(&set, Share::whole(), epoch);
                    if let Pass::Eval { images } = pass {
                        let by = |rank| set.evaluated_by(Share { rank, size }, Some(images));
                        let own = |rank: usize| shares[rank].iter().map(|&image| image as usize);
                        assert!((0..size).all(|rank| own(rank).eq(by(rank))));
                    }
                    let by_file = tars >= size;
                    if pass.is_endless() && size > 1 && !by_file {
                        // All shares have the same length, so some of the images are left out.
                        assert!(shares.iter().all(|share| share.len() == total / size));
                        let all = order(&set, 5, Seed(4), epoch, Share::whole());
                        whole = all[..total / size * size].to_vec();
                    }
                    whole.sort_unstable();
                    assert_eq!(together, whole, "{tars} tars, {size} processes");
                    // If there are enough archives, none is read by two processes.
                    let files = |share: &Vec<u32>| {
                        let of = |&image: &u32| {
                            (0..set.files()).find(|&file| set.images_of(file).contains(&(image as usize)))
                        };
                        share.iter().filter_map(of).collect::<BTreeSet<usize>>()
                    };
                    let readers: usize = shares.iter().map(|share| files(share).len()).sum();
                    assert_eq!(readers == files(&shares.concat()).len(), by_file || tars == 0 || size == 1);
                }
            }
        }
    }
}
