//! An epoch on its way into batches: which image is loaded next and into which place, and what has come of those before.
//!
//! Bad images leave no gap in a batch, and which images are bad is known only once they are decoded. So an image is
//! given the place that it has if all those that are still being decoded are good. When one turns out bad, those that
//! were given out after it stand a place too far and are moved when their batch is complete; the next image takes the
//! place that became free at the end. That place may be written to at the time, so it goes into memory of its own and
//! is moved, too. All later ones stand right again.
//!
//! Nothing is ever written over: an image is moved to a place whose own image comes before it, since no image stands
//! nearer than its true place; and those before it have been moved already.

use std::collections::{BTreeMap, VecDeque};

use super::{BadSample, BatchMemory, Cursor, DataError, Marks};

/// An image to load.
#[derive(Debug)]
pub(super) struct Job<I> {
    pub epoch: u64,
    /// In the order of the epoch.
    position: usize,
    /// In the data set.
    pub image: usize,
    pub room: Room<I>,
}

/// Where an image is written.
#[derive(Debug)]
pub(super) enum Room<I> {
    /// The place of this number in the batches of the epoch, counted over all of them.
    Place { number: usize, memory: I },
    /// Memory of its own.
    Spare(Vec<u8>),
}

impl<I: AsMut<[u8]>> Room<I> {
    /// The memory of an image of `length` bytes.
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

/// What is known of an image in a batch.
#[derive(Debug)]
pub(super) struct Loaded {
    pub name: String,
    pub label: Option<usize>,
    pub marks: Marks,
}

/// An image that has been loaded, or is bad.
pub(super) struct Done<I> {
    pub job: Job<I>,
    pub outcome: Result<Loaded, BadSample>,
}

/// A batch whose memory is still in parts.
pub(super) struct Ready<M: BatchMemory> {
    pub rest: M::Rest,
    pub images: Vec<M::Image>,
    pub names: Vec<String>,
    pub labels: Vec<Option<usize>>,
    pub marks: Marks,
    pub cursor: Cursor,
    pub bad: Vec<BadSample>,
}

/// The memory of a batch on its way.
struct Buffer<M: BatchMemory> {
    rest: M::Rest,
    /// None for those that are out.
    images: Vec<Option<M::Image>>,
}

/// What comes next in the order of an epoch.
pub(super) enum Step {
    /// An image that is still being loaded.
    Wait,
    /// A good image, which joined the batch.
    Good,
    /// A bad one.
    Bad(BadSample),
    /// The batch is full.
    Full,
    /// The epoch is over; its last images may not have filled a batch.
    End,
}

/// An epoch that is being loaded.
pub(super) struct Epoch<M: BatchMemory> {
    pub number: u64,
    batch_size: usize,
    /// Whether one like it follows, so that what fills no batch is not loaded.
    endless: bool,
    order: Vec<u32>,
    /// Whether it was begun at its first image.
    from_start: bool,
    /// The position of the image that is loaded next.
    next: usize,
    /// Images given out so far, and how many of them are known to be bad.
    begun: usize,
    bad: usize,
    /// Places given out so far, and the memory of those whose batch is not complete.
    places: usize,
    buffers: VecDeque<Buffer<M>>,
    /// Complete batches.
    complete: usize,
    /// By position, those that are waited for first.
    done: BTreeMap<usize, Result<(Room<M::Image>, Loaded), BadSample>>,
    /// Everything before this position is dealt with.
    position: usize,
    /// Images before this position are loaded in any case.
    wanted: usize,
    /// The images of the batch that is being made.
    good: Vec<(Room<M::Image>, Loaded)>,
}

impl<M: BatchMemory> Epoch<M> {
    /// From a cursor on, in batches of `batch_size`.
    pub fn new(start: Cursor, order: Vec<u32>, batch_size: usize, endless: bool) -> Self {
        let position = order.len().min(start.position as usize);
        Self {
            number: start.epoch,
            batch_size,
            endless,
            order,
            from_start: start.position == 0,
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

    /// Images of its order.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The good images of the unfinished batch.
    pub fn rest(&self) -> usize {
        self.good.len()
    }

    /// Batches on their way.
    pub fn open(&self) -> usize {
        self.buffers.len()
    }

    /// Where to go on after the images that are dealt with.
    pub fn cursor(&self) -> Cursor {
        Cursor { epoch: self.number, position: self.position as u64 }
    }

    /// Whether it has been seen from its start without one full batch yet.
    pub fn is_fruitless(&self) -> bool {
        self.from_start && self.complete == 0
    }

    /// Whether it gives a batch, or did not begin at its first image, as far as is known.
    pub fn may_be_fruitful(&self) -> bool {
        !self.from_start || self.good_so_far() >= self.batch_size
    }

    /// The good images given out so far, if all that are still being loaded are good.
    fn good_so_far(&self) -> usize {
        self.begun - self.bad
    }

    /// Whether a further image is wanted, as far as is known: at the end of an epoch, what cannot fill a batch is not
    /// loaded.
    pub fn has_work(&self) -> bool {
        let remaining = self.order.len() - self.next;
        let room = self.batch_size - self.good_so_far() % self.batch_size;
        self.next < self.wanted || if self.endless { remaining >= room } else { remaining > 0 }
    }

    /// Whether memory for another batch is needed before [`Epoch::job`].
    pub fn needs_memory(&self) -> bool {
        self.good_so_far() == self.places
            && self.places == (self.complete + self.buffers.len()) * self.batch_size
    }

    /// Takes memory for another batch.
    pub fn add_memory(&mut self, rest: M::Rest, images: Vec<M::Image>) {
        self.buffers.push_back(Buffer { rest, images: images.into_iter().map(Some).collect() });
    }

    /// The next image to load; to be called when there is one and memory for it.
    pub fn job(&mut self) -> Option<Job<M::Image>> {
        let image = *self.order.get(self.next)? as usize;
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

    /// The place of this number in a batch that is not complete.
    fn place(&mut self, number: usize) -> Option<&mut Option<M::Image>> {
        let batch = (number / self.batch_size).checked_sub(self.complete)?;
        self.buffers.get_mut(batch)?.images.get_mut(number % self.batch_size)
    }

    /// Takes an image that has been loaded.
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

    /// The memory of an image that is not needed there (any more).
    fn give_back(&mut self, room: Room<M::Image>) {
        if let Room::Place { number, memory } = room
            && let Some(place) = self.place(number)
        {
            *place = Some(memory);
        }
    }

    /// Deals with the next image of the order.
    pub fn step(&mut self) -> Step {
        if self.good.len() == self.batch_size {
            return Step::Full;
        }
        if self.position == self.wanted {
            // As many as the batch has room for. Where they are not there any more, an epoch ends; if it has given
            // nothing, the rest is loaded to tell how many of its images are good.
            let (room, remaining) = (self.batch_size - self.good.len(), self.order.len() - self.position);
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

    /// The batch of the good images since the one before, each moved to its place.
    pub fn finish(&mut self, bad: Vec<BadSample>) -> Result<Ready<M>, DataError> {
        let lost = || DataError::Loader("a place in a batch is lost".to_owned());
        let (good, first) = (std::mem::take(&mut self.good), self.complete * self.batch_size);
        let (mut names, mut labels, mut marks) = (vec![], vec![], Marks::default());
        for (target, (mut room, loaded)) in (first..).zip(good) {
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
        Ok(Ready { rest, images, names, labels, marks, cursor: self.cursor(), bad })
    }
}
