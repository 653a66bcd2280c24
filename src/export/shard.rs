//! The current shard: takes rows and gives a finished shard.

use std::io::Write;
use std::path::Path;

use super::error::io_error;
use super::manifest::Entry;
use super::remarks::Remarks;
use super::{ExportError, Output};
use pixtok_base::Action;
use pixtok_tokens::{Dtype, Row, ShardWriter};

/// The zstd level at which compressed sizes are measured.
const ZSTD_LEVEL: i32 = 3;

/// The current shard.
pub(super) struct OpenShard {
    writer: Box<dyn ShardWriter>,
    /// The shard's line in the manifest.
    pub entry: Entry,
    zstd: zstd::stream::write::Encoder<'static, Counter>,
}

/// Counts the bytes written to it.
#[derive(Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl OpenShard {
    pub fn new(output: &Output) -> Result<Self, ExportError> {
        let zstd = zstd::stream::write::Encoder::new(Counter::default(), ZSTD_LEVEL);
        let zstd = zstd.map_err(io_error(Action::Compress, output.folder()))?;
        let entry = Entry {
            shard: 0,
            rows: 0,
            first_key: String::new(),
            last_key: String::new(),
            tokens: 0,
            files: vec![],
            zstd_bytes: 0,
            input_end: 0,
            skipped: vec![],
            remarks: Remarks::default(),
            kept: None,
        };
        Ok(Self { writer: output.begin()?, entry, zstd })
    }

    pub fn push(&mut self, row: &Row, dtype: Dtype) -> Result<(), ExportError> {
        self.writer.push(row)?;
        // Writing to a counter cannot fail.
        let counted = self.zstd.write_all(&dtype.to_bytes(&row.ids));
        counted.map_err(io_error(Action::Compress, Path::new(&row.key)))?;
        if self.entry.rows == 0 {
            self.entry.first_key.clone_from(&row.key);
        }
        self.entry.last_key.clone_from(&row.key);
        self.entry.rows += 1;
        self.entry.tokens += row.ids.len() as u64;
        Ok(())
    }

    pub fn close(self, output: &mut Output) -> Result<(), ExportError> {
        let Self { writer, mut entry, zstd } = self;
        entry.zstd_bytes = zstd.finish().map_err(io_error(Action::Compress, output.folder()))?.0;
        output.commit(writer, entry)
    }
}
