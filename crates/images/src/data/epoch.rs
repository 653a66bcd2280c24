//! The progress of an epoch: which image is loaded next and into which place, and the images loaded
//! so far.
//!
//! Bad images leave no gap in a batch, but an image is known to be bad only once it is decoded. So
//! an image gets the place that it will have if all images that are still being decoded are good.
//! If one of them turns out to be bad, the images that were handed out after it are one place too
//! far; they are moved when their batch is complete. The next image gets the place that became free
//! at the end. As another image may still be written to that place, the next image goes into spare
//! memory and is moved, too. All later images are in the right place again.
//!
//! Nothing is ever overwritten: an image is moved to a place whose own image comes before it, since
//! no image is nearer to the start than its true place, and the images before it have been moved
//! already.

use std::collections::{BTreeMap, VecDeque};

use super::pass::Stream;
use super::{BadSample, BatchMemory, Cursor, DataError, Marks};

/// An image to load.
#[derive(Debug)]
pub(super) struct Job<I> {
    pub epoch: u64,
    /// The place in the stream of the epoch.
    position: usize,
    /// The index in the data set.
    pub image: usize,
    pub room: Room<I>,
}

/// The memory that an image is written to.
#[derive(Debug)]
pub(super) enum Room<I> {
    /// The place with this number, counted over all batches of the epoch.
    Place { number: usize, memory: I },
    /// Spare memory.
    Spare(Vec<u8>),
}

impl<I: AsMut<[u8]>> Room<I> {
    /// The memory for an image of `length` bytes.
    pub fn planes(&mut self, length: usize) -> &mut [u8] {
        match self {
            Self::Place { memory, .. } => memory.as_mut(),
            Self::Spare(bytes) => {
                bytes.resize(length, 0);
                bytes
            }
        }
    }
}

/// What is known about an image in a batch.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// The index in the data set.
    pub image: usize,
    pub name: String,
    pub label: Option<usize>,
    pub marks: Marks,
}

/// An image that was loaded, or is bad.
pub(super) struct Done<I> {
    pub job: Job<I>,
    pub outcome: Result<Loaded, BadSample>,
}

/// A complete batch whose memory is still in parts.
pub(super) struct Ready<M: BatchMemory> {
    pub rest: M::Rest,
    pub images: Vec<M::Image>,
    pub image_indices: Vec<usize>,
    pub names: Vec<String>,
    pub labels: Vec<Option<usize>>,
    pub marks: Marks,
    pub cursor: Cursor,
    pub bad: Vec<BadSample>,
}

/// The memory of a batch that is being loaded.
struct Buffer<M: BatchMemory> {
    rest: M::Rest,
    /// The memory of each image; `None` for images that are being loaded.
    images: Vec<Option<M::Image>>,
}

/// The next event in the stream of an epoch.
pub(super) enum Step {
    /// The image is still being loaded.
    Wait,
    /// A good image was added to the batch.
    Good,
    /// The image is bad.
    Bad(BadSample),
    /// The batch is full.
    Full,
    /// The epoch is over. Its last images may not have filled a batch.
    End,
}

/// A loaded image with its place in the memory of a batch.
type Placed<M> = (Room<<M as BatchMemory>::Image>, Loaded);

/// An epoch that is being loaded.
pub(super) struct Epoch<M: BatchMemory> {
    pub number: u64,
    batch_size: usize,
    /// Whether another epoch follows, so that images that don't fill a batch are not loaded.
    endless: bool,
    stream: Stream,
    /// The place in the stream of the next image to load.
    next: usize,
    /// The number of images handed out so far, and of those known to be bad.
    begun: usize,
    bad: usize,
    /// The number of places handed out so far, and the memory of incomplete batches.
    places: usize,
    buffers: VecDeque<Buffer<M>>,
    /// The number of complete batches.
    complete: usize,
    /// Loaded images by place in the stream, while earlier ones are awaited.
    done: BTreeMap<usize, Result<Placed<M>, BadSample>>,
    /// All images before this place in the stream are processed.
    position: usize,
    /// Images before this place in the stream are loaded in any case.
    wanted: usize,
    /// The images of the batch that is being made.
    good: Vec<Placed<M>>,
}

impl<M: BatchMemory> Epoch<M> {
    /// The epoch that `stream` is of, in batches of `batch_size`.
    pub fn new(stream: Stream, batch_size: usize, endless: bool) -> Self {
        let position = stream.first;
        Self {
            number: stream.epoch,
            batch_size,
            endless,
            stream,
            next: position,
            begun: 0,
            bad: 0,
            places: 0,
            buffers: VecDeque::new(),
            complete: 0,
            done: BTreeMap::new(),
            position,
            wanted: position,
            good: vec![],
        }
    }

    /// The number of images in its stream.
    pub fn len(&self) -> usize {
        self.stream.images.len()
    }

    /// The number of good images in the unfinished batch.
    pub fn rest(&self) -> usize {
        self.good.len()
    }

    /// The number of batches that are being loaded.
    pub fn open(&self) -> usize {
        self.buffers.len()
    }

    /// The cursor after the processed images.
    pub fn cursor(&self) -> Cursor {
        self.stream.cursor(self.position)
    }

    /// Whether it was read from its start without giving a full batch yet.
    pub fn is_fruitless(&self) -> bool {
        self.stream.is_from_start() && self.complete == 0
    }

    /// Whether it gives a batch or did not start at its first image, as far as is known.
    pub fn may_be_fruitful(&self) -> bool {
        !self.stream.is_from_start() || self.good_so_far() >= self.batch_size
    }

    /// The number of good images handed out so far, if all that are still being loaded are good.
    fn good_so_far(&self) -> usize {
        self.begun - self.bad
    }

    /// Whether another image should be loaded, as far as is known. At the end of an epoch, images
    /// that cannot fill a batch are not loaded.
    pub fn has_work(&self) -> bool {
        let remaining = self.len() - self.next;
        let room = self.batch_size - self.good_so_far() % self.batch_size;
        self.next < self.wanted || if self.endless { remaining >= room } else { remaining > 0 }
    }

    /// Whether another batch must be allocated before [`Epoch::job`].
    pub fn needs_memory(&self) -> bool {
        self.good_so_far() == self.places
            && self.places == (self.complete + self.buffers.len()) * self.batch_size
    }

    /// Adds the memory of another batch.
    pub fn add_memory(&mut self, rest: M::Rest, images: Vec<M::Image>) {
        self.buffers.push_back(Buffer { rest, images: images.into_iter().map(Some).collect() });
    }

    /// The next image to load. To be called when there is one, and memory for it.
    pub fn job(&mut self) -> Option<Job<M::Image>> {
        let image = *self.stream.images.get(self.next)? as usize;
        let number = self.good_so_far();
        let room = if number < self.places {
            Room::Spare(vec![])
        } else {
            self.places += 1;
            Room::Place { number, memory: self.place(number)?.take()? }
        };
        self.next += 1;
        self.begun += 1;
        Some(Job { epoch: self.number, position: self.next - 1, image, room })
    }

    /// The place with this number in an incomplete batch.
    fn place(&mut self, number: usize) -> Option<&mut Option<M::Image>> {
        let batch = (number / self.batch_size).checked_sub(self.complete)?;
        self.buffers.get_mut(batch)?.images.get_mut(number % self.batch_size)
    }

    /// Takes an image that was loaded.
    pub fn add(&mut self, done: Done<M::Image>) {
        let Done { job, outcome } = done;
        let outcome = match outcome {
            Ok(loaded) => Ok((job.room, loaded)),
            Err(bad) => {
                self.bad += 1;
                self.give_back(job.room);
                Err(bad)
            }
        };
        self.done.insert(job.position, outcome);
    }

    /// Returns the memory of an image that does not need it (any more).
    fn give_back(&mut self, room: Room<M::Image>) {
        if let Room::Place { number, memory } = room
            && let Some(place) = self.place(number)
        {
            *place = Some(memory);
        }
    }

    /// Processes the next image of the stream.
    pub fn step(&mut self) -> Step {
        if self.good.len() == self.batch_size {
            return Step::Full;
        }
        if self.position == self.wanted {
            // Load as many images as the batch has space for. If not enough are left, the epoch
            // ends. If it has given no batch, the rest is loaded to find out how many of its images
            // are good.
            let (room, remaining) = (self.batch_size - self.good.len(), self.len() - self.position);
            let loads_rest = !self.endless || self.is_fruitless();
            self.wanted += if remaining >= room {
                room
            } else if loads_rest {
                remaining
            } else {
                0
            };
            if self.position == self.wanted {
                return Step::End;
            }
        }
        let Some(outcome) = self.done.remove(&self.position) else { return Step::Wait };
        self.position += 1;
        match outcome {
            Ok(image) => {
                self.good.push(image);
                Step::Good
            }
            Err(bad) => Step::Bad(bad),
        }
    }

    /// The batch of the good images since the previous one. Each image is moved to its place.
    pub fn finish(&mut self, bad: Vec<BadSample>) -> Result<Ready<M>, DataError> {
        let lost = || DataError::Loader("a place in a batch is lost".to_owned());
        let (good, first) = (std::mem::take(&mut self.good), self.complete * self.batch_size);
        let (mut image_indices, mut names, mut labels) = (vec![], vec![], vec![]);
        let mut marks = Marks::default();
        for (target, (mut room, loaded)) in (first..).zip(good) {
            image_indices.push(loaded.image);
            names.push(loaded.name);
            labels.push(loaded.label);
            marks += loaded.marks;
            if !matches!(room, Room::Place { number, .. } if number == target) {
                let place = self.place(target).and_then(Option::as_mut).ok_or_else(lost)?;
                let bytes = place.as_mut();
                bytes.copy_from_slice(room.planes(bytes.len()));
            }
            self.give_back(room);
        }
        let Buffer { rest, images } = self.buffers.pop_front().ok_or_else(lost)?;
        self.complete += 1;
        let images = images.into_iter().collect::<Option<_>>().ok_or_else(lost)?;
        Ok(Ready { rest, images, image_indices, names, labels, marks, cursor: self.cursor(), bad })
    }
}
