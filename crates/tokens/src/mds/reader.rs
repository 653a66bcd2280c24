//! Reading MDS samples.

use super::super::indexed::{Items, ItemsAt};
use super::super::reading::{Source, SourceAt};
use super::super::{Dtype, Grid, Layout, Row, TokensError};

/// Splits an array into its shape and its values.
pub(super) fn split_shape(array: &[u8]) -> Option<(Vec<u64>, &[u8])> {
    let (&first, rest) = array.split_first()?;
    let (axes, bytes) = (usize::from(first >> 2), 1 << (first & 3));
    let (shape, values) = rest.split_at_checked(axes * bytes)?;
    let shape = shape.chunks_exact(bytes).map(|axis| {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(axis);
        u64::from_le_bytes(number)
    });
    Some((shape.collect(), values))
}

/// The structure of samples.
pub(super) struct Samples {
    layout: Layout,
    shape: Option<Vec<u64>>,
}

impl Samples {
    /// The structure of samples for `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), shape: layout.constant_shape() }
    }

    /// Parses the sample of row `number`.
    fn row(&self, number: u64, sample: &[u8]) -> Result<Row, String> {
        self.columns(sample).map_err(|reason| format!("row {number}: {reason}"))
    }

    fn columns(&self, sample: &[u8]) -> Result<Row, &'static str> {
        let mut columns = Columns(sample);
        let lengths = [columns.length()?, columns.length()?, columns.length()?];
        let dtype = self.layout.dtype;
        let tokens = match self.shape {
            Some(_) => self.layout.length.unwrap_or(0) as usize * dtype.bytes(),
            None => columns.length()?,
        };
        let (h, height) = (columns.count()?, columns.count()?);
        let (json, key) = (columns.text(lengths[0])?, columns.text(lengths[1])?);
        let label = columns.whole()?;
        let text = columns.text(lengths[2])?;
        let tokens = columns.take(tokens)?;
        let grid = Grid { h, w: columns.count()? };
        let width = columns.count()?;
        if !columns.0.is_empty() {
            return Err("bytes are left after its columns");
        }
        let json = match json.as_str() {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|_| "its json is not a JSON object")?),
        };
        let label = (label != -1).then_some(label);
        let text = (!text.is_empty()).then_some(text);
        let (shape, values) = match &self.shape {
            Some(shape) => (shape.clone(), tokens),
            None => split_shape(tokens).ok_or("its array has no shape")?,
        };
        let row = Row { key, grid, width, height, ids: whole_ids(dtype, values)?, label, text, json };
        let own = self.layout.shape(&row);
        if !own.iter().map(|&axis| axis as u64).eq(shape) {
            return Err("its array's shape is not that of its grid");
        }
        Ok(row)
    }
}

fn whole_ids(dtype: Dtype, values: &[u8]) -> Result<Vec<u32>, &'static str> {
    match values.len() % dtype.bytes() {
        0 => Ok(dtype.ids_from_bytes(values)),
        _ => Err("its array ends within an id"),
    }
}

/// The bytes of a sample, consumed from the front.
struct Columns<'a>(&'a [u8]);

impl<'a> Columns<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("it ends within a column")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("it ends within a column")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn length(&mut self) -> Result<usize, &'static str> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn whole(&mut self) -> Result<i64, &'static str> {
        self.array().map(i64::from_le_bytes)
    }

    fn count(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.whole()?).map_err(|_| "a size is out of range")
    }

    fn text(&mut self, bytes: usize) -> Result<String, &'static str> {
        String::from_utf8(self.take(bytes)?.to_vec()).map_err(|_| "a text is not UTF-8")
    }
}

/// Reads a shard.
pub(super) struct Reader {
    pub items: Items,
    pub samples: Samples,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let sample = self.items.next(number)?;
        self.samples.row(number, &sample).map_err(|reason| self.damaged(reason))
    }

    fn end(&mut self) -> Result<(), TokensError> {
        self.items.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.items.damaged(reason)
    }
}

/// Reads single rows of a shard.
pub(super) struct ReaderAt {
    pub items: ItemsAt,
    pub samples: Samples,
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let sample = self.items.item(number)?;
        self.samples.row(number, &sample).map_err(|reason| self.damaged(number, reason))
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.items.damaged(reason)
    }
}
