//! Reads the remaining samples of a job, in order.

use super::feed::Batching;
use super::{ExportError, Part};
use pixtok_images::data::{Sample, SampleStream};

/// Reads samples one after the other. Of samples in other parts and finished shards it reads only
/// the names.
pub(super) struct Reader {
    stream: Box<dyn SampleStream>,
    /// The number of samples seen so far.
    pub position: u64,
    from: u64,
    part: Part,
}

impl Reader {
    /// A reader of the samples of `stream` after the first `from`.
    pub fn new(stream: Box<dyn SampleStream>, from: u64, batching: &Batching) -> Self {
        Self { stream, position: 0, from, part: batching.part }
    }

    /// The next sample of this part, and the number of samples up to and including it; `None` at
    /// the end.
    pub fn read(&mut self) -> Result<Option<(u64, Box<Sample>)>, ExportError> {
        let Self { stream, position, from, part } = self;
        let mut wanted = |key: &str| {
            *position += 1;
            part.takes(key) && *position > *from
        };
        let sample = stream.next(&mut wanted)?;
        Ok(sample.map(|sample| (*position, Box::new(sample))))
    }
}
