//! npy: `tokens.npy` and its companion `keys.jsonl`, for `np.load`, also with `mmap_mode="r"`.
//!
//! `\x93NUMPY`, 1, 0, u16 length of the text, then the text `{'descr': '<u2', 'fortran_order':
//! False, 'shape': (N, 5, 7), }`, padded with spaces and a newline to a multiple of 64 bytes; then
//! the ids, `<u2` or `<i4`, in C order. N is known last, so the text has space for any N.

use std::path::Path;
use std::sync::Arc;

use super::companion::{self, Keys, KeysAt, KeysWriter};
use super::files::{Input, Output, name};
use super::open_files::{FileAt, OpenFiles};
use super::reading::{self, Source, SourceAt};
use super::{Dtype, Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError};

/// One array per shard: `tokens.npy`.
pub struct Npy;

/// The number of bytes before the text of a header.
pub(super) const PREAMBLE: usize = 10;

/// The name of the type in numpy's headers.
pub(super) fn descr(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::U16 => "<u2",
        Dtype::I32 => "<i4",
    }
}

/// The header of an array.
pub(super) fn header(descr: &str, shape: &[u64]) -> Vec<u8> {
    padded(&text(descr, shape), 0)
}

fn text(descr: &str, shape: &[u64]) -> String {
    let axes: Vec<String> = shape.iter().map(u64::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", axes.join(", "))
}

/// A header with this text, padded to at least that many bytes.
fn padded(text: &str, least: usize) -> Vec<u8> {
    let bytes = (PREAMBLE + text.len() + 1).max(least).next_multiple_of(64);
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((bytes - PREAMBLE) as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header.resize(bytes - 1, b' ');
    header.push(b'\n');
    header
}

/// Type and shape of an array in C order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub descr: String,
    pub shape: Vec<u64>,
}

/// The length of a header's text, from the first bytes of a file.
fn text_length(preamble: &[u8]) -> Option<usize> {
    let length = preamble.strip_prefix(b"\x93NUMPY\x01\x00")?;
    Some(u16::from_le_bytes(length.try_into().ok()?).into())
}

/// Type and shape from the text of a header; `None` if it is not that of an array in C order.
pub(super) fn parse(text: &[u8]) -> Option<Header> {
    let text: String = std::str::from_utf8(text).ok()?.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let (descr, rest) = text.strip_prefix("{'descr':'")?.split_once('\'')?;
    let (axes, end) = rest.strip_prefix(",'fortran_order':False,'shape':(")?.split_once(')')?;
    let axes = axes.strip_suffix(',').unwrap_or(axes);
    let shape = axes.split(',').map(|axis| axis.parse().ok()).collect::<Option<_>>()?;
    ["}", ",}"].contains(&end).then(|| Header { descr: descr.to_owned(), shape })
}

/// Splits an array into its header and its data.
pub(super) fn split(array: &[u8]) -> Option<(Header, &[u8])> {
    let (preamble, rest) = array.split_at_checked(PREAMBLE)?;
    let (text, data) = rest.split_at_checked(text_length(preamble)?)?;
    Some((parse(text)?, data))
}

/// Reads an array's header, which must equal `wanted`. The data, `bytes` bytes long, must fill the
/// rest of the file.
pub(super) fn expect(input: &mut Input, wanted: &Header, bytes: Option<u64>) -> Result<(), TokensError> {
    let preamble = input.take(PREAMBLE as u64)?;
    let Some(length) = text_length(&preamble) else {
        return Err(input.damaged("it does not begin as version 1.0 of the npy format"));
    };
    let text = input.take(length as u64)?;
    match parse(&text) {
        None => return Err(input.damaged("its header is not that of an array in C order")),
        Some(header) if header != *wanted => {
            let Header { descr, shape } = header;
            let reason = format!(
                "its header says {descr} {shape:?} and should say {} {:?}",
                wanted.descr, wanted.shape
            );
            return Err(input.damaged(reason));
        }
        Some(_) => {}
    }
    if bytes != Some(input.left()) {
        return Err(
            input.damaged(format!("{} bytes follow its header, not those of its shape", input.left()))
        );
    }
    Ok(())
}

fn with_rows(rows: u64, shape: &[u64]) -> Vec<u64> {
    [&[rows], shape].concat()
}

/// Opens a shard's array and checks its header. Also returns the number of bytes of a row.
fn open(folder: &Path, shard: Shard, layout: &Layout) -> Result<(Input, u64), TokensError> {
    let shape = layout.one_shape("npy")?;
    let row_bytes = u64::from(layout.one_length("npy")?) * layout.dtype.bytes() as u64;
    let mut input = Input::open(folder.join(name("tokens", "npy", shard.place)))?;
    let wanted = Header { descr: descr(layout.dtype).into(), shape: with_rows(shard.rows, &shape) };
    expect(&mut input, &wanted, shard.rows.checked_mul(row_bytes))?;
    Ok((input, row_bytes))
}

impl Format for Npy {
    fn takes_any_sizes(&self) -> bool {
        false
    }

    fn merges_into_one(&self) -> bool {
        true
    }

    fn takes_any_dtype(&self) -> bool {
        true
    }

    fn check(&self, layout: &Layout) -> Result<(), TokensError> {
        layout.one_shape("npy").map(drop)
    }

    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![name("tokens", "npy", place), companion::file(place)]
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        let shape = layout.one_shape("npy")?;
        let mut out = Output::create(folder.join(name("tokens", "npy", place)))?;
        let room = header(descr(layout.dtype), &with_rows(u64::MAX, &shape)).len();
        out.write(&vec![0; room])?;
        let keys = KeysWriter::create(folder, place)?;
        Ok(Box::new(Writer { out, keys, layout: layout.clone(), shape, room, rows: 0 }))
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let (input, row_bytes) = open(folder, shard, layout)?;
        let keys = Keys::open(folder, shard, layout)?;
        Ok(reading::rows(Reader { input, keys, row_bytes, dtype: layout.dtype }, shard.rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let (input, row_bytes) = open(folder, shard, layout)?;
        let file = files.open(folder.join(name("tokens", "npy", shard.place)))?;
        // The ids fill the file from the end of the header.
        let start = file.length().saturating_sub(input.left());
        let keys = KeysAt::open(folder, shard, layout, files)?;
        let reader = ReaderAt { file, keys, start, row_bytes, dtype: layout.dtype };
        Ok(reading::rows_at(reader, shard.rows, layout))
    }
}

struct Writer {
    out: Output,
    keys: KeysWriter,
    layout: Layout,
    shape: Vec<u64>,
    room: usize,
    rows: u64,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        self.out.write(&self.layout.dtype.to_bytes(&row.ids))?;
        self.rows += 1;
        self.keys.push(row)
    }

    fn finish(self: Box<Self>) -> Result<(), TokensError> {
        let text = text(descr(self.layout.dtype), &with_rows(self.rows, &self.shape));
        self.out.finish_with(&padded(&text, self.room))?;
        self.keys.finish()
    }
}

struct Reader {
    input: Input,
    keys: Keys,
    row_bytes: u64,
    dtype: Dtype,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let ids = self.dtype.ids_from_bytes(&self.input.take(self.row_bytes)?);
        Ok(Row { ids, ..self.keys.next(number)? })
    }

    fn end(&mut self) -> Result<(), TokensError> {
        self.keys.end()?;
        self.input.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.input.damaged(reason)
    }
}

struct ReaderAt {
    file: FileAt,
    keys: KeysAt,
    /// The position of the first id.
    start: u64,
    row_bytes: u64,
    dtype: Dtype,
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let bytes = self.file.take(number, self.start + number * self.row_bytes, self.row_bytes)?;
        Ok(Row { ids: self.dtype.ids_from_bytes(&bytes), ..self.keys.row(number)? })
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.file.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Npy);
        fixture::comes_back_without_companion(&Npy);
        fixture::damage_is_noticed(&Npy);
        assert!(Npy.check(&fixture::ragged_layouts()[0]).unwrap_err().to_string().contains("jsonl"));
    }

    #[test]
    fn the_header_is_numpys() {
        let folder = tempfile::tempdir().unwrap();
        let layout = fixture::layouts()[0].clone();
        let rows = fixture::rows(&layout, 3);
        fixture::write(&Npy, folder.path(), &layout, &rows, 3);
        let bytes = std::fs::read(folder.path().join("tokens.npy")).unwrap();
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let text = "{'descr': '<u2', 'fortran_order': False, 'shape': (3, 5, 7), }";
        assert_eq!(std::str::from_utf8(&bytes[10..128]).unwrap(), format!("{text:117}\n"));
        assert_eq!(bytes.len(), 128 + 3 * 35 * 2);
        assert_eq!(bytes[128..130], (rows[0].ids[0] as u16).to_le_bytes());
        let keys = std::fs::read_to_string(folder.path().join("keys.jsonl")).unwrap();
        assert_eq!(keys.lines().next().unwrap(), r#"{"key":"a","h":5,"w":7,"width":70,"height":50}"#);
        assert_eq!(
            keys.lines().nth(1).unwrap(),
            r#"{"key":"ünï/日本 1","h":5,"w":7,"width":71,"height":50,"label":-7,"text":"two\n\"lines\"","json":{"a":[1,null,123456789012345678901234567890],"z":{"é":1.50,"b":-0}}}"#
        );
    }

    #[test]
    fn headers_are_read_as_if_hostile() {
        let one = header("<i8", &[1]);
        assert_eq!(one.len(), 128);
        let found = split(&one).unwrap();
        assert_eq!(found, (Header { descr: "<i8".into(), shape: vec![1] }, &[][..]));
        for text in [
            "",
            "{",
            "{'descr': '<u2', 'fortran_order': True, 'shape': (3,), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (3,-1), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999,), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), } x",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(split(&one[..one.len() - 1]), None);
        assert_eq!(split(b"\x93NUMPY\x02\x00\x01\x00\x00\x00"), None);
    }
}
