//! Reads rows of a finished export back and compares them with what their images give now.

use tch::Tensor;

use super::feed::Batch;
use super::place::hash_of;
use super::{Batching, ExportError, Feed, Job, Output};
use pixtok_images::data::{ImageSize, Prepare, SampleSet};
use pixtok_tokens::{Row, Sidecar};

/// The number of shards whose first batch is verified.
const SHARDS: usize = 8;

/// Encodes the first batch of several evenly spread shards again and compares it with the finished
/// files: every id of every row, and the images that are decoded from both. Returns the number of
/// rows.
///
/// # Errors
/// [`ExportError::Differs`] names the first row that differs, and how; otherwise the errors of an
/// export.
pub fn verify(
    job: &Job,
    set: &SampleSet,
    prepare: &Prepare,
    batching: &Batching,
    output: &Output,
    sidecar: &Sidecar,
) -> Result<u64, ExportError> {
    let starts = output.shard_starts();
    let total = starts.len();
    let shown = total.min(SHARDS);
    let mut verified = 0;
    for shard in (0..shown).map(|i| i * total / shown) {
        let mut feed = Feed::start(set, prepare.clone(), batching.clone(), starts[shard])?;
        let Some(batch) = feed.next().transpose()? else { continue };
        for file in output.files(shard).iter().filter(|file| !file.name.ends_with('/')) {
            if hash_of(&output.folder().join(&file.name))? != (file.bytes, file.blake3.clone()) {
                return Err(ExportError::Differs(format!("{} is not what the manifest lists", file.name)));
            }
        }
        let place = output.shard(shard, Some(total as u32));
        let stored = sidecar.format.format().rows(output.folder(), place, &sidecar.layout())?;
        verified += compare(job, &batch, stored, shard, sidecar)?;
    }
    Ok(verified)
}

fn compare(
    job: &Job,
    batch: &Batch,
    mut stored: pixtok_tokens::Rows,
    shard: usize,
    sidecar: &Sidecar,
) -> Result<u64, ExportError> {
    let mut count = 0;
    for made in job.rows(batch)? {
        let differs = |what: String| ExportError::Differs(format!("{} in shard {shard}: {what}", made.key));
        let read = stored.next().transpose()?.ok_or_else(|| differs("the row is not there".into()))?;
        if let Some(what) = difference(&made, &read) {
            return Err(differs(what));
        }
        let image = |row: &Row| -> Result<Tensor, ExportError> {
            let shape = sidecar.grid.shape(row.grid);
            let indices = job.coder.indices(shape, &row.ids).map_err(&differs)?;
            let [height, width] = sidecar.image_size_of(row.grid);
            let decoded = job.codec.decode(&indices.to_device(job.device), ImageSize { height, width });
            decoded.map_err(|source| ExportError::Codec { key: row.key.clone(), source })
        };
        if image(&made)? != image(&read)? {
            return Err(differs("the decoded images differ".into()));
        }
        count += 1;
    }
    Ok(count)
}

fn difference(made: &Row, read: &Row) -> Option<String> {
    if made.key != read.key {
        return Some(format!("the file has {} in its place", read.key));
    }
    let first = made.ids.iter().zip(&read.ids).position(|(a, b)| a != b);
    if let Some(at) = first {
        return Some(format!("token {at} is {} in the file and {} now", read.ids[at], made.ids[at]));
    }
    // Some formats store a missing text as empty and a missing label as -1.
    let label = |row: &Row| row.label.filter(|&label| label != -1);
    let text = |row: &Row| row.text.clone().filter(|text| !text.is_empty());
    let json = |row: &Row| row.json.clone().filter(|json| !json.is_empty());
    let size = |row: &Row| (row.ids.len(), row.grid, row.width, row.height);
    [
        ("size", size(made) == size(read)),
        ("label", label(made) == label(read)),
        ("text", text(made) == text(read)),
        ("json", json(made) == json(read)),
    ]
    .into_iter()
    .find_map(|(what, same)| (!same).then(|| format!("its {what} is another")))
}
