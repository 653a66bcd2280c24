//! Parquet files of photographs, laid out like Hugging Face's data sets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Writes rows with a photograph and a string label, two per page and four per row group.
pub fn write(path: &Path, rows: &[(PathBuf, &str)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = "message rows { REQUIRED GROUP img { REQUIRED BYTE_ARRAY bytes; } REQUIRED BYTE_ARRAY label (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties =
        WriterProperties::builder().set_data_page_row_count_limit(2).set_write_batch_size(1).build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(4) {
        let mut group = writer.next_row_group().unwrap();
        let images: Vec<ByteArray> = rows.iter().map(|(path, _)| fs::read(path).unwrap().into()).collect();
        let labels: Vec<ByteArray> = rows.iter().map(|(_, label)| ByteArray::from(*label)).collect();
        for values in [images, labels] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}
