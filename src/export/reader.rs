//! Reads the remaining samples of a job, in order.

use super::feed::Batching;
use super::{ExportError, Subset};
use pixtok_images::data::{Sample, SampleStream};

/// Reads samples one after the other. Of samples that are not in its subset or are in finished
/// shards it reads only the names.
pub(super) struct Reader {
    stream: Box<dyn SampleStream>,
    /// The number of samples seen so far.
    pub position: u64,
    from: u64,
    subset: Subset,
}

impl Reader {
    /// A reader of the samples of `stream` after the first `from`.
    pub fn new(stream: Box<dyn SampleStream>, from: u64, batching: &Batching) -> Self {
        Self { stream, position: 0, from, subset: batching.subset }
    }

    /// The next sample of the subset, and the number of samples up to and including it; `None` at
    /// the end.
    pub fn read(&mut self) -> Result<Option<(u64, Box<Sample>)>, ExportError> {
        let Self { stream, position, from, subset } = self;
        let mut wanted = |key: &str| {
            *position += 1;
            subset.takes(key) && *position > *from
        };
        let sample = stream.next(&mut wanted)?;
        Ok(sample.map(|sample| (*position, Box::new(sample))))
    }
}
