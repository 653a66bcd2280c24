//! One set out of several, for formats whose readers need one index.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::error::io_error;
use super::shard::OpenShard;
use super::skipped::{Skipped, read_skipped};
use super::{ExportError, Finished, Output, Part};
use crate::data::digest;
use crate::tokens::{Counts, Dtype, Row, Sidecar, TokenSet};

/// Joins the sets of one job's parts into the new set `folder`: their rows in the order given, in shards of
/// `shard_rows` rows (all in one when absent).
///
/// # Errors
/// When the sets do not agree in what their numbers mean; says in what.
pub fn merge(sets: &[TokenSet], folder: &Path, shard_rows: Option<u64>) -> Result<Finished, ExportError> {
    let Some(first) = sets.first() else {
        return Err(ExportError::Output("nothing to merge; give the folders of parts".into()));
    };
    for set in sets {
        agree(first, set)?;
    }
    refuse_overlap(sets)?;
    let mut sidecar = Sidecar { shard_rows: vec![], counts: Counts::default(), ..first.sidecar.clone() };
    sidecar.source.part = None;
    for note in sets.iter().flat_map(|set| &set.sidecar.source.notes) {
        if !sidecar.source.notes.contains(note) {
            sidecar.source.notes.push(note.clone());
        }
    }
    let sources: Result<Vec<Value>, ExportError> = sets.iter().map(identity).collect();
    let job = json!({ "merge": sources?, "shard_rows": shard_rows, "set": sidecar });
    let map = first.sidecar.map(&first.folder)?;
    let output = Output::open(folder, &job, sidecar, map.as_deref())?;
    if let Some(finished) = output.finished()? {
        return Ok(finished);
    }
    let mut keys = HashMap::new();
    let numbered = sets.iter().enumerate().flat_map(|(i, set)| set.rows().map(move |row| (i, row)));
    let rows = numbered.map(|(i, row)| {
        let row: Row = row?;
        match keys.insert(digest(&row.key), i) {
            None => Ok(row),
            Some(earlier) => Err(ExportError::KeysClash {
                key: row.key,
                first: sets[earlier].folder.clone(),
                second: sets[i].folder.clone(),
                remedy: "merge parts of one job, each once",
            }),
        }
    });
    let skipped: Result<Vec<Vec<Skipped>>, ExportError> =
        sets.iter().map(|set| read_skipped(&set.folder)).collect();
    copy(rows, output, first.sidecar.dtype, shard_rows, skipped?.concat())
}

/// Writes the rows that are not there yet.
fn copy(
    rows: impl Iterator<Item = Result<Row, ExportError>>,
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

/// What tells a set from another in its place.
fn identity(set: &TokenSet) -> Result<Value, ExportError> {
    let text = set.sidecar.to_json().map_err(|error| io_error("read", &set.folder)(error.into()))?;
    Ok(
        json!({ "path": set.folder.display().to_string(), "blake3": blake3::hash(&text).to_hex().to_string() }),
    )
}

/// Refuses parts that have images in common. Two parts of one input are disjoint only if they are
/// different parts of the same number of parts. A merged set does not record its parts, so there
/// only the keys tell.
fn refuse_overlap(sets: &[TokenSet]) -> Result<(), ExportError> {
    let part = |set: &TokenSet| set.sidecar.source.part.as_ref()?.parse::<Part>().ok();
    for (i, set) in sets.iter().enumerate() {
        let Some(own) = part(set) else { continue };
        for other in &sets[..i] {
            let Some(earlier) = part(other) else { continue };
            if earlier.count == own.count && earlier.index != own.index {
                continue;
            }
            return Err(ExportError::Output(format!(
                "{} and {} have images in common, since they are the parts {earlier} and {own} of one input; \
                 give each part of one division once",
                other.folder.display(),
                set.folder.display()
            )));
        }
    }
    Ok(())
}

/// Refuses sets whose numbers do not mean the same.
fn agree(first: &TokenSet, other: &TokenSet) -> Result<(), ExportError> {
    let (a, b) = (&first.sidecar, &other.sidecar);
    let pairs = [
        ("format", a.format == b.format),
        ("tokenizer", a.tokenizer.agrees_with(&b.tokenizer)),
        ("dtype", a.dtype == b.dtype),
        ("vocabulary", a.vocabulary == b.vocabulary),
        ("specials", a.specials == b.specials),
        ("layout", a.layout() == b.layout()),
        ("preprocessing", a.preprocessing == b.preprocessing),
        ("the files of their source", a.source.blake3 == b.source.blake3),
        ("the classes of their labels", a.source.classes == b.source.classes),
        ("the prefix of their keys", a.source.key_prefix == b.source.key_prefix),
    ];
    match pairs.iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((what, _)) => Err(ExportError::Output(format!(
            "{} and {} differ in {what}; merge parts of one job",
            first.folder.display(),
            other.folder.display()
        ))),
    }
}
