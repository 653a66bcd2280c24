//! The samples that a job has left, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::feed::{Batching, mirrored};
use super::{ExportError, Part};
use crate::data::{Sample, SampleStream, digest};

/// Reads samples one after the other, those of other parts and finished shards by name only.
pub(super) struct Reader {
    stream: Box<dyn SampleStream>,
    /// Samples seen so far.
    pub position: u64,
    from: u64,
    /// A digest of each key, to find two of one key: the one thing here that grows with the input.
    keys: HashSet<u128>,
    part: Part,
    mirrored: bool,
    stop: Arc<AtomicBool>,
}

impl Reader {
    /// Of the samples of `stream` after the first `from`.
    pub fn new(stream: Box<dyn SampleStream>, from: u64, batching: &Batching, stop: Arc<AtomicBool>) -> Self {
        let Batching { part, mirrored, .. } = *batching;
        Self { stream, position: 0, from, keys: HashSet::new(), part, mirrored, stop }
    }

    /// The next samples of this part, each with the number of samples up to and including it.
    pub fn read(&mut self, count: usize) -> Result<Vec<(u64, Sample)>, ExportError> {
        let mut samples = Vec::with_capacity(count);
        while samples.len() < count && !self.stop.load(Ordering::Relaxed) {
            let Self { stream, position, from, keys, part, mirrored: mirrors, .. } = self;
            let mut clash = None;
            let mut wanted = |key: &str| {
                *position += 1;
                if clash.is_some() || !part.takes(key) {
                    return false;
                }
                let new = keys.insert(digest(key)) && (!*mirrors || keys.insert(digest(&mirrored(key))));
                if !new {
                    clash = Some(key.to_owned());
                    // Taken, so that the stream returns here.
                    return true;
                }
                *position > *from
            };
            let sample = stream.next(&mut wanted)?;
            if let Some(key) = clash {
                return Err(ExportError::KeysClash(key));
            }
            match sample {
                Some(sample) => samples.push((self.position, sample)),
                None => break,
            }
        }
        Ok(samples)
    }
}
