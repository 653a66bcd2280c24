//! Batches of prepared images, made in the background, cut where shards end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::reader::Reader;
use super::skipped::Skipped;
use super::{ExportError, Part};
use pixtok_base::Carried;
use pixtok_images::data::{Altered, Fit, ImageSize, Prepare, Prepared, Sample, SampleSet};
use pixtok_tokens::{FormatKind, Grid};
use pixtok_torch::TorchError;

/// Batches kept ready ahead of the encoder.
const READY: usize = 2;

/// How much goes into a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardSize {
    /// So many images.
    Images(u64),
    /// As many images as reach so many bytes of ids.
    Bytes(u64),
}

/// How rows become batches and shards.
#[derive(Debug, Clone)]
pub struct Batching {
    /// Images in a full batch.
    pub batch_size: usize,
    /// Where shards end.
    pub shard: ShardSize,
    /// Bytes of ids that an image of one position takes, for [`ShardSize::Bytes`].
    pub bytes_per_position: u64,
    /// Pixels to a position along each axis.
    pub downsample: u32,
    /// Which share of the input.
    pub part: Part,
    /// Threads that decode; 0 for one per core.
    pub workers: usize,
    /// Which part of a picture becomes the image.
    pub fit: Fit,
    /// Of the files, which may not hold every key.
    pub format: FormatKind,
    /// Whether each image is followed by its mirror image, whose key is [`mirrored`].
    pub mirrored: bool,
}

/// To how many a batch of `count` images is padded. The numbers of a convolution depend on the batch's size in their last
/// bits, so a batch that is not full is filled up. With sizes of their own, images rarely come in full batches; there the
/// next power of two has to do.
#[must_use]
pub fn padded(count: usize, batch_size: usize, one_size: bool) -> usize {
    if one_size { batch_size } else { count.next_power_of_two().min(batch_size) }
}

/// The key of an image's mirror image.
pub(super) fn mirrored(key: &str) -> String {
    format!("{key}~flip")
}

/// What is known of a row before it has tokens.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub key: String,
    pub label: Option<i64>,
    pub text: Option<String>,
    /// In the format's form.
    pub json: Option<Carried>,
    pub altered: Altered,
    /// Whether the format renamed fields in it.
    pub moved: bool,
    pub width: u32,
    pub height: u32,
    pub grid: Grid,
}

/// Images of one size within a batch.
#[derive(Debug)]
pub(super) struct Group {
    /// `[n, 3, H, W]` uint8; those after the group's rows are black.
    pub images: Tensor,
    /// Their rows' places in the batch.
    pub places: Vec<usize>,
}

/// Consecutive rows of one shard.
#[derive(Debug)]
pub struct Batch {
    pub(super) rows: Vec<Meta>,
    pub(super) groups: Vec<Group>,
    /// Samples before the last row and after the batch before that gave no image.
    pub(super) skipped: Vec<Skipped>,
    /// How many samples of the input are done with.
    pub(super) input_end: u64,
    /// Whether the shard ends here.
    pub(super) ends_shard: bool,
}

/// The batches of an input from some sample on. Dropping it stops its threads.
#[derive(Debug)]
pub struct Feed {
    batches: Option<Receiver<Result<Batch, ExportError>>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Feed {
    /// Starts at sample number `from` of the input, which begins a shard.
    ///
    /// # Errors
    /// When the input cannot be opened or threads cannot be started.
    pub fn start(
        set: &SampleSet,
        prepare: Prepare,
        batching: Batching,
        from: u64,
    ) -> Result<Self, ExportError> {
        let failed = |error: &dyn std::error::Error| {
            ExportError::Output(format!("cannot start the threads that read images: {error}"))
        };
        let pool = ThreadPoolBuilder::new()
            .num_threads(batching.workers)
            .thread_name(|index| format!("decode-{index}"))
            .build()
            .map_err(|error| failed(&error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, batches) = sync_channel(READY);
        let reader = Reader::new(set.stream()?, from, &batching, Arc::clone(&stop));
        let maker = Maker {
            prepare,
            batching,
            pool,
            sender,
            batch: Building::default(),
            in_shard: Filled::default(),
        };
        let thread = thread::Builder::new().name("feed".to_owned()).spawn(move || maker.run(reader));
        Ok(Self { batches: Some(batches), thread: Some(thread.map_err(|error| failed(&error))?), stop })
    }
}

impl Iterator for Feed {
    type Item = Result<Batch, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.batches.as_ref()?.recv();
        received.ok().or_else(|| match self.thread.take()?.join() {
            Ok(()) => None,
            Err(_) => Some(Err(ExportError::Output("the thread that reads images panicked".into()))),
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for room in the channel wakes up when the receiver goes.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already, and a destructor has nobody to tell.
            let _ = thread.join();
        }
    }
}

/// The image of a sample, or why it is left out.
fn prepared(sample: &Sample, prepare: &Prepare, batching: &Batching) -> Result<Prepared, String> {
    let format = batching.format.format();
    format.check_key(&sample.key)?;
    if batching.mirrored {
        format.check_key(&mirrored(&sample.key))?;
    }
    prepare.image(sample.image.as_ref().map_err(Clone::clone)?)
}

/// Makes batches and sends them.
struct Maker {
    prepare: Prepare,
    batching: Batching,
    pool: ThreadPool,
    sender: SyncSender<Result<Batch, ExportError>>,
    batch: Building,
    in_shard: Filled,
}

/// A batch that is being filled.
#[derive(Default)]
struct Building {
    rows: Vec<Meta>,
    images: Vec<Prepared>,
    skipped: Vec<Skipped>,
    input_end: u64,
}

/// How full the shard is.
#[derive(Default)]
struct Filled {
    images: u64,
    bytes: u64,
}

impl Maker {
    fn run(mut self, mut reader: Reader) {
        // Sending fails once the feed is dropped.
        if let Err(error) = self.feed(&mut reader) {
            let _ = self.sender.send(Err(error));
        }
    }

    fn feed(&mut self, reader: &mut Reader) -> Result<(), ExportError> {
        loop {
            let samples = reader.read(self.batching.batch_size)?;
            let end = samples.len() < self.batching.batch_size;
            let Self { prepare, batching, .. } = &*self;
            let prepared: Vec<Result<Prepared, String>> = self.pool.install(|| {
                samples.par_iter().map(|(_, sample)| prepared(sample, prepare, batching)).collect()
            });
            for ((position, sample), image) in samples.into_iter().zip(prepared) {
                self.batch.input_end = position;
                match image {
                    Ok(image) => self.add(sample, image)?,
                    Err(reason) => self.batch.skipped.push(Skipped { key: sample.key, reason }),
                }
            }
            if end {
                self.batch.input_end = reader.position;
                return self.flush(false);
            }
        }
    }

    fn add(&mut self, sample: Sample, image: Prepared) -> Result<(), ExportError> {
        let factor = self.batching.downsample;
        let grid = Grid { h: image.size.height / factor, w: image.size.width / factor };
        let Sample { key, label, text, mut json, altered, .. } = sample;
        let moved = json.as_mut().is_some_and(|json| self.batching.format.format().make_room(json));
        let (width, height) = image.original;
        self.batch.rows.push(Meta { key, label, text, json, altered, moved, width, height, grid });
        self.batch.images.push(image);
        self.in_shard.images += 1;
        self.in_shard.bytes += grid.positions() as u64 * self.batching.bytes_per_position;
        let shard_is_full = match self.batching.shard {
            ShardSize::Images(most) => self.in_shard.images >= most,
            ShardSize::Bytes(most) => self.in_shard.bytes >= most,
        };
        if shard_is_full {
            self.in_shard = Filled::default();
        }
        if shard_is_full || self.batch.rows.len() == self.batching.batch_size {
            self.flush(shard_is_full)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, ends_shard: bool) -> Result<(), ExportError> {
        let Building { rows, images, skipped, input_end } = std::mem::take(&mut self.batch);
        let groups = self.groups(&images)?;
        // Sending fails once the feed is dropped, which the reader notices too.
        let _ = self.sender.send(Ok(Batch { rows, groups, skipped, input_end, ends_shard }));
        Ok(())
    }

    /// Images of one size together, in the order of the first of each size.
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
        let padded = padded(places.len(), self.batching.batch_size, self.batching.fit == Fit::Centre);
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
