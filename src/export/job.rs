//! Turns batches into shards: the loop of an export.

use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use super::Coder;
use super::feed::{Batch, Meta, mirrored};
use super::shard::OpenShard;
use super::skipped::Skipped;
use super::{ExportError, Feed, Finished, Output};
use crate::codec::Codec;
use pixtok_tokens::{Dtype, Row, TokenShape, TokensError};

/// What an export applies to each batch.
pub struct Job<'a> {
    /// Encodes images to indices.
    pub codec: &'a dyn Codec,
    /// Converts indices to stored ids.
    pub coder: &'a Coder<'a>,
    /// The codec's device.
    pub device: Device,
    /// The number type of the ids.
    pub dtype: Dtype,
    /// The number of views of each image: 1, or 2 with its mirror image.
    pub views: u32,
}

/// The progress of an export.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The number of completed samples of the input, including those of other parts by keys and of
    /// earlier calls.
    pub samples: u64,
    /// The number of images encoded in this call.
    pub images: u64,
    /// The number of ids written in this call.
    pub tokens: u64,
    /// The number of samples skipped in this call.
    pub skipped: u64,
    /// Those that were skipped since the last batch.
    pub newly_skipped: Vec<Skipped>,
    /// The time since this call started to read.
    pub elapsed: Duration,
}

/// How an export ended.
#[derive(Debug)]
pub enum Stopped {
    /// With every shard complete.
    Finished(Box<Finished>),
    /// Early, because it was asked to stop; finished shards stay.
    Early,
}

impl Job<'_> {
    /// Encodes the rest of the input into shards. `look` is called after every batch and ends the
    /// export early by returning false.
    ///
    /// # Errors
    /// [`ExportError`]; finished shards stay.
    pub fn run(
        &self,
        feed: Feed,
        output: &mut Output,
        look: &mut dyn FnMut(&Progress) -> bool,
    ) -> Result<Stopped, ExportError> {
        let start = Instant::now();
        let samples = output.input_end();
        let mut progress = Progress {
            samples,
            images: 0,
            tokens: 0,
            skipped: 0,
            newly_skipped: vec![],
            elapsed: Duration::ZERO,
        };
        let (mut shard, mut skipped): (Option<OpenShard>, Vec<Skipped>) = (None, vec![]);
        for batch in feed {
            let mut batch = batch?;
            progress.skipped += batch.skipped.len() as u64;
            progress.images += batch.rows.len() as u64;
            progress.samples = batch.input_end;
            progress.newly_skipped.clone_from(&batch.skipped);
            skipped.append(&mut batch.skipped);
            if !batch.rows.is_empty() {
                let open = match &mut shard {
                    Some(open) => open,
                    None => shard.insert(OpenShard::new(output)?),
                };
                open.entry.skipped.append(&mut skipped);
                open.entry.input_end = batch.input_end;
                batch.rows.iter().for_each(|meta| open.entry.remarks.add(meta));
                *open.entry.kept.get_or_insert(0) += batch.rows.iter().map(|meta| meta.kept).sum::<u64>();
                for row in self.rows(&batch)? {
                    progress.tokens += row.ids.len() as u64;
                    open.push(&row, self.dtype)?;
                }
                // The last batch of the input also includes the bad samples after its last row.
                if batch.ends_shard
                    && let Some(open) = shard.take()
                {
                    open.close(output)?;
                }
            }
            progress.elapsed = start.elapsed();
            if !look(&progress) {
                return Ok(Stopped::Early);
            }
        }
        if let Some(open) = shard.take() {
            open.close(output)?;
        }
        // A small set for validation may have one image, and that may be bad.
        let is_val = output.subset().split.is_some_and(|split| split.val);
        if output.images() == 0
            && !is_val
            && let Some(bad) = skipped.first()
        {
            let example = bad.in_words();
            return Err(ExportError::NoImages { total: skipped.len() as u64, example });
        }
        Ok(Stopped::Finished(Box::new(output.complete(skipped)?)))
    }

    /// The rows of a batch. Views of one image follow each other.
    pub(super) fn rows(&self, batch: &Batch) -> Result<Vec<Row>, ExportError> {
        let mut views: Vec<Vec<Vec<u32>>> = vec![vec![]; batch.rows.len()];
        for group in &batch.groups {
            let images = group.images.to_device(self.device);
            for view in 0..self.views {
                let seen = if view == 0 { images.shallow_clone() } else { images.flip([3]) };
                let first = &batch.rows[group.places[0]];
                let ids = self.encode(&seen, first.shape, &first.key)?;
                for (&place, ids) in group.places.iter().zip(ids) {
                    views[place].push(ids);
                }
            }
        }
        let rows = batch.rows.iter().zip(views);
        Ok(rows.flat_map(|(meta, views)| (0..).zip(views).map(|(view, ids)| row(meta, view, ids))).collect())
    }

    fn encode(
        &self,
        images: &Tensor,
        shape: TokenShape,
        first_key: &str,
    ) -> Result<Vec<Vec<u32>>, ExportError> {
        let indices = self.codec.encode(images);
        let indices = indices.map_err(|source| ExportError::Codec { key: first_key.to_owned(), source })?;
        // If an id cannot be stored, the error names the first row that may be the cause.
        self.coder.ids(shape, &indices).map_err(|error| match error {
            TokensError::Unsuitable(words) => {
                TokensError::Unsuitable(format!("{words} (in the batch of {first_key})")).into()
            }
            other => other.into(),
        })
    }
}

fn row(meta: &Meta, view: u32, ids: Vec<u32>) -> Row {
    let Meta { key, label, text, json, width, height, shape, .. } = meta.clone();
    let grid = shape.stored();
    let key = if view == 0 { key } else { mirrored(&key) };
    Row { key, grid, width, height, ids, label, text, json }
}
