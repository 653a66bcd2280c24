//! raw: `tokens.bin`, which holds only ids, for `np.memmap` (nanoGPT, OLMo-core); its companion
//! `keys.jsonl`; and on request `tokens.index`.
//!
//! Ids are u16 or u32, little endian, without a header. The file does not state the type, so the
//! type follows from the vocabulary size if that is given, as in OLMo-core. The index has a u64 for
//! each row: the number of ids up to the end of the row (datatrove's document ends, counted in
//! tokens).

mod single;

use std::path::Path;
use std::sync::Arc;

use self::single::ReaderAt;
use super::companion::{self, Keys, KeysWriter};
use super::files::{Input, Output, name};
use super::open_files::OpenFiles;
use super::reading::{self, Source};
use super::{Axes, Dtype, Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError};

/// A bare stream of ids: `tokens.bin`.
pub struct Raw;

/// Advice for users of OLMo-core if it would read the stream of a vocabulary of `ids` ids as
/// another type. It takes the smallest of uint8, uint16 and uint32 that holds them.
fn olmo_core_note(ids: u64, dtype: Dtype) -> Option<String> {
    let theirs = match ids {
        0..=0x100 => "uint8",
        0x101..=0x1_0000 => "uint16",
        _ => "uint32",
    };
    let ours = match dtype {
        Dtype::U16 => "uint16",
        Dtype::I32 => "uint32",
    };
    (ours != theirs).then(|| {
        format!(
            "tokens.bin is {ours}, and OLMo-core takes the numbers of a vocabulary of {ids} ids for {theirs}; set \
             dtype to {ours} there"
        )
    })
}

impl Format for Raw {
    fn takes_document_index(&self) -> bool {
        true
    }

    fn merges_into_one(&self) -> bool {
        true
    }

    fn dtype(&self, ids: u64, vocab_size: Option<u64>) -> Dtype {
        vocab_size.map_or_else(|| Dtype::for_ids(ids), Dtype::for_vocabulary)
    }

    fn takes_any_dtype(&self) -> bool {
        true
    }

    fn advice(&self, _folder: &Path, layout: &Layout, vocab_size: u64) -> Option<String> {
        olmo_core_note(vocab_size, layout.dtype)
    }

    fn check(&self, layout: &Layout) -> Result<(), TokensError> {
        if layout.length.is_none() && layout.axes == Axes::Sequence && !layout.document_index {
            return Err(TokensError::Unsuitable(
                "raw does not state where an image's framed tokens end when images have different sizes; ask for \
                 the document index, or take jsonl, parquet or megatron"
                    .into(),
            ));
        }
        Ok(())
    }

    fn files(&self, place: Place, layout: &Layout) -> Vec<String> {
        let mut files = vec![name("tokens", "bin", place)];
        if layout.document_index {
            files.push(name("tokens", "index", place));
        }
        files.push(companion::file(place));
        files
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        self.check(layout)?;
        let out = Output::create(folder.join(name("tokens", "bin", place)))?;
        let index =
            layout.document_index.then(|| Output::create(folder.join(name("tokens", "index", place))));
        let keys = KeysWriter::create(folder, place)?;
        Ok(Box::new(Writer { out, index: index.transpose()?, keys, layout: layout.clone(), end: 0 }))
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        self.check(layout)?;
        let input = Input::open(folder.join(name("tokens", "bin", shard.place)))?;
        let index =
            layout.document_index.then(|| Input::open(folder.join(name("tokens", "index", shard.place))));
        let keys = Keys::open(folder, shard, layout)?;
        let reader = Reader { input, index: index.transpose()?, keys, layout: layout.clone(), end: 0 };
        Ok(reading::rows(reader, shard.rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        self.check(layout)?;
        let reader = ReaderAt::open(folder, shard, layout, files)?;
        Ok(reading::rows_at(reader, shard.rows, layout))
    }
}

struct Writer {
    out: Output,
    index: Option<Output>,
    keys: KeysWriter,
    layout: Layout,
    end: u64,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        self.out.write(&self.layout.dtype.to_bytes(&row.ids))?;
        self.end += row.ids.len() as u64;
        if let Some(index) = &mut self.index {
            index.write(&self.end.to_le_bytes())?;
        }
        self.keys.push(row)
    }

    fn finish(self: Box<Self>) -> Result<(), TokensError> {
        self.out.finish()?;
        self.index.map_or(Ok(()), Output::finish)?;
        self.keys.finish()
    }
}

struct Reader {
    input: Input,
    index: Option<Input>,
    keys: Keys,
    layout: Layout,
    end: u64,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let row = self.keys.next(number)?;
        let length = match &mut self.index {
            Some(index) => {
                let end = index.u64()?;
                let Some(length) = end.checked_sub(self.end) else {
                    return Err(index.damaged(format!("row {number} ends before it begins")));
                };
                self.end = end;
                Some(length)
            }
            None => self.layout.length_of(row.grid),
        };
        let bytes = length.and_then(|length| length.checked_mul(self.layout.dtype.bytes() as u64));
        let ids = self.layout.dtype.ids_from_bytes(&self.input.take(bytes.unwrap_or(u64::MAX))?);
        Ok(Row { ids, ..row })
    }

    fn end(&mut self) -> Result<(), TokensError> {
        self.keys.end()?;
        if let Some(index) = &self.index {
            index.end()?;
        }
        self.input.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.input.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn indexed(layout: Layout) -> Layout {
        Layout { document_index: true, ..layout }
    }

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Raw);
        fixture::comes_back_without_companion(&Raw);
        fixture::damage_is_noticed(&Raw);
        for layout in fixture::ragged_layouts() {
            if layout.axes == Axes::Sequence {
                assert!(Raw.check(&layout).unwrap_err().to_string().contains("document index"));
            } else {
                fixture::round_trip(&Raw, &layout);
            }
            fixture::round_trip(&Raw, &indexed(layout.clone()));
            fixture::damage_to(&Raw, &indexed(layout));
        }
    }

    #[test]
    fn the_type_follows_the_vocabulary_and_olmo_core_is_told_of_others() {
        for (ids, vocab_size, dtype) in [
            (1000, None, Dtype::U16),
            (65_499, None, Dtype::U16),
            (65_500, None, Dtype::I32),
            (1000, Some(100_278), Dtype::I32),
            (1000, Some(65_537), Dtype::I32),
            (65_530, Some(65_536), Dtype::U16),
        ] {
            assert_eq!(Raw.dtype(ids, vocab_size), dtype, "{ids} {vocab_size:?}");
            assert!(vocab_size.is_none_or(|size| olmo_core_note(size, dtype).is_none()));
        }
        for (ids, dtype, parts) in [
            (256, Dtype::U16, ["is uint16", "256 ids for uint8"]),
            (65_520, Dtype::I32, ["is uint32", "65520 ids for uint16"]),
            (70_000, Dtype::U16, ["is uint16", "70000 ids for uint32"]),
        ] {
            let layout = Layout { dtype, ..fixture::layouts()[0].clone() };
            let note = Raw.advice(Path::new("out"), &layout, ids).unwrap();
            assert!(parts.iter().all(|part| note.contains(part)), "{note}");
        }
        assert_eq!(olmo_core_note(257, Dtype::U16), None);
    }

    #[test]
    fn the_bytes_are_ids_and_the_index_their_ends() {
        let folder = tempfile::tempdir().unwrap();
        for layout in fixture::layouts() {
            let layout = indexed(layout);
            let rows = fixture::rows(&layout, 2);
            fixture::write(&Raw, folder.path(), &layout, &rows, 2);
            let bytes = std::fs::read(folder.path().join("tokens.bin")).unwrap();
            let ids: Vec<u32> = rows.iter().flat_map(|row| row.ids.clone()).collect();
            assert_eq!(bytes, layout.dtype.to_bytes(&ids));
            let index = std::fs::read(folder.path().join("tokens.index")).unwrap();
            let length = rows[0].ids.len() as u64;
            assert_eq!(index, [length.to_le_bytes(), (2 * length).to_le_bytes()].concat());
            assert_eq!(layout.dtype == Dtype::U16, bytes.len() as u64 == 4 * length);
        }
    }
}
