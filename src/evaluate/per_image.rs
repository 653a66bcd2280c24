//! The values of each image as a table: CSV for spreadsheets, Parquet for data frames.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::Scores;
use super::scores::Column;
use crate::metrics::Absent;
use pixtok_report::definition;

impl Scores {
    /// Reads a table that [`Scores::to_csv`] wrote.
    ///
    /// # Errors
    /// If it is not such a table.
    pub fn from_csv(bytes: &[u8]) -> Result<Self, csv::Error> {
        let damaged =
            |what: &str| Error::new(ErrorKind::InvalidData, format!("{what} is not the value of an image"));
        let mut reader = csv::Reader::from_reader(bytes);
        let mut scores = Self::default();
        for name in reader.headers()?.iter().skip(1) {
            let name = definition(name).ok_or_else(|| damaged(name))?.name;
            scores.columns.push(Column { name, values: vec![], absent: None });
        }
        for row in reader.records() {
            let row = row?;
            scores.names.push(row.get(0).unwrap_or_default().to_owned());
            for (column, field) in scores.columns.iter_mut().zip(row.iter().skip(1)) {
                if field.is_empty() {
                    column.values.push(f64::NAN);
                    column.absent.get_or_insert((Absent("not measured".into()), 0)).1 += 1;
                } else {
                    column.values.push(field.parse().map_err(|_| damaged(field))?);
                }
            }
        }
        Ok(scores)
    }

    /// Writes the values as CSV: one row per image, with an empty field where an image has no
    /// value.
    ///
    /// # Errors
    /// If a row cannot be written.
    pub fn to_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(vec![]);
        let header = std::iter::once("image").chain(self.columns.iter().map(|column| column.name));
        writer.write_record(header)?;
        for (row, name) in self.names.iter().enumerate() {
            let values = self.columns.iter().map(|column| column.values[row]);
            let fields = values.map(|value| if value.is_nan() { String::new() } else { value.to_string() });
            writer.write_record(std::iter::once(name.clone()).chain(fields))?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }

    /// Writes the values as Parquet: a text column `image`, then one double column per metric, null
    /// where an image has no value. There is one row group, because a row takes only a few dozen
    /// bytes.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn to_parquet(&self) -> Result<Vec<u8>, ParquetError> {
        let columns: String =
            self.columns.iter().map(|column| format!("OPTIONAL DOUBLE {};", column.name)).collect();
        let schema =
            parse_message_type(&format!("message images {{ REQUIRED BYTE_ARRAY image (UTF8); {columns} }}"))?;
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties)?;
        let mut rows = writer.next_row_group()?;
        if let Some(mut column) = rows.next_column()? {
            let names: Vec<ByteArray> =
                self.names.iter().map(|name| name.as_bytes().to_vec().into()).collect();
            column.typed::<ByteArrayType>().write_batch(&names, None, None)?;
            column.close()?;
        }
        for values in self.columns.iter().map(|column| &column.values) {
            let Some(mut column) = rows.next_column()? else { break };
            let present: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            let levels: Vec<i16> = values.iter().map(|value| i16::from(!value.is_nan())).collect();
            column.typed::<DoubleType>().write_batch(&present, Some(&levels), None)?;
            column.close()?;
        }
        rows.close()?;
        writer.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::metrics::{ImageMetric, L1, Ssim};

    #[test]
    fn both_tables_have_what_was_measured_and_nothing_where_nothing_was() {
        let metrics: Vec<Box<dyn ImageMetric>> = vec![Box::new(L1), Box::new(Ssim)];
        let mut scores = Scores::new(&metrics);
        let image = |level: i64| Tensor::full([1, 3, 5, 7], level, (Kind::Uint8, Device::Cpu));
        scores.add(&metrics, vec!["a, b.png".into()], &image(7), &image(9));
        scores.add(&metrics, vec!["c.png".into()], &image(7), &image(8));
        let csv = String::from_utf8(scores.to_csv().unwrap()).unwrap();
        assert_eq!(csv, "image,l1,ssim\n\"a, b.png\",2,\nc.png,1,\n");
        let back = Scores::from_csv(csv.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(back.to_csv().unwrap()).unwrap(), csv);
        assert_eq!(back.means(true).flat()["l1"], scores.means(true).flat()["l1"]);
        for damaged in ["image,l1\na,x\n", "image,own\na,1\n", "image,l1\na,1,2\n"] {
            assert!(Scores::from_csv(damaged.as_bytes()).is_err(), "{damaged}");
        }

        let bytes = bytes::Bytes::from(scores.to_parquet().unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        let rows: Vec<String> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            ["{image: \"a, b.png\", l1: 2.0, ssim: null}", "{image: \"c.png\", l1: 1.0, ssim: null}"]
        );
    }
}
