//! The samples that a job has left, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::feed::Batching;
use super::{ExportError, Part};
use pixtok_images::data::{Sample, SampleStream};

/// Reads samples one after the other, those of other parts and finished shards by name only.
pub(super) struct Reader {
    stream: Box<dyn SampleStream>,
    /// Samples seen so far.
    pub position: u64,
    from: u64,
    part: Part,
    stop: Arc<AtomicBool>,
}

impl Reader {
    /// Of the samples of `stream` after the first `from`.
    pub fn new(stream: Box<dyn SampleStream>, from: u64, batching: &Batching, stop: Arc<AtomicBool>) -> Self {
        Self { stream, position: 0, from, part: batching.part, stop }
    }

    /// The next samples of this part, each with the number of samples up to and including it.
    pub fn read(&mut self, count: usize) -> Result<Vec<(u64, Sample)>, ExportError> {
        let mut samples = Vec::with_capacity(count);
        while samples.len() < count && !self.stop.load(Ordering::Relaxed) {
            let Self { stream, position, from, part, .. } = self;
            let mut wanted = |key: &str| {
                *position += 1;
                part.takes(key) && *position > *from
            };
            match stream.next(&mut wanted)? {
                Some(sample) => samples.push((self.position, sample)),
                None => break,
            }
        }
        Ok(samples)
    }
}
