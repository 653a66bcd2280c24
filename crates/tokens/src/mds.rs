//! mds: `shard.00003.mds` and `index.json`, MosaicML's StreamingDataset, version 2.
//!
//! A shard is `u32 n | u32[n + 1] offsets from its start | its config in JSON | samples`. A sample
//! has the u32 length of each column without a fixed size, then the columns. Both are in the order
//! of names: h, height, json, key, label, text, tokens, w, width. Whole numbers are i64, strings
//! are UTF-8. If all rows have one shape, tokens are `ndarray:uint16:5,7`, which holds only values.
//! Otherwise they are `ndarray:uint16`: a byte (axes · 4 + 0, 1 or 2), each axis as u8, u16 or u32,
//! then the values. An image without a label has -1, one without text or json the empty string.
//!
//! `index.json` states for each shard the same config, the name and size of its file, and its
//! number of samples.

mod reader;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::reader::{Reader, ReaderAt, Samples};
use super::files::Input;
use super::indexed::{Items, ItemsAt, ItemsWriter};
use super::open_files::OpenFiles;
use super::{Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError, reading};

/// MosaicML's streaming shards: `shard.00003.mds`.
pub struct Mds;

fn file(place: Place) -> String {
    format!("shard.{:05}.mds", place.number)
}

/// The columns as a shard and the index describe them.
fn config(layout: &Layout) -> Map<String, Value> {
    let dtype = layout.dtype.name();
    let (tokens, bytes) = match layout.constant_shape() {
        Some(shape) => {
            let axes: Vec<String> = shape.iter().map(u64::to_string).collect();
            let length = layout.length.unwrap_or(0) as usize;
            (format!("ndarray:{dtype}:{}", axes.join(",")), Some(length * layout.dtype.bytes()))
        }
        None => (format!("ndarray:{dtype}"), None),
    };
    let text: Option<usize> = None;
    let config = json!({
        "column_encodings": ["int", "int", "str", "str", "int", "str", tokens, "int", "int"],
        "column_names": ["h", "height", "json", "key", "label", "text", "tokens", "w", "width"],
        "column_sizes": [8, 8, text, text, 8, text, bytes, 8, 8],
        "compression": null,
        "format": "mds",
        "hashes": [],
        "size_limit": null,
        "version": 2,
    });
    match config {
        Value::Object(config) => config,
        _ => Map::new(),
    }
}

/// Checks by a shard's config that its samples are read as expected. The error says why not.
fn check_config(text: &[u8], layout: &Layout) -> Result<(), String> {
    let found: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| format!("its config is not JSON: {error}"))?;
    for (name, value) in &config(layout) {
        // Settings that do not affect how samples are read may differ.
        if !["hashes", "size_limit"].contains(&name.as_str()) && found.get(name) != Some(value) {
            let found = found.get(name).unwrap_or(&Value::Null);
            return Err(format!("its config says {name} {found} and should say {value}"));
        }
    }
    Ok(())
}

impl Format for Mds {
    fn claims_json(&self) -> bool {
        // As an index, in MosaicML's `merge_index`.
        true
    }

    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![file(place)]
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        let text = Value::from(config(layout)).to_string().into_bytes();
        let items = ItemsWriter::create(folder.join(file(place)), text)?;
        Ok(Box::new(Writer { items, layout: layout.clone(), constant: layout.constant_shape().is_some() }))
    }

    fn index(
        &self,
        folder: &Path,
        shards: &[Shard],
        layout: &Layout,
    ) -> Result<Vec<(String, Vec<u8>)>, TokensError> {
        let mut listed = vec![];
        for shard in shards {
            let bytes = Input::open(folder.join(file(shard.place)))?.left();
            let mut entry = config(layout);
            entry.insert(
                "raw_data".into(),
                json!({"basename": file(shard.place), "bytes": bytes, "hashes": {}}),
            );
            entry.insert("samples".into(), shard.rows.into());
            entry.insert("zip_data".into(), Value::Null);
            listed.push(Value::from(entry));
        }
        let index = json!({"shards": listed, "version": 2});
        Ok(vec![("index.json".into(), index.to_string().into_bytes())])
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let items = Items::open(folder.join(file(shard.place)), shard.rows)?;
        check_config(&items.text, layout).map_err(|reason| items.damaged(reason))?;
        Ok(reading::rows(Reader { items, samples: Samples::new(layout) }, shard.rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let (items, text) = ItemsAt::open(folder.join(file(shard.place)), shard.rows, files)?;
        check_config(&text, layout).map_err(|reason| items.damaged(reason))?;
        Ok(reading::rows_at(ReaderAt { items, samples: Samples::new(layout) }, shard.rows, layout))
    }
}

struct Writer {
    items: ItemsWriter,
    layout: Layout,
    constant: bool,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        let mut tokens = vec![];
        if !self.constant {
            tokens = shape_bytes(&self.layout.shape(row));
        }
        tokens.extend(self.layout.dtype.to_bytes(&row.ids));
        let json = row.json.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = row.text.as_deref().unwrap_or_default();
        let mut sample = vec![];
        let texts = [json.as_bytes(), row.key.as_bytes(), text.as_bytes()];
        let sized = texts.into_iter().chain((!self.constant).then_some(&tokens[..]));
        for column in sized {
            let length = u32::try_from(column.len()).map_err(|_| {
                TokensError::Unsuitable(format!("{}: mds holds less than 4 GiB of one thing", row.key))
            })?;
            sample.extend(length.to_le_bytes());
        }
        let whole = |sample: &mut Vec<u8>, number: i64| sample.extend(number.to_le_bytes());
        whole(&mut sample, row.grid.h.into());
        whole(&mut sample, row.height.into());
        sample.extend(json.as_bytes());
        sample.extend(row.key.as_bytes());
        whole(&mut sample, row.label.unwrap_or(-1));
        sample.extend(text.as_bytes());
        sample.extend(tokens);
        whole(&mut sample, row.grid.w.into());
        whole(&mut sample, row.width.into());
        self.items.push(&row.key, &sample)
    }

    fn finish(self: Box<Self>) -> Result<(), TokensError> {
        self.items.finish()
    }
}

/// An array's shape in the smallest type that holds it.
fn shape_bytes(shape: &[usize]) -> Vec<u8> {
    let code = match shape.iter().max().copied().unwrap_or(0) {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        _ => 2,
    };
    let mut bytes = vec![(shape.len() << 2) as u8 | code];
    for &axis in shape {
        bytes.extend(&(axis as u32).to_le_bytes()[..1 << code]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixture;
    use super::reader::split_shape;
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Mds);
        fixture::ragged_layouts().iter().for_each(|layout| fixture::round_trip(&Mds, layout));
        fixture::damage_is_noticed(&Mds);
        fixture::damage_to(&Mds, &fixture::ragged_layouts()[0]);
    }

    #[test]
    fn a_shard_is_as_its_writer_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = fixture::layouts()[0].clone();
        let rows = fixture::rows(&layout, 2);
        let shards = fixture::write(&Mds, folder.path(), &layout, &rows, 2);
        let bytes = fs::read(folder.path().join("shard.00000.mds")).unwrap();
        let config = Value::from(config(&layout)).to_string();
        assert!(
            config.contains(r#""ndarray:uint16:5,7""#) && config.contains("[8,8,null,null,8,null,70,8,8]")
        );
        assert_eq!(bytes[..4], 2_u32.to_le_bytes());
        let first = 4 + 4 * 3 + config.len();
        assert_eq!(bytes[4..8], (first as u32).to_le_bytes());
        assert_eq!(bytes[12..16], (bytes.len() as u32).to_le_bytes());
        assert_eq!(&bytes[16..first], config.as_bytes());
        let mut wanted: Vec<u8> = [0_u32, 1, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        wanted.extend([5_i64, 50].iter().flat_map(|n| n.to_le_bytes()));
        wanted.push(b'a');
        wanted.extend((-1_i64).to_le_bytes());
        wanted.extend(layout.dtype.to_bytes(&rows[0].ids));
        wanted.extend([7_i64, 70].iter().flat_map(|n| n.to_le_bytes()));
        assert_eq!(bytes[first..first + wanted.len()], wanted);

        let (name, index) = Mds.index(folder.path(), &shards, &layout).unwrap().remove(0);
        assert_eq!(name, "index.json");
        let index: Value = serde_json::from_slice(&index).unwrap();
        let raw = json!({"basename": "shard.00000.mds", "bytes": bytes.len(), "hashes": {}});
        assert_eq!(index["shards"][0]["raw_data"], raw);
        let keys: Vec<&String> = index["shards"][0].as_object().unwrap().keys().collect();
        let needed = [
            "column_encodings",
            "column_names",
            "column_sizes",
            "compression",
            "format",
            "hashes",
            "raw_data",
        ];
        assert_eq!(keys[..7], needed);
        assert_eq!(keys[7..], ["samples", "size_limit", "version", "zip_data"]);
    }

    #[test]
    fn shapes_take_the_smallest_type() {
        assert_eq!(shape_bytes(&[5, 7]), [8, 5, 7]);
        assert_eq!(shape_bytes(&[5, 256]), [9, 5, 0, 0, 1]);
        assert_eq!(shape_bytes(&[65_536]), [6, 0, 0, 1, 0]);
        for shape in [vec![5_usize, 7], vec![2, 256, 3], vec![70_000]] {
            let bytes = shape_bytes(&shape);
            let wide: Vec<u64> = shape.iter().map(|&axis| axis as u64).collect();
            assert_eq!(split_shape(&bytes).unwrap(), (wide, &[][..]));
            assert_eq!(split_shape(&bytes[..bytes.len() - 1]), None);
        }
    }
}
