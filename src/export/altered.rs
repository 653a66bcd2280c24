//! Checks whether the files of a set are still those that its manifest lists.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::ExportError;
use super::manifest::{self, FileEntry, MANIFEST};
use super::place::{hash_into, hash_of};
use pixtok_tokens::{Shard, TokenSet};

/// Reads the files of these shards of a set and compares them with its manifest. Returns a message
/// if any of them differ; `None` for a set without a manifest.
#[must_use]
pub fn changes(set: &TokenSet, shards: &[Shard]) -> Option<String> {
    let entries = match manifest::listed(&set.folder) {
        Ok(entries) => entries?,
        Err(error) => return Some(format!("nothing tells whether the files are as they were made: {error}")),
    };
    let (format, layout) = (set.sidecar.format.format(), set.sidecar.layout());
    let mut files =
        Files { folder: &set.folder, views: u64::from(set.sidecar.views), numbered: HashMap::new() };
    let mut changed: Vec<String> = vec![];
    for shard in shards {
        let listed = entries.get(shard.place.number as usize).map_or(&[][..], |entry| &entry.files);
        // The names are derived from the format, since anybody may have edited the manifest.
        for name in format.files(shard.place, &layout) {
            let listed = listed.iter().find(|file| file.name == name);
            let same = listed.is_some_and(|listed| files.has(listed, *shard));
            // Shards may share a folder.
            let is_known = name.ends_with('/') && changed.contains(&name);
            if !same && !is_known {
                changed.push(name);
            }
        }
    }
    let first = changed.first()?;
    let more = if changed.len() > 1 { ", …" } else { "" };
    Some(format!(
        "{} file(s) in {} are not what {MANIFEST} lists ({first}{more}): they were changed after they were \
         made, and if rows or keys are in another order, images have each other's keys",
        changed.len(),
        set.folder.display()
    ))
}

/// The files of a set.
struct Files<'a> {
    folder: &'a Path,
    views: u64,
    /// For folders of single files: the numbers and names of all files, sorted by number.
    numbered: HashMap<String, Vec<(u64, OsString)>>,
}

impl Files<'_> {
    /// Whether the files that the manifest lists for a shard are unchanged.
    fn has(&mut self, listed: &FileEntry, shard: Shard) -> bool {
        let found = if listed.name.ends_with('/') {
            self.hash_of_numbered(&listed.name, shard)
        } else {
            hash_of(&self.folder.join(&listed.name))
        };
        found.is_ok_and(|found| found == (listed.bytes, listed.blake3.clone()))
    }

    /// The size and hash of those files in a folder that belong to a shard, one for each image.
    fn hash_of_numbered(&mut self, name: &str, shard: Shard) -> Result<(u64, String), ExportError> {
        let folder = self.folder.join(name);
        let all = self.numbered.entry(name.to_owned()).or_insert_with(|| numbered(&folder));
        let images = [shard.place.first_row, shard.place.first_row + shard.rows].map(|row| row / self.views);
        let [first, end] = images.map(|image| all.partition_point(|(number, _)| *number < image));
        let mut hasher = blake3::Hasher::new();
        for (_, name) in &all[first..end] {
            hash_into(&folder.join(name), &mut hasher)?;
        }
        Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
    }
}

/// The files of a folder whose names are numbers, sorted by number.
fn numbered(folder: &Path) -> Vec<(u64, OsString)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(u64, OsString)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = Path::new(&name).file_stem()?.to_str()?.parse().ok()?;
            Some((number, name))
        })
        .collect();
    files.sort();
    files
}
