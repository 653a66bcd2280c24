//! Merges several sets into one: the parts of a job, for readers that need one index, or whole
//! sets.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::error::io_error;
use super::feed::mirrored;
use super::origin::Origin;
use super::shard::OpenShard;
use super::skipped::{Skipped, read_skipped};
use super::{ExportError, Finished, Output, Part, Subset, check_keys};
use pixtok_base::Action;
use pixtok_images::data::{SampleSet, digest};
use pixtok_tokens::{Counts, Division, Dtype, Row, Sidecar, TokenSet, TokensError};

/// Merges the parts of one job, or whole sets, into the new set `folder`. The rows keep the given
/// order, set by set, in shards of `shard_rows` rows (one shard if absent). `partial` allows missing
/// parts. The merged parts have the rows that one process would have written, in another order.
///
/// # Errors
/// When a part is missing, when parts and whole sets are mixed, when two sets share a key, or when
/// their numbers have different meanings; names the difference.
pub fn merge(
    sets: &[TokenSet],
    folder: &Path,
    shard_rows: Option<u64>,
    partial: bool,
) -> Result<Finished, ExportError> {
    let Origin { source, sources, remedy } = Origin::of(sets, partial)?;
    let first = &sets[0];
    let empty = Sidecar { shard_rows: vec![], counts: Counts::default(), ids: None, ..first.sidecar.clone() };
    // All ids of the sets are below it.
    let vocab_size = sets.iter().filter_map(|set| set.sidecar.vocab_size).max();
    let sidecar = Sidecar { source, sources, vocab_size, ..empty };
    let identities: Result<Vec<Value>, ExportError> = sets.iter().map(identity).collect();
    let job = json!({ "merge": identities?, "shard_rows": shard_rows, "set": sidecar });
    let map = first.sidecar.map(&first.folder)?;
    let output = Output::open(folder, &job, sidecar, map.as_deref(), None)?;
    if let Some(finished) = output.finished()? {
        return Ok(finished);
    }
    if let Err(clash) = refuse_clash(sets, remedy) {
        output.withdraw();
        return Err(clash);
    }
    let skipped: Result<Vec<Vec<Skipped>>, ExportError> =
        sets.iter().map(|set| read_skipped(&set.folder)).collect();
    let rows = sets.iter().flat_map(TokenSet::rows);
    copy(rows, output, first.sidecar.dtype, shard_rows, skipped?.concat())
}

/// Refuses two images with the same key before any row is copied.
fn refuse_clash(sets: &[TokenSet], remedy: &'static str) -> Result<(), ExportError> {
    let mut taken = HashMap::new();
    for (i, set) in sets.iter().enumerate() {
        let by_files = set.sidecar.source.division == Division::Files;
        // The process that encodes a whole input refuses these keys too. Parts by keys cannot share
        // any, and an image that whole sets list as skipped may have been repaired since.
        let skipped = if by_files { skipped_keys(set)? } else { vec![] };
        let of_rows = set.rows().map(|row| row.map(|row| row.key));
        for key in of_rows.chain(skipped.into_iter().map(Ok)) {
            let key = key?;
            let Some(earlier) = taken.insert(digest(&key), i) else { continue };
            if let Some(clash) = by_files.then(|| clash_of_files(set)).flatten() {
                return Err(clash);
            }
            let [first, second] = [earlier, i].map(|at| sets[at].folder.clone());
            return Err(ExportError::KeysClash { key, first, second, remedy });
        }
    }
    Ok(())
}

/// The keys of the images that a set lists as skipped, and of their mirror images if it has any.
fn skipped_keys(set: &TokenSet) -> Result<Vec<String>, ExportError> {
    let is_flipped = set.sidecar.views > 1;
    let keys = read_skipped(&set.folder)?.into_iter().map(|sample| sample.key);
    Ok(keys.flat_map(|key| [is_flipped.then(|| mirrored(&key)), Some(key)]).flatten().collect())
}

/// The clash with the files of both images, as an encode of the whole input reports it; `None` if
/// the input of this part is no longer what it was.
fn clash_of_files(set: &TokenSet) -> Option<ExportError> {
    let source = &set.sidecar.source;
    let mut input = SampleSet::open(Path::new(&source.path)).ok()?;
    if source.key_prefix.is_some() {
        input.prefix_keys();
    }
    let whole = Subset { part: Part::ALL, division: Division::default(), split: None };
    let checked =
        (input.fingerprint() == source.blake3).then(|| check_keys(&input, whole, set.sidecar.views > 1));
    checked?.err().filter(|error| matches!(error, ExportError::KeysClash { .. }))
}

/// Writes the rows that are not written yet.
fn copy(
    rows: impl Iterator<Item = Result<Row, TokensError>>,
    mut output: Output,
    dtype: Dtype,
    shard_rows: Option<u64>,
    skipped: Vec<Skipped>,
) -> Result<Finished, ExportError> {
    let mut shard: Option<OpenShard> = None;
    let done = output.input_end();
    for (number, row) in (1..).zip(rows) {
        let row = row?;
        if number <= done {
            continue;
        }
        let open = match &mut shard {
            Some(open) => open,
            None => shard.insert(OpenShard::new(&output)?),
        };
        open.push(&row, dtype)?;
        open.entry.input_end = number;
        if shard_rows == Some(open.entry.rows)
            && let Some(open) = shard.take()
        {
            open.close(&mut output)?;
        }
    }
    if let Some(open) = shard.take() {
        open.close(&mut output)?;
    }
    output.complete(skipped)
}

/// What distinguishes a set from a different one at the same path.
fn identity(set: &TokenSet) -> Result<Value, ExportError> {
    let text = set.sidecar.to_json().map_err(|error| io_error(Action::Read, &set.folder)(error.into()))?;
    Ok(
        json!({ "path": set.folder.display().to_string(), "blake3": blake3::hash(&text).to_hex().to_string() }),
    )
}

#[cfg(test)]
mod tests;
