//! The TensorBoard event file of a run.
//!
//! The messages come from tensorboard-proto and the record framing from tensorboard-rs. That
//! crate's own `FileWriter` is not used: it panics when the disk is full, overwrites the file of a
//! writer that started in the same second, and scrambles pictures that are not square.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use protobuf::{Message, RepeatedField};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{
    HistogramProto, Summary, Summary_Image, Summary_Value, SummaryMetadata, SummaryMetadata_PluginData,
};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;
use tensorboard_rs::record_writer::RecordWriter;

use super::LoggerError;
use super::append::AppendFile;

const PREFIX: &str = "events.out.tfevents.";
/// TensorBoard draws 30 bars; more buckets than this would only make the file larger.
const MAX_BUCKETS: usize = 256;

/// An event file that one process holds open.
#[derive(Debug)]
pub(super) struct Events(AppendFile);

impl Events {
    /// Creates a new event file in `folder`. TensorBoard reads the event files of a folder in the
    /// order of their names, so the new name sorts after all existing ones. The file begins with a
    /// START event at `first_step`, the first step that it may hold: from the second file of a
    /// folder on, TensorBoard drops the points of earlier files at that step or later.
    pub(super) fn create(folder: &Path, first_step: u64) -> Result<Self, LoggerError> {
        let (path, file) = new_file(folder).map_err(|e| LoggerError::open(folder, e))?;
        let file = AppendFile::new(&path, file).map_err(|e| LoggerError::open(&path, e))?;
        let mut events = Self(file);
        let mut version = Event::new();
        version.set_file_version("brain.Event:2".to_owned());
        events.write(version)?;
        let mut session = SessionLog::new();
        session.set_status(SessionLog_SessionStatus::START);
        let mut start = Event::new();
        start.set_session_log(session);
        start.set_step(as_i64(first_step));
        events.write(start)?;
        Ok(events)
    }

    pub(super) fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), LoggerError> {
        let scalars = values.iter().map(|(tag, value)| {
            let mut scalar = tagged(tag);
            // TensorBoard's scalars have single precision; metrics.jsonl keeps all digits.
            scalar.set_simple_value(*value as f32);
            scalar
        });
        self.summary(step, scalars.collect())
    }

    /// Writes a picture. `png` holds a whole PNG file of `width` × `height` RGB pixels.
    pub(super) fn picture(
        &mut self,
        step: u64,
        tag: &str,
        (width, height): (usize, usize),
        png: &[u8],
    ) -> Result<(), LoggerError> {
        let mut image = Summary_Image::new();
        image.set_width(as_i32(width));
        image.set_height(as_i32(height));
        image.set_colorspace(3);
        image.set_encoded_image_string(png.to_vec());
        let mut value = tagged(tag);
        value.set_image(image);
        self.summary(step, vec![value])
    }

    /// Writes a histogram of `(code, count)` pairs of the codes that occur. The horizontal axis is
    /// the code, from 0 to `codes`.
    pub(super) fn histogram(
        &mut self,
        step: u64,
        tag: &str,
        codes: i64,
        counts: &[(i64, i64)],
    ) -> Result<(), LoggerError> {
        let mut value = tagged(tag);
        value.set_histo(histogram_of(codes, counts));
        self.summary(step, vec![value])
    }

    /// Writes `text`, which is shown unchanged in a fixed-width font.
    pub(super) fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<(), LoggerError> {
        // The text panel renders Markdown. An indented block is literal, whatever it contains.
        let block = text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let mut dimension = TensorShapeProto_Dim::new();
        dimension.set_size(1);
        let mut shape = TensorShapeProto::new();
        shape.set_dim(RepeatedField::from_vec(vec![dimension]));
        let mut tensor = TensorProto::new();
        tensor.set_dtype(DataType::DT_STRING);
        tensor.set_tensor_shape(shape);
        tensor.set_string_val(RepeatedField::from_vec(vec![block.into_bytes()]));
        let mut plugin = SummaryMetadata_PluginData::new();
        plugin.set_plugin_name("text".to_owned());
        let mut metadata = SummaryMetadata::new();
        metadata.set_plugin_data(plugin);
        let mut value = tagged(tag);
        value.set_metadata(metadata);
        value.set_tensor(tensor);
        self.summary(step, vec![value])
    }

    fn summary(&mut self, step: u64, values: Vec<Summary_Value>) -> Result<(), LoggerError> {
        let mut summary = Summary::new();
        summary.set_value(RepeatedField::from_vec(values));
        let mut event = Event::new();
        event.set_step(as_i64(step));
        event.set_summary(summary);
        self.write(event)
    }

    fn write(&mut self, mut event: Event) -> Result<(), LoggerError> {
        // A clock before 1970 must not prevent a measurement from being logged.
        event.set_wall_time(
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()),
        );
        let mut record = Vec::new();
        let framed = event
            .write_to_bytes()
            .map_err(io::Error::other)
            .and_then(|bytes| RecordWriter::new(&mut record).write(&bytes));
        framed.and_then(|()| self.0.append(&record)).map_err(|e| LoggerError::write(self.0.path(), e))
    }
}

/// Creates a file that did not exist. Its name holds the current second, or the second after the
/// newest file's.
fn new_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    let newest = newest_second(folder)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let second = now.max(newest.map_or(0, |newest| newest + 1));
    let path = folder.join(format!("{PREFIX}{second:010}.pixtok"));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    Ok((path, file))
}

fn newest_second(folder: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let second =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        newest = newest.max(second);
    }
    Ok(newest)
}

/// Sums neighbouring codes into at most [`MAX_BUCKETS`] buckets of equal width. The last one may be
/// narrower.
fn histogram_of(codes: i64, counts: &[(i64, i64)]) -> HistogramProto {
    let codes = codes.max(1);
    let width = (codes as u64).div_ceil(MAX_BUCKETS as u64) as i64;
    let mut buckets = vec![0.0; (codes as u64).div_ceil(width as u64) as usize];
    for &(code, count) in counts {
        if let Some(bucket) = usize::try_from(code / width).ok().and_then(|place| buckets.get_mut(place)) {
            *bucket += count as f64;
        }
    }
    let limits = (1..=buckets.len() as i64).map(|i| (i * width).min(codes) as f64).collect();
    let moment = |power| counts.iter().map(|&(code, n)| n as f64 * (code as f64).powi(power)).sum::<f64>();
    let mut histogram = HistogramProto::new();
    histogram.set_min(0.0);
    histogram.set_max(codes as f64);
    histogram.set_num(moment(0));
    histogram.set_sum(moment(1));
    histogram.set_sum_squares(moment(2));
    histogram.set_bucket_limit(limits);
    histogram.set_bucket(buckets);
    histogram
}

fn tagged(tag: &str) -> Summary_Value {
    let mut value = Summary_Value::new();
    value.set_tag(tag.to_owned());
    value
}

fn as_i64(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

fn as_i32(pixels: usize) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}
