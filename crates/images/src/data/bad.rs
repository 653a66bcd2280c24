//! Files that cannot be used. Each is counted once, up to a limit.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use pixtok_base::{Class, Classified};

/// The number of bad files that an error message names.
const EXAMPLES: usize = 3;

/// A file that cannot be decoded to a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadSample {
    /// Its name in the data set: the path relative to its folder, or the file name of its tar, `/`,
    /// and its name in the tar.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// More files are bad than the settings allow.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{count} of {total} images ({:.2} %) cannot be used, more than data.max_bad_fraction = {limit} allows; \
     {}; repair or remove them, or raise data.max_bad_fraction",
    100.0 * *count as f64 / (*total).max(1) as f64,
    examples(first)
)]
pub struct TooManyBad {
    /// The number of different bad files seen so far.
    pub count: usize,
    /// The number of files in the data set.
    pub total: usize,
    /// The allowed fraction of bad files.
    pub limit: f64,
    /// The first few bad files.
    pub first: Vec<BadSample>,
}

impl Classified for TooManyBad {
    fn class(&self) -> Class {
        Class::BadData
    }
}

/// `for instance NAME: REASON; …`, for the first few files.
pub(super) fn examples(bad: &[BadSample]) -> String {
    let shown: Vec<String> =
        bad.iter().take(EXAMPLES).map(|sample| format!("{}: {}", sample.name, sample.reason)).collect();
    format!("for instance {}", shown.join("; "))
}

/// The different bad files of a data set that a run has met so far.
#[derive(Debug, Clone)]
pub struct BadSamples {
    total: usize,
    limit: f64,
    names: HashSet<String>,
    first: Vec<BadSample>,
}

impl BadSamples {
    /// No bad files yet, in a data set of `total` files, of which `max_bad_fraction` may be bad. A
    /// resumed run records the files of its list again.
    #[must_use]
    pub fn new(total: usize, max_bad_fraction: f64) -> Self {
        Self { total, limit: max_bad_fraction, names: HashSet::new(), first: Vec::new() }
    }

    /// Counts `sample`. Returns true if it is new.
    pub fn record(&mut self, sample: &BadSample) -> bool {
        let new = self.names.insert(sample.name.clone());
        if new && self.first.len() < EXAMPLES {
            self.first.push(sample.clone());
        }
        new
    }

    /// The number of different bad files so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Checks that the run may go on.
    ///
    /// # Errors
    /// When more than the allowed fraction of the data set is bad.
    pub fn check(&self) -> Result<(), TooManyBad> {
        if self.count() as f64 <= self.limit * self.total as f64 {
            return Ok(());
        }
        Err(TooManyBad {
            count: self.count(),
            total: self.total,
            limit: self.limit,
            first: self.first.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> BadSample {
        BadSample { name: name.to_owned(), reason: "broken PNG".to_owned() }
    }

    #[test]
    fn files_count_once_and_the_limit_is_exact() {
        let mut bad = BadSamples::new(200, 0.01);
        assert!(bad.record(&sample("a.png")));
        assert!(!bad.record(&sample("a.png")));
        assert!(bad.record(&sample("b.png")));
        assert_eq!(bad.check(), Ok(()));
        assert!(bad.record(&sample("c.png")));
        let message = bad.check().unwrap_err().to_string();
        for part in ["3 of 200", "1.50 %", "max_bad_fraction = 0.01", "a.png: broken PNG"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn none_allowed_and_all_allowed() {
        let mut strict = BadSamples::new(10, 0.0);
        assert_eq!(strict.check(), Ok(()));
        strict.record(&sample("a.png"));
        assert!(strict.check().is_err());
        let mut lax = BadSamples::new(1, 1.0);
        lax.record(&sample("a.png"));
        assert_eq!(lax.check(), Ok(()));
    }
}
