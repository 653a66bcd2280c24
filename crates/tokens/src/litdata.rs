//! litdata: `chunk-0-3.bin` and `index.json` for litdata's TokensLoader (litgpt), and the companion
//! `keys.jsonl`.
//!
//! A chunk is `u32 n | u32[n + 1] offsets from its start | items`. An item is the ids of a row as
//! i32, whatever the set's type. The loader skips the table, using the chunk_size in the index, and
//! cuts the rest into blocks. So with a block size equal to a row's number of ids it yields exactly
//! the rows, provided that all rows have equally many ids. `index.json` states for each chunk its
//! size in bytes, its number of items (chunk_size), its number of ids (dim) and its name.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::companion::{self, Keys, KeysAt, KeysWriter};
use super::files::Input;
use super::indexed::{Items, ItemsAt, ItemsWriter};
use super::open_files::OpenFiles;
use super::reading::{self, Source, SourceAt};
use super::{Dtype, Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError};

/// litdata's chunks of tokens: `chunk-0-3.bin`.
pub struct Litdata;

fn file(place: Place) -> String {
    format!("chunk-0-{}.bin", place.number)
}

/// The fault of a file with a text between the table and the first row.
const BEFORE_ROWS: &str = "its first row does not begin after its table";

fn row_bytes(layout: &Layout) -> Result<usize, TokensError> {
    Ok(layout.one_length("litdata")? as usize * Dtype::I32.bytes())
}

/// The ids of row `number`, from its item.
fn ids(item: &[u8], number: u64, row_bytes: usize) -> Result<Vec<u32>, String> {
    if item.len() != row_bytes {
        return Err(format!("row {number} has {} bytes, not {row_bytes}", item.len()));
    }
    Ok(Dtype::I32.ids_from_bytes(item))
}

/// The layout as it is written: ids are always i32 here.
fn as_written(layout: &Layout) -> Layout {
    Layout { dtype: Dtype::I32, ..layout.clone() }
}

impl Format for Litdata {
    fn takes_any_sizes(&self) -> bool {
        false
    }

    fn dtype(&self, _ids: u64, _vocab_size: Option<u64>) -> Dtype {
        Dtype::I32
    }

    fn check(&self, layout: &Layout) -> Result<(), TokensError> {
        layout.one_length("litdata").map(drop)
    }

    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![file(place), companion::file(place)]
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        self.check(layout)?;
        let items = ItemsWriter::create(folder.join(file(place)), vec![])?;
        let keys = KeysWriter::create(folder, place)?;
        Ok(Box::new(Writer { items, keys, layout: as_written(layout) }))
    }

    fn index(
        &self,
        folder: &Path,
        shards: &[Shard],
        layout: &Layout,
    ) -> Result<Vec<(String, Vec<u8>)>, TokensError> {
        let length = u64::from(layout.one_length("litdata")?);
        let (mut chunks, mut largest) = (vec![], 0);
        for shard in shards {
            let bytes = Input::open(folder.join(file(shard.place)))?.left();
            largest = largest.max(bytes);
            let dim = shard.rows.saturating_mul(length);
            chunks.push(json!({
                "chunk_bytes": bytes, "chunk_size": shard.rows, "dim": dim, "filename": file(shard.place),
            }));
        }
        let config = json!({
            "chunk_bytes": largest,
            "chunk_size": null,
            "compression": null,
            // A tensor without header of the loader's type 15, int32.
            "data_format": ["no_header_tensor:15"],
            "data_spec": r#"[1, {"type": null, "context": null, "children_spec": []}]"#,
            "encryption": null,
            "item_loader": "TokensLoader",
        });
        let index = json!({"chunks": chunks, "config": config});
        Ok(vec![("index.json".into(), index.to_string().into_bytes())])
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let row_bytes = row_bytes(layout)?;
        let items = Items::open(folder.join(file(shard.place)), shard.rows)?;
        if !items.text.is_empty() {
            return Err(items.damaged(BEFORE_ROWS));
        }
        let keys = Keys::open(folder, shard, layout)?;
        Ok(reading::rows(Reader { items, keys, row_bytes }, shard.rows, &as_written(layout)))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let row_bytes = row_bytes(layout)?;
        let (items, text) = ItemsAt::open(folder.join(file(shard.place)), shard.rows, files)?;
        if !text.is_empty() {
            return Err(items.damaged(BEFORE_ROWS));
        }
        let keys = KeysAt::open(folder, shard, layout, files)?;
        Ok(reading::rows_at(ReaderAt { items, keys, row_bytes }, shard.rows, &as_written(layout)))
    }
}

struct Writer {
    items: ItemsWriter,
    keys: KeysWriter,
    layout: Layout,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        self.items.push(&row.key, &self.layout.dtype.to_bytes(&row.ids))?;
        self.keys.push(row)
    }

    fn finish(self: Box<Self>) -> Result<(), TokensError> {
        self.items.finish()?;
        self.keys.finish()
    }
}

struct Reader {
    items: Items,
    keys: Keys,
    row_bytes: usize,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let ids = ids(&self.items.next(number)?, number, self.row_bytes);
        let ids = ids.map_err(|reason| self.damaged(reason))?;
        Ok(Row { ids, ..self.keys.next(number)? })
    }

    fn end(&mut self) -> Result<(), TokensError> {
        self.keys.end()?;
        self.items.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.items.damaged(reason)
    }
}

struct ReaderAt {
    items: ItemsAt,
    keys: KeysAt,
    row_bytes: usize,
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let ids = ids(&self.items.item(number)?, number, self.row_bytes);
        let ids = ids.map_err(|reason| self.damaged(number, reason))?;
        Ok(Row { ids, ..self.keys.row(number)? })
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.items.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::fixture;
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Litdata);
        fixture::comes_back_without_companion(&Litdata);
        fixture::damage_is_noticed(&Litdata);
        assert!(Litdata.check(&fixture::ragged_layouts()[0]).is_err());
    }

    #[test]
    fn chunks_and_index_are_as_their_loader_wants_them() {
        let folder = tempfile::tempdir().unwrap();
        let layout = fixture::layouts()[0].clone();
        let rows = fixture::rows(&layout, 3);
        let shards = fixture::write(&Litdata, folder.path(), &layout, &rows, 2);
        let bytes = std::fs::read(folder.path().join("chunk-0-0.bin")).unwrap();
        let mut wanted: Vec<u8> = [2_u32, 16, 156, 296].iter().flat_map(|n| n.to_le_bytes()).collect();
        wanted.extend(Dtype::I32.to_bytes(&rows[0].ids));
        wanted.extend(Dtype::I32.to_bytes(&rows[1].ids));
        assert_eq!(bytes, wanted);

        let (name, index) = Litdata.index(folder.path(), &shards, &layout).unwrap().remove(0);
        assert_eq!(name, "index.json");
        let wanted = r#"{"chunks":[{"chunk_bytes":296,"chunk_size":2,"dim":70,"filename":"chunk-0-0.bin"},{"chunk_bytes":152,"chunk_size":1,"dim":35,"filename":"chunk-0-1.bin"}],"config":{"chunk_bytes":296,"chunk_size":null,"compression":null,"data_format":["no_header_tensor:15"],"data_spec":"[1, {\"type\": null, \"context\": null, \"children_spec\": []}]","encryption":null,"item_loader":"TokensLoader"}}"#;
        let wanted: Value = serde_json::from_str(wanted).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&index).unwrap(), wanted);
    }
}
