//! The batches of training images.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::json;
use tch::{Device, Tensor};

use super::bad_log::{BadLog, Split, bad_of};
use crate::batches::{Batch, Loader};
use crate::train::{Batches, Bookmark, Fetched, StateError, Surroundings, TrainError};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_images::data::{BadSample, BadSamples, Config, Cursor, DataError, Dataset};

/// Batches of a data set, `[B, 3, H, W]` uint8 on the CPU, loaded ahead.
pub struct ImageBatches {
    images: Arc<Dataset>,
    config: Config,
    /// The number of images in a batch of all processes together.
    batch_size: usize,
    seed: Seed,
    device: Device,
    world: World,
    /// The cursor at which the loader starts.
    from: Cursor,
    /// Opened by [`Batches::load_ahead`], or else by the first batch that is asked for.
    loader: Option<Loader>,
    /// Images that were skipped on the way to the last batch.
    skipped: Vec<BadSample>,
    /// Bad images that the other processes don't know of yet.
    unshared: Vec<BadSample>,
    bad: Option<BadLog>,
}

impl ImageBatches {
    /// Batches of `images`, in an order drawn from `seed`, for a model on `device` and this
    /// process's share of `world`. `batch_size` is the number of images in a batch of all processes
    /// together.
    #[must_use]
    pub fn new(
        images: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        seed: Seed,
        device: Device,
        world: &World,
    ) -> Self {
        Self {
            images,
            config: config.clone(),
            batch_size,
            seed,
            device,
            world: world.clone(),
            from: Cursor::default(),
            loader: None,
            skipped: vec![],
            unshared: vec![],
            bad: None,
        }
    }

    /// Where a bookmark of these batches leads any number of processes: to the earliest place if
    /// those that wrote it were at different places.
    ///
    /// # Errors
    /// When the bookmark does not belong to these batches.
    pub fn place(bookmark: &Bookmark) -> Result<Cursor, StateError> {
        let earliest = cursors(bookmark)?.into_iter().min_by_key(|cursor| (cursor.epoch, cursor.position));
        let none = || serde_json::Error::custom("the cursor names no process");
        Ok(Cursor { ahead: 0, ..earliest.ok_or_else(none)? })
    }

    /// The loader, opened where the batches go on if it isn't yet.
    fn loader(&mut self) -> Result<&mut Loader, DataError> {
        let loader = match self.loader.take() {
            Some(loader) => loader,
            None => Loader::train(
                Arc::clone(&self.images),
                &self.config,
                self.batch_size,
                self.seed,
                self.from,
                self.device,
                &self.world,
            )?,
        };
        Ok(self.loader.insert(loader))
    }

    fn load(&mut self) -> Result<Batch, DataError> {
        self.loader()?.next().unwrap_or_else(|| Err(DataError::Loader("it ended".into())))
    }
}

impl Batches<Tensor> for ImageBatches {
    fn beginning(&self) -> Bookmark {
        bookmark(Cursor::default())
    }

    fn seek(&mut self, bookmark: &Bookmark, around: &mut Surroundings) -> Result<(), TrainError> {
        let (rank, size) = (self.world.rank() as usize, self.world.size() as usize);
        self.from = place_of(bookmark, rank, size)?;
        let before = cursors(bookmark)?.len();
        if before != 1 && before != size {
            around.logger.note(&format!(
                "the {before} processes of the checkpoint had skipped different numbers of bad images; with \
                 {size} process(es), training resumes from the earliest of their places, so some images are \
                 seen again"
            ));
        }
        self.loader = None;
        if self.bad.is_none() {
            let counted = BadSamples::new(self.images.len(), self.config.max_bad_fraction);
            let (run, writes) = (around.run.folder().path(), around.world.writes());
            self.bad = Some(BadLog::open(run, around.step, Split::Train, counted, writes)?);
        }
        Ok(())
    }

    fn load_ahead(&mut self) -> Result<(), TrainError> {
        self.loader()?;
        Ok(())
    }

    fn next(&mut self) -> Result<Fetched<Tensor>, TrainError> {
        self.skipped.clear();
        let mut batch = self.load().inspect_err(|error| self.skipped = bad_of(error))?;
        self.skipped = std::mem::take(&mut batch.bad);
        Ok(Fetched {
            samples: batch.names.len(),
            batch: batch.images,
            names: batch.names,
            epoch: batch.cursor.epoch,
            bookmark: bookmark(batch.cursor),
        })
    }

    fn together(&self, of_all: Vec<Bookmark>) -> Bookmark {
        joined(of_all)
    }

    fn note_skipped(&mut self, around: &mut Surroundings) -> Result<(), TrainError> {
        let skipped = std::mem::take(&mut self.skipped);
        if self.world.size() > 1 {
            self.unshared.extend(skipped);
            return Ok(());
        }
        // They belong to the step that comes.
        self.bad.as_mut().map_or(Ok(()), |bad| bad.note(skipped, around.step + 1, around))
    }

    fn share_skipped(&mut self, around: &mut Surroundings) -> Result<(), TrainError> {
        if self.world.size() == 1 {
            return Ok(());
        }
        let own = serde_json::to_vec(&std::mem::take(&mut self.unshared)).map_err(StateError::from)?;
        let parse = |bytes: Vec<u8>| serde_json::from_slice::<Vec<BadSample>>(&bytes);
        let of_all = self.world.gather_bytes(&own)?.into_iter().map(parse);
        let of_all = of_all.collect::<Result<Vec<_>, _>>().map_err(StateError::from)?.concat();
        self.bad.as_mut().map_or(Ok(()), |bad| bad.note(of_all, around.step, around))
    }
}

/// The key of a cursor that is absent unless the process is ahead.
const AHEAD: &str = "ahead";

/// The cursor as a checkpoint's `state.json` has it.
fn bookmark(Cursor { epoch, position, ahead }: Cursor) -> Bookmark {
    let mut bookmark = json!({ "epoch": epoch, "position": position });
    if ahead > 0 {
        bookmark[AHEAD] = ahead.into();
    }
    bookmark
}

/// The bookmark of all processes, given that of each, by rank.
fn joined(of_all: Vec<Bookmark>) -> Bookmark {
    match of_all.as_slice() {
        // A process is ahead by images of its own share, so equal cursors are not the same place.
        [first, others @ ..] if first.get(AHEAD).is_none() && others.iter().all(|other| other == first) => {
            first.clone()
        }
        _ => json!({ "processes": of_all }),
    }
}

/// The cursors of processes that are at different places.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apart {
    /// By rank.
    processes: Vec<Cursor>,
}

/// The cursors in a bookmark: one for all processes, or one for each.
fn cursors(bookmark: &Bookmark) -> Result<Vec<Cursor>, StateError> {
    Ok(match bookmark.get("processes") {
        Some(_) => Apart::deserialize(bookmark)?.processes,
        None => vec![Cursor::deserialize(bookmark)?],
    })
}

/// Where a bookmark leads process `rank` of `size`.
fn place_of(bookmark: &Bookmark, rank: usize, size: usize) -> Result<Cursor, StateError> {
    let cursors = cursors(bookmark)?;
    if cursors.len() == size { Ok(cursors[rank]) } else { ImageBatches::place(bookmark) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Cursor = Cursor { epoch: 2, position: 24, ahead: 1 };
    const LATE: Cursor = Cursor { epoch: 3, position: 0, ahead: 0 };
    const PLAIN: Cursor = Cursor { epoch: 2, position: 24, ahead: 0 };

    fn of_all(cursors: &[Cursor]) -> Bookmark {
        joined(cursors.iter().map(|cursor| bookmark(*cursor)).collect())
    }

    #[test]
    fn processes_at_one_place_share_its_bookmark() {
        for size in [1, 3] {
            let all = of_all(&vec![PLAIN; size]);
            assert_eq!(all, bookmark(PLAIN));
            for (rank, size) in [(0, 1), (0, 2), (2, 3)] {
                assert_eq!(place_of(&all, rank, size).unwrap(), PLAIN);
            }
        }
    }

    #[test]
    fn processes_at_different_places_have_a_cursor_each() {
        let all = of_all(&[LATE, EARLY]);
        assert_eq!(all["processes"][1], serde_json::to_value(EARLY).unwrap());
        assert_eq!([0, 1].map(|rank| place_of(&all, rank, 2).unwrap()), [LATE, EARLY]);
        // Another number of processes begins at the earliest place.
        for (rank, size) in [(0, 1), (0, 3), (1, 3), (2, 3)] {
            assert_eq!(place_of(&all, rank, size).unwrap(), PLAIN);
        }
        // Each process still has the whole bookmark before the first step after a resume.
        assert_eq!(joined(vec![all.clone(); 3]), all);
        // Only the same number of processes can use `ahead`.
        let ahead = of_all(&[EARLY, EARLY]);
        assert_eq!(place_of(&ahead, 1, 2).unwrap(), EARLY);
        assert_eq!(place_of(&ahead, 0, 1).unwrap(), PLAIN);
    }

    #[test]
    fn other_bookmarks_are_refused() {
        for text in [r#"{"processes":[]}"#, r#"{"processes":[{"epoch":1}]}"#, r#"{"epoch":1}"#, "7"] {
            let other: Bookmark = serde_json::from_str(text).unwrap();
            assert!(ImageBatches::place(&other).is_err(), "{text}");
            assert!(place_of(&other, 0, 1).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bookmark_is_the_cursor_of_state_json() {
        for ahead in [0, 3] {
            let cursor = Cursor { epoch: 2, position: 31, ahead };
            assert_eq!(bookmark(cursor), serde_json::to_value(cursor).unwrap());
        }
    }
}
