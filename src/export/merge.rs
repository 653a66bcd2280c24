//! Merges several sets into one: the parts of a job, for readers that need one index, or whole
//! sets.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::error::io_error;
use super::origin::Origin;
use super::shard::OpenShard;
use super::skipped::{Skipped, read_skipped};
use super::{ExportError, Finished, Output};
use pixtok_base::Action;
use pixtok_images::data::digest;
use pixtok_tokens::{Counts, Dtype, Row, Sidecar, TokenSet, TokensError};

/// Merges the parts of one job, or whole sets, into the new set `folder`. The rows keep the given
/// order, in shards of `shard_rows` rows (one shard if absent). `partial` allows missing parts.
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

/// Refuses two rows with the same key before any row is copied.
fn refuse_clash(sets: &[TokenSet], remedy: &'static str) -> Result<(), ExportError> {
    let mut keys = HashMap::new();
    for (i, set) in sets.iter().enumerate() {
        for row in set.rows() {
            let key = row?.key;
            if let Some(earlier) = keys.insert(digest(&key), i) {
                let [first, second] = [earlier, i].map(|at| sets[at].folder.clone());
                return Err(ExportError::KeysClash { key, first, second, remedy });
            }
        }
    }
    Ok(())
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
