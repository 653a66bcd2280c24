//! Prepares batches of images in the background. No batch crosses the end of a shard.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::reader::Reader;
use super::skipped::Skipped;
use super::{ExportError, Subset};
use pixtok_base::Carried;
use pixtok_images::data::{
    Altered, DataError, Fit, ImageSize, Pipeline, Plan, Prepare, Prepared, Sample, SampleSet, threads,
};
use pixtok_tokens::{FormatKind, StatedGrid, TokenShape};
use pixtok_torch::TorchError;

/// The number of batches that are ready or being made ahead of the encoder.
const AHEAD: usize = 3;

/// The size of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardSize {
    /// This number of images.
    Images(u64),
    /// As many images as reach this number of bytes of ids.
    Bytes(u64),
}

/// How rows are grouped into batches and shards.
#[derive(Debug, Clone)]
pub struct Batching {
    /// The number of images in a full batch.
    pub batch_size: usize,
    /// The size of a shard.
    pub shard: ShardSize,
    /// The bytes of ids that one position of an image takes, for [`ShardSize::Bytes`].
    pub bytes_per_position: u64,
    /// The shape of the images' tokens.
    pub grid: StatedGrid,
    /// The share of the input.
    pub subset: Subset,
    /// The number of decoding threads; 0 for one per core.
    pub workers: usize,
    /// The part of a picture that becomes the image.
    pub fit: Fit,
    /// The format of the files. Some formats cannot hold every key.
    pub format: FormatKind,
    /// Whether each image is followed by its mirror image, whose key is [`mirrored`].
    pub mirrored: bool,
}

/// The size to which a batch of `count` images is padded. The last bits of a convolution depend on
/// the batch size, so a batch that is not full is filled up. Images of different sizes rarely make
/// full batches, so they are padded only to the next power of two.
#[must_use]
pub fn padded(count: usize, batch_size: usize, one_size: bool) -> usize {
    if one_size { batch_size } else { count.next_power_of_two().min(batch_size) }
}

/// What the key of a mirror image ends in.
pub(super) const MIRRORED: &str = "~flip";

/// The key of an image's mirror image.
pub(super) fn mirrored(key: &str) -> String {
    format!("{key}{MIRRORED}")
}

/// What is known of a row before it has tokens.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub key: String,
    pub label: Option<i64>,
    pub text: Option<String>,
    /// Its JSON, in the format's form.
    pub json: Option<Carried>,
    pub altered: Altered,
    /// Whether the format renamed fields of the JSON.
    pub moved: bool,
    pub width: u32,
    pub height: u32,
    /// The share of its area that the image shows, in millionths.
    pub kept: u64,
    pub shape: TokenShape,
}

/// The images of one size within a batch.
#[derive(Debug)]
pub(super) struct Group {
    /// `[n, 3, H, W]` uint8; the images after the group's rows are black.
    pub images: Tensor,
    /// The indices of their rows in the batch.
    pub places: Vec<usize>,
}

/// Consecutive rows of one shard.
#[derive(Debug)]
pub struct Batch {
    pub(super) rows: Vec<Meta>,
    pub(super) groups: Vec<Group>,
    /// Samples without an image between the last batch and the last row of this one.
    pub(super) skipped: Vec<Skipped>,
    /// The number of samples of the input that are completed.
    pub(super) input_end: u64,
    /// Whether this batch is the last of its shard.
    pub(super) ends_shard: bool,
}

/// The batches of an input from some sample on. Dropping the feed stops its threads.
#[derive(Debug)]
pub struct Feed {
    batches: Pipeline<Result<Batch, ExportError>>,
}

impl Feed {
    /// Starts at sample number `from` of the input, which is the first of a shard.
    ///
    /// # Errors
    /// When the input cannot be opened or threads cannot be started.
    pub fn start(
        set: &SampleSet,
        prepare: Prepare,
        batching: Batching,
        from: u64,
    ) -> Result<Self, ExportError> {
        let reader = Reader::new(set.stream()?, from, &batching);
        let (plan, workers) = (Feeding::new(batching.clone(), reader), batching.workers);
        let work = move |job: Job| match job {
            Job::Read(mut reader) => {
                let sample = reader.read();
                Done::Read(reader, sample)
            }
            Job::Prepare(number, position, sample) => {
                let image = prepared(&sample, &prepare, &batching);
                Done::Prepared(number, Outcome { position, sample, image })
            }
            Job::Assemble(number, cut) => Done::Batch(number, cut.assemble(&batching)),
        };
        Ok(Self { batches: Pipeline::start(plan, workers, work)? })
    }
}

impl Iterator for Feed {
    type Item = Result<Batch, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.unwrap_or_else(|panicked| Err(DataError::from(panicked).into())))
    }
}

/// The image of a sample, or the reason why it is left out.
fn prepared(sample: &Sample, prepare: &Prepare, batching: &Batching) -> Result<Prepared, String> {
    let format = batching.format.format();
    format.check_key(&sample.key)?;
    if batching.mirrored {
        format.check_key(&mirrored(&sample.key))?;
    }
    prepare.image(sample.image.as_ref().map_err(Clone::clone)?)
}

/// The next job of a thread.
enum Job {
    /// Read the next sample. Only one thread at a time can do this, because samples come in order.
    Read(Box<Reader>),
    /// Make the image of a sample, given its number among the samples read and its position in the
    /// input.
    Prepare(u64, u64, Box<Sample>),
    /// Make the tensors of a batch.
    Assemble(u64, Box<Cut>),
}

/// The result of a job.
enum Done {
    Read(Box<Reader>, Result<Option<(u64, Box<Sample>)>, ExportError>),
    Prepared(u64, Outcome),
    Batch(u64, Result<Batch, ExportError>),
}

/// A sample with its image, or with the reason why it has none.
struct Outcome {
    position: u64,
    sample: Box<Sample>,
    image: Result<Prepared, String>,
}

/// The plan of a feed: turns samples into images, and these into batches and shards, in order.
struct Feeding {
    batching: Batching,
    /// The reader, while no thread uses it; gone at the end of the input.
    reader: Option<Box<Reader>>,
    /// Samples that were read ahead, for the next free threads.
    samples: VecDeque<(u64, u64, Box<Sample>)>,
    samples_ahead: usize,
    /// The number of samples read so far, and of those that batches have dealt with, in order.
    read: u64,
    settled: u64,
    outcomes: BTreeMap<u64, Outcome>,
    /// The number of samples that were read but neither skipped nor handed out in a batch.
    open: usize,
    batch: Building,
    in_shard: Filled,
    /// Batches whose tensors no thread makes yet.
    cuts: VecDeque<(u64, Box<Cut>)>,
    /// The number of batches cut so far, and of those handed out.
    cut: u64,
    left: u64,
    batches: BTreeMap<u64, Result<Batch, ExportError>>,
    /// How the input ended, if it has: at this position, or with an error.
    end: Option<Result<u64, ExportError>>,
    /// Whether the last batch has been cut.
    ended: bool,
}

/// A batch that only lacks its tensors.
struct Cut {
    building: Building,
    ends_shard: bool,
}

/// A batch that is being filled.
#[derive(Default)]
struct Building {
    rows: Vec<Meta>,
    images: Vec<Prepared>,
    skipped: Vec<Skipped>,
    input_end: u64,
}

/// The size of the current shard so far.
#[derive(Default)]
struct Filled {
    images: u64,
    bytes: u64,
}

impl Feeding {
    fn new(batching: Batching, reader: Reader) -> Self {
        Self {
            samples_ahead: threads(batching.workers),
            batching,
            reader: Some(Box::new(reader)),
            samples: VecDeque::new(),
            read: 0,
            settled: 0,
            outcomes: BTreeMap::new(),
            open: 0,
            batch: Building::default(),
            in_shard: Filled::default(),
            cuts: VecDeque::new(),
            cut: 0,
            left: 0,
            batches: BTreeMap::new(),
            end: None,
            ended: false,
        }
    }

    /// Puts the available images into batches, in order.
    fn settle(&mut self) {
        if self.ended {
            return;
        }
        while let Some(Outcome { position, sample, image }) = self.outcomes.remove(&self.settled) {
            self.settled += 1;
            self.batch.input_end = position;
            match image {
                Ok(image) => {
                    if let Err(error) = self.add(*sample, image) {
                        self.fail(error);
                        return;
                    }
                }
                Err(reason) => {
                    self.open -= 1;
                    let Sample { key, tried, .. } = *sample;
                    let path = tried.map(|path| path.display().to_string());
                    self.batch.skipped.push(Skipped { key, reason, path });
                }
            }
        }
        if self.settled == self.read
            && let Some(end) = self.end.take()
        {
            self.ended = true;
            match end {
                Ok(position) => {
                    self.batch.input_end = position;
                    self.flush(false);
                }
                Err(error) => self.fail(error),
            }
        }
    }

    /// The error comes after the batches that were cut before it. Nothing comes after the error.
    fn fail(&mut self, error: ExportError) {
        self.ended = true;
        self.batches.insert(self.cut, Err(error));
        self.cut += 1;
    }

    fn add(&mut self, sample: Sample, image: Prepared) -> Result<(), ExportError> {
        let ImageSize { height, width } = image.size;
        let shape = self.batching.grid.shape_of_image(height, width).ok_or_else(|| {
            ExportError::Output("images of several sizes have no tokens in a sequence".into())
        })?;
        let Sample { key, label, text, mut json, altered, .. } = sample;
        let moved = json.as_mut().is_some_and(|json| self.batching.format.format().make_room(json));
        let (width, height) = image.original;
        let kept = (1e6 * image.kept).round() as u64;
        self.batch.rows.push(Meta { key, label, text, json, altered, moved, width, height, kept, shape });
        self.batch.images.push(image);
        self.in_shard.images += 1;
        self.in_shard.bytes += shape.positions() as u64 * self.batching.bytes_per_position;
        let shard_is_full = match self.batching.shard {
            ShardSize::Images(most) => self.in_shard.images >= most,
            ShardSize::Bytes(most) => self.in_shard.bytes >= most,
        };
        if shard_is_full {
            self.in_shard = Filled::default();
        }
        if shard_is_full || self.batch.rows.len() == self.batching.batch_size {
            self.flush(shard_is_full);
        }
        Ok(())
    }

    fn flush(&mut self, ends_shard: bool) {
        let building = std::mem::take(&mut self.batch);
        self.cuts.push_back((self.cut, Box::new(Cut { building, ends_shard })));
        self.cut += 1;
    }
}

impl Plan for Feeding {
    type Job = Job;
    type Done = Done;
    type Item = Result<Batch, ExportError>;

    fn next_job(&mut self) -> Option<Job> {
        if let Some((number, cut)) = self.cuts.pop_front() {
            return Some(Job::Assemble(number, cut));
        }
        if self.ended {
            return None;
        }
        // Reading comes before decoding, so that no thread has to wait for a sample.
        if self.samples.len() < self.samples_ahead
            && self.open < AHEAD * self.batching.batch_size
            && let Some(reader) = self.reader.take()
        {
            return Some(Job::Read(reader));
        }
        self.samples.pop_front().map(|(number, position, sample)| Job::Prepare(number, position, sample))
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Read(reader, Ok(Some((position, sample)))) => {
                self.reader = Some(reader);
                self.samples.push_back((self.read, position, sample));
                self.read += 1;
                self.open += 1;
            }
            Done::Read(reader, Ok(None)) => self.end = Some(Ok(reader.position)),
            Done::Read(_, Err(error)) => self.end = Some(Err(error)),
            Done::Prepared(number, outcome) => {
                self.outcomes.insert(number, outcome);
            }
            Done::Batch(number, batch) => {
                self.batches.insert(number, batch);
            }
        }
        self.settle();
    }

    fn has_item(&self) -> bool {
        self.batches.contains_key(&self.left)
    }

    fn next_item(&mut self) -> Option<Self::Item> {
        let batch = self.batches.remove(&self.left)?;
        self.left += 1;
        self.open -= batch.as_ref().map_or(0, |batch| batch.rows.len());
        Some(batch)
    }

    fn is_over(&self) -> bool {
        self.ended && self.cut - self.left == self.batches.len() as u64
    }
}

impl Cut {
    fn assemble(self, batching: &Batching) -> Result<Batch, ExportError> {
        let Self { building: Building { rows, images, skipped, input_end }, ends_shard } = self;
        let groups = batching.groups(&images)?;
        Ok(Batch { rows, groups, skipped, input_end, ends_shard })
    }
}

impl Batching {
    /// Groups images by size, in the order in which each size first appears.
    fn groups(&self, images: &[Prepared]) -> Result<Vec<Group>, ExportError> {
        let mut sizes: Vec<(ImageSize, Vec<usize>)> = vec![];
        for (place, image) in images.iter().enumerate() {
            match sizes.iter_mut().find(|(size, _)| *size == image.size) {
                Some((_, places)) => places.push(place),
                None => sizes.push((image.size, vec![place])),
            }
        }
        sizes.into_iter().map(|(size, places)| self.group(size, places, images)).collect()
    }

    fn group(&self, size: ImageSize, places: Vec<usize>, images: &[Prepared]) -> Result<Group, ExportError> {
        let padded = padded(places.len(), self.batch_size, self.fit == Fit::Centre);
        let bytes = 3 * size.height as usize * size.width as usize;
        let mut planes = vec![0; padded * bytes];
        for (slot, &place) in places.iter().enumerate() {
            planes[slot * bytes..(slot + 1) * bytes].copy_from_slice(&images[place].planes);
        }
        let shape = [padded as i64, 3, i64::from(size.height), i64::from(size.width)];
        let images = Tensor::f_from_slice(&planes).and_then(|flat| flat.f_view(shape));
        let images = images.map_err(|error| ExportError::Output(TorchError::from(error).to_string()))?;
        Ok(Group { images, places })
    }
}
