//! parquet: `train-00003-of-00010.parquet`, for `datasets.load_dataset("parquet")`, pyarrow and
//! others.
//!
//! Columns: key string; tokens list of uint16 or int32, flat; h, w uint16; width, height int32;
//! label int64, text and json string, null if an image has none. Row groups have 4,096 rows and are
//! compressed with zstd. Tokens have no dictionary, because they hardly repeat. The file's metadata
//! tell `datasets` the features of the columns (`huggingface`), with the names of the classes, and
//! Arrow the length of the lists if it is the same in all rows (`ARROW:schema`). The bytes depend
//! only on the rows and the layout.

mod reader;
mod single;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type};
use serde_json::json;

use self::reader::Reader;
use self::single::ReaderAt;
use super::open_files::OpenFiles;
use super::{
    Dtype, Format, Grid, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError, arrow_schema,
    features, io_error, reading,
};
use pixtok_base::Action;

/// A table: `train-00003-of-00010.parquet`.
pub struct Parquet;

const GROUP_ROWS: usize = 4096;
/// The key under which `datasets` looks for the features of the columns.
const FEATURES: &str = "huggingface";

fn file(place: Place) -> String {
    let number = place.number;
    match place.total {
        None => format!("train-{number:05}.parquet"),
        Some(total) => format!("train-{number:05}-of-{total:05}.parquet"),
    }
}

fn schema(dtype: Dtype) -> Result<Type, ParquetError> {
    let id = match dtype {
        Dtype::U16 => "INT32 element (INTEGER(16,false))",
        Dtype::I32 => "INT32 element",
    };
    parse_message_type(&format!(
        "message rows {{
            REQUIRED BYTE_ARRAY key (STRING);
            REQUIRED GROUP tokens (LIST) {{ REPEATED GROUP list {{ REQUIRED {id}; }} }}
            REQUIRED INT32 h (INTEGER(16,false));
            REQUIRED INT32 w (INTEGER(16,false));
            REQUIRED INT32 width;
            REQUIRED INT32 height;
            OPTIONAL INT64 label;
            OPTIONAL BYTE_ARRAY text (STRING);
            OPTIONAL BYTE_ARRAY json (STRING);
        }}"
    ))
}

/// What the file tells `datasets` and Arrow about its columns.
fn metadata(layout: &Layout) -> Vec<KeyValue> {
    let value = features::value;
    let columns = json!({
        "key": value("string"),
        "tokens": features::ids(layout),
        "h": value("uint16"),
        "w": value("uint16"),
        "width": value("int32"),
        "height": value("int32"),
        "label": features::label(layout),
        "text": value("string"),
        "json": value("string"),
    });
    let info = json!({ "info": { "features": columns } }).to_string();
    let schema = layout.length.map(|length| {
        let schema = arrow_schema::base64(layout.dtype, length, &[(FEATURES, &info)]);
        KeyValue::new(arrow_schema::KEY.to_owned(), schema)
    });
    let features = KeyValue::new(FEATURES.to_owned(), info);
    [features].into_iter().chain(schema).collect()
}

fn properties(layout: &Layout) -> WriterProperties {
    let tokens = ColumnPath::from(vec!["tokens".into(), "list".into(), "element".into()]);
    WriterProperties::builder()
        .set_created_by("pixtok".into())
        .set_key_value_metadata(Some(metadata(layout)))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_dictionary_enabled(tokens.clone(), false)
        .set_column_statistics_enabled(tokens, EnabledStatistics::None)
        .build()
}

impl Format for Parquet {
    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![file(place)]
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        let path = folder.join(file(place));
        let out = File::create(&path).map_err(io_error(Action::Create, &path))?;
        let writer = schema(layout.dtype).and_then(|schema| {
            SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties(layout)))
        });
        let writer = writer.map_err(|error| failed(Action::Write, &path, error))?;
        Ok(Box::new(Writer { path, writer, layout: layout.clone(), rows: vec![] }))
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let reader = Reader::open(folder.join(file(shard.place)), shard.rows, layout.dtype)?;
        Ok(reading::rows(reader, shard.rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let reader = ReaderAt::open(folder.join(file(shard.place)), shard.rows, layout.dtype, files)?;
        Ok(reading::rows_at(reader, shard.rows, layout))
    }
}

fn failed(action: Action, path: &Path, error: ParquetError) -> TokensError {
    io_error(action, path)(io::Error::other(error))
}

struct Writer {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    layout: Layout,
    /// The rows of the row group that is not yet complete.
    rows: Vec<Row>,
}

impl Writer {
    fn write_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
        let number = |number: u32| number as i32;
        required::<ByteArrayType>(&mut group, &rows, |row| text(&row.key))?;
        tokens(&mut group, &rows)?;
        required::<Int32Type>(&mut group, &rows, |row| number(row.grid.h))?;
        required::<Int32Type>(&mut group, &rows, |row| number(row.grid.w))?;
        required::<Int32Type>(&mut group, &rows, |row| number(row.width))?;
        required::<Int32Type>(&mut group, &rows, |row| number(row.height))?;
        optional::<Int64Type>(&mut group, &rows, |row| row.label)?;
        optional::<ByteArrayType>(&mut group, &rows, |row| row.text.as_deref().map(text))?;
        optional::<ByteArrayType>(&mut group, &rows, |row| {
            row.json.as_ref().map(|json| text(&json.to_string()))
        })?;
        group.close().map(drop)
    }
}

type GroupWriter<'a> = SerializedRowGroupWriter<'a, File>;

fn write_column<T: DataType>(
    group: &mut GroupWriter<'_>,
    values: &[T::T],
    definition: Option<&[i16]>,
    repetition: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has fewer columns".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, definition, repetition)?;
    column.close()
}

fn required<T: DataType>(
    group: &mut GroupWriter<'_>,
    rows: &[Row],
    value: impl Fn(&Row) -> T::T,
) -> Result<(), ParquetError> {
    write_column::<T>(group, &rows.iter().map(value).collect::<Vec<_>>(), None, None)
}

fn optional<T: DataType>(
    group: &mut GroupWriter<'_>,
    rows: &[Row],
    value: impl Fn(&Row) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = rows.iter().map(value).collect();
    let there: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    write_column::<T>(group, &values.into_iter().flatten().collect::<Vec<_>>(), Some(&there), None)
}

fn tokens(group: &mut GroupWriter<'_>, rows: &[Row]) -> Result<(), ParquetError> {
    let ids: Vec<i32> = rows.iter().flat_map(|row| &row.ids).map(|&id| id as i32).collect();
    // 0 begins a row. Every row has at least one id, so every id is present.
    let repetition: Vec<i16> =
        rows.iter().flat_map(|row| (0..row.ids.len()).map(|at| (at > 0).into())).collect();
    write_column::<Int32Type>(group, &ids, Some(&vec![1; ids.len()]), Some(&repetition))
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        let Grid { h, w } = row.grid;
        let refuse = |reason: String| Err(TokensError::Unsuitable(format!("{}: {reason}", row.key)));
        if h.max(w) > u16::MAX.into() {
            return refuse(format!("the parquet columns h and w hold up to 65535, its grid is {h} × {w}"));
        }
        if row.width.max(row.height) > i32::MAX as u32 {
            return refuse(format!(
                "parquet holds 31 bits of its size, {} × {} pixels",
                row.width, row.height
            ));
        }
        self.rows.push(row.clone());
        if self.rows.len() < GROUP_ROWS {
            return Ok(());
        }
        self.write_group().map_err(|error| failed(Action::Write, &self.path, error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), TokensError> {
        let rest = if self.rows.is_empty() { Ok(()) } else { self.write_group() };
        let Self { path, writer, .. } = *self;
        // Only taking the file out flushes the buffer and reports whether that worked.
        let written = rest.and_then(|()| writer.into_inner());
        written.map(drop).map_err(|error| failed(Action::Write, &path, error))
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    use super::super::{Axes, fixture};
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Parquet);
        fixture::ragged_layouts().iter().for_each(|layout| fixture::round_trip(&Parquet, layout));
        fixture::damage_is_noticed(&Parquet);
    }

    #[test]
    fn groups_have_4096_rows_and_bytes_repeat() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let layout = fixture::layouts()[0].clone();
        let rows = fixture::rows(&layout, 4_500);
        let files = folders.each_ref().map(|folder| {
            let shards = fixture::write(&Parquet, folder.path(), &layout, &rows, 4_500);
            assert_eq!(fixture::read(&Parquet, folder.path(), &shards, &layout).unwrap(), rows);
            std::fs::read(folder.path().join("train-00000-of-00001.parquet")).unwrap()
        });
        assert_eq!(files[0], files[1]);
        let reader = SerializedFileReader::new(bytes::Bytes::from(files[0].clone())).unwrap();
        let groups = reader.metadata().row_groups();
        assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [4_096, 404]);
        assert!(groups[0].column(1).dictionary_page_offset().is_none());
        assert!(matches!(groups[0].column(1).compression(), Compression::ZSTD(_)));
        let names: Vec<&str> = reader
            .metadata()
            .file_metadata()
            .schema()
            .get_fields()
            .iter()
            .map(|field| field.name())
            .collect();
        assert_eq!(names, ["key", "tokens", "h", "w", "width", "height", "label", "text", "json"]);
        let row = reader.get_row_iter(None).unwrap().nth(1).unwrap().unwrap().to_string();
        assert!(
            row.starts_with("{key: \"ünï/日本 1\", tokens: [") && row.contains("h: 5, w: 7, width: 71"),
            "{row}"
        );
    }

    #[test]
    fn metadata_tell_the_classes_and_the_length() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = |layout: &Layout| {
            fixture::write(&Parquet, folder.path(), layout, &fixture::rows(layout, 2), 2);
            let bytes = std::fs::read(folder.path().join("train-00000-of-00001.parquet")).unwrap();
            let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
            let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
            pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap())).collect::<Vec<_>>()
        };
        let classes = vec!["elk".to_owned(), "owl".to_owned()];
        let layout = Layout { classes, ..fixture::layouts()[2].clone() };
        let pairs = metadata(&layout);
        let info: serde_json::Value = serde_json::from_str(&pairs[0].1).unwrap();
        let features = &info["info"]["features"];
        assert_eq!(features["label"], json!({ "names": ["elk", "owl"], "_type": "ClassLabel" }));
        assert_eq!((&features["tokens"]["length"], &features["h"]["dtype"]), (&json!(105), &json!("uint16")));
        let schema = arrow_schema::base64(layout.dtype, 105, &[("huggingface", &pairs[0].1)]);
        assert_eq!(pairs[1], ("ARROW:schema".to_owned(), schema));
        // Rows of several lengths have no Arrow schema.
        let ragged = metadata(&Layout { grid: None, length: None, ..layout });
        assert_eq!(ragged.len(), 1);
        assert_eq!(ragged[0].0, "huggingface");
    }

    #[test]
    fn a_grid_too_large_for_its_columns_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout { grid: None, length: None, axes: Axes::Grid, ..fixture::layouts()[0].clone() };
        let mut writer =
            Parquet.writer(folder.path(), Place { number: 0, first_row: 0, total: None }, &layout).unwrap();
        let row = fixture::rows(&layout, 1).remove(0);
        let row = Row { grid: Grid { h: 1, w: 65_536 }, ids: vec![1; 65_536], ..row };
        assert!(writer.push(&row).unwrap_err().to_string().starts_with("a: the parquet columns"));
    }
}
