//! Fingerprints that show whether a data set is the one that a run began with.

use std::fs;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// The most files whose size and time are queried. A larger folder is sampled, since querying a
/// million files takes minutes on a network disk.
pub(super) const MOST_FILES: usize = 100_000;

/// The indices of the files to query, of `count`: evenly spaced if there are too many.
pub(super) fn queried(count: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(count.div_ceil(MOST_FILES).max(1))
}

/// Hashes (blake3, hexadecimal) of what is known about images without reading them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Recorded")]
pub struct Fingerprint {
    /// Hash of the images' names; for archives also of the images' places and sizes.
    names: String,
    /// Hash of the files' sizes: of all archives, or of up to 100,000 evenly spaced files of a
    /// folder. Absent in records of versions that kept only names.
    #[serde(skip_serializing_if = "Option::is_none")]
    sizes: Option<String>,
    /// Hash of the same files' modification times; absent in the same records.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<String>,
}

/// A fingerprint as records hold it.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Recorded {
    /// From versions that kept only names.
    Names(String),
    /// With its parts.
    Parts {
        names: String,
        #[serde(default)]
        sizes: Option<String>,
        #[serde(default)]
        times: Option<String>,
    },
}

impl From<Recorded> for Fingerprint {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Names(names) => Self { names, sizes: None, times: None },
            Recorded::Parts { names, sizes, times } => Self { names, sizes, times },
        }
    }
}

/// How two data sets differ, as far as their fingerprints show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Different images, or the same ones at different places in their archives.
    Names,
    /// The same names, but different file sizes.
    Sizes,
    /// The same names and sizes, but different modification times: the files were copied or
    /// changed.
    Times,
    /// The same names, but one of the two fingerprints has no sizes.
    Unknown,
}

impl Difference {
    /// What changed, if the images differ for certain.
    #[must_use]
    pub fn change(self) -> Option<&'static str> {
        match self {
            Self::Names => Some("their list changed"),
            Self::Sizes => Some("some sizes differ"),
            Self::Times | Self::Unknown => None,
        }
    }

    /// The reason why the files in `folder` may be different images, if this is not certain.
    #[must_use]
    pub fn doubt(self, folder: &str) -> Option<String> {
        match self {
            Self::Names | Self::Sizes => None,
            Self::Times => Some(format!(
                "files in {folder} have new modification times; names and sizes match, so they are \
                 assumed to be the same images"
            )),
            Self::Unknown => Some(format!(
                "of the files in {folder} an older pixtok recorded names only; they match, and sizes \
                 were not compared"
            )),
        }
    }
}

impl Fingerprint {
    /// The names and sizes alone: copies of the images have other times.
    #[must_use]
    pub fn without_times(&self) -> String {
        format!("{} {}", self.names, self.sizes.as_deref().unwrap_or_default())
    }

    /// The fingerprint of `count` files, whose metadata `meta` reads. `names` is the hash of their
    /// list.
    pub(super) fn new(
        names: String,
        count: usize,
        mut meta: impl FnMut(usize) -> Option<fs::Metadata>,
    ) -> Self {
        let (mut sizes, mut times) = (blake3::Hasher::new(), blake3::Hasher::new());
        for index in queried(count) {
            // A broken link is a bad image; the folder itself is fine.
            let meta = meta(index);
            let time = meta.as_ref().and_then(|meta| meta.modified().ok());
            let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            sizes.update(&meta.map_or(0, |meta| meta.len()).to_le_bytes());
            times.update(&time.unwrap_or_default().as_nanos().to_le_bytes());
        }
        let hex = |hasher: blake3::Hasher| hasher.finalize().to_hex().to_string();
        Self { names, sizes: Some(hex(sizes)), times: Some(hex(times)) }
    }

    /// A hash (blake3, hexadecimal) of the images' names and their files' sizes. It does not depend
    /// on modification times or on the location of the images.
    #[must_use]
    pub fn of_images(&self) -> String {
        let sizes = self.sizes.as_deref().unwrap_or_default();
        blake3::hash(format!("{}\n{sizes}", self.names).as_bytes()).to_hex().to_string()
    }

    /// The hash of the files' sizes; `None` for a record without it.
    pub(super) fn sizes(self) -> Option<String> {
        self.sizes
    }

    /// The most serious difference, if any.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        if self.names != other.names {
            Some(Difference::Names)
        } else if self.sizes.is_none() || other.sizes.is_none() {
            Some(Difference::Unknown)
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
    fn a_difference_is_a_change_or_a_doubt() {
        for difference in [Difference::Names, Difference::Sizes, Difference::Times, Difference::Unknown] {
            let (change, doubt) = (difference.change(), difference.doubt("val"));
            assert!(change.is_some() != doubt.is_some(), "{difference:?}");
            assert!(doubt.is_none_or(|doubt| doubt.contains("in val ")), "{difference:?}");
        }
    }

    #[test]
    fn records_say_what_they_hold_and_older_ones_are_compared_by_names() {
        let whole = Fingerprint::new("a".into(), 0, |_| None);
        let json = serde_json::to_value(&whole).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["names", "sizes", "times"]);
        let read = |json: serde_json::Value| serde_json::from_value::<Fingerprint>(json);
        assert_eq!(read(json).unwrap(), whole);
        let older = read("a".into()).unwrap();
        assert_eq!(whole.difference(&older), Some(Difference::Unknown));
        assert_eq!(whole.difference(&read("b".into()).unwrap()), Some(Difference::Names));
        assert!(read(serde_json::json!({ "names": "a", "colours": "b" })).is_err());
    }

    #[test]
    fn the_hash_of_the_images_leaves_out_times() {
        let of = |names: &str, sizes: &str, times: &str| {
            let json = serde_json::json!({ "names": names, "sizes": sizes, "times": times });
            serde_json::from_value::<Fingerprint>(json).unwrap().of_images()
        };
        assert_eq!(of("a", "s", "t"), of("a", "s", "later"));
        assert_ne!(of("a", "s", "t"), of("a", "other", "t"));
        assert_ne!(of("a", "s", "t"), of("b", "s", "t"));
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
