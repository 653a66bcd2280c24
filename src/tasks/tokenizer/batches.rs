//! The batches of training images.

use std::sync::Arc;

use serde::Deserialize;
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
    bad: Option<BadLog>,
}

impl ImageBatches {
    /// Batches of `images`, in an order drawn from `seed`, for a model on `device` and this
    /// process's share of `world`.
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
            bad: None,
        }
    }

    /// Where a bookmark of these batches leads.
    ///
    /// # Errors
    /// When the bookmark does not belong to these batches.
    pub fn place(bookmark: &Bookmark) -> Result<Cursor, StateError> {
        Ok(Cursor::deserialize(bookmark)?)
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
        self.from = Self::place(bookmark)?;
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

    fn note_skipped(&mut self, around: &mut Surroundings) -> Result<(), TrainError> {
        let skipped = std::mem::take(&mut self.skipped);
        self.bad.as_mut().map_or(Ok(()), |bad| bad.note(skipped, around))
    }
}

/// The cursor as a checkpoint's `state.json` has it.
fn bookmark(Cursor { epoch, position }: Cursor) -> Bookmark {
    serde_json::json!({ "epoch": epoch, "position": position })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_the_cursor_of_state_json() {
        let cursor = Cursor { epoch: 2, position: 31 };
        assert_eq!(bookmark(cursor), serde_json::to_value(cursor).unwrap());
    }
}
