//! Telling whether a data set is the one that a run began with.

use std::fs;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// The most files whose size and time are queried. A larger folder is sampled, since querying a
/// million files takes minutes on a network disk.
pub(super) const MOST_FILES: usize = 100_000;

/// Hashes (blake3, hexadecimal) of what can be known about images without reading them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Hash of the images' names; for archives also of the images' places and sizes.
    names: String,
    /// Hash of the files' sizes: of all archives, or of up to 100,000 files of a folder, evenly
    /// spaced in its list.
    sizes: String,
    /// Hash of the same files' modification times.
    times: String,
}

/// How two data sets differ, as far as their fingerprints tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Other images, or the same ones at other places in their archives.
    Names,
    /// The same names, but other file sizes.
    Sizes,
    /// The same names and sizes, but other modification times: the files were copied or changed.
    Times,
}

impl Fingerprint {
    /// Takes the fingerprint of `count` files, whose metadata `meta` queries. `names` is the hash of
    /// their list.
    pub(super) fn new(
        names: String,
        count: usize,
        mut meta: impl FnMut(usize) -> Option<fs::Metadata>,
    ) -> Self {
        let (mut sizes, mut times) = (blake3::Hasher::new(), blake3::Hasher::new());
        for index in (0..count).step_by(count.div_ceil(MOST_FILES).max(1)) {
            // A broken link is a bad image, not a bad folder.
            let meta = meta(index);
            let time = meta.as_ref().and_then(|meta| meta.modified().ok());
            let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            sizes.update(&meta.map_or(0, |meta| meta.len()).to_le_bytes());
            times.update(&time.unwrap_or_default().as_nanos().to_le_bytes());
        }
        let hex = |hasher: blake3::Hasher| hasher.finalize().to_hex().to_string();
        Self { names, sizes: hex(sizes), times: hex(times) }
    }

    /// The most serious difference, if any.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        if self.names != other.names {
            Some(Difference::Names)
        } else if self.sizes != other.sizes {
            Some(Difference::Sizes)
        } else if self.times != other.times {
            Some(Difference::Times)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn differences_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let path = |index: usize| root.path().join(index.to_string());
        let print = |names: &str| Fingerprint::new(names.into(), 3, |index| fs::metadata(path(index)).ok());
        let write = |index: usize, bytes: &[u8], seconds: u64| {
            fs::write(path(index), bytes).unwrap();
            let file = fs::File::options().write(true).open(path(index)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        write(0, b"one", 1);
        write(1, b"two", 2);
        let before = print("a");
        assert_eq!(print("a").difference(&before), None);
        assert_eq!(print("b").difference(&before), Some(Difference::Names));
        write(1, b"TWO", 9);
        assert_eq!(print("a").difference(&before), Some(Difference::Times));
        write(1, b"three", 2);
        assert_eq!(print("a").difference(&before), Some(Difference::Sizes));
    }

    #[test]
    fn a_large_folder_is_sampled() {
        let mut asked = 0;
        let _ = Fingerprint::new(String::new(), 250_000, |_| {
            asked += 1;
            None
        });
        assert_eq!(asked, 83_334);
    }
}
