//! Sets of tokens on disk. They are found by their folder, by one of their files, or by a folder of
//! parts.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Row, Rows, SIDECAR, Shard, SideFiles, Sidecar, TokensError};
use pixtok_base::paths::absence;

/// The folders of the two sets of `pixtok encode --val-share`.
pub const SPLITS: [&str; 2] = ["train", "val"];

/// A set on disk: its folder, its sidecar, and the requested shards.
#[derive(Debug)]
pub struct TokenSet {
    /// The folder of the files.
    pub folder: PathBuf,
    /// The meaning of the numbers.
    pub sidecar: Sidecar,
    /// The shards, in order.
    pub shards: Vec<Shard>,
}

impl TokenSet {
    /// The sets at `path`: the folder of a set, one of its files, or a folder of parts from a
    /// divided job.
    ///
    /// # Errors
    /// If there is none, or the file belongs to no shard.
    pub fn find(path: &Path) -> Result<Vec<Self>, TokensError> {
        if path.is_file() {
            return Ok(vec![Self::of_file(path)?]);
        }
        let parts = if is_finished(path) { vec![path.to_owned()] } else { parts(path)? };
        if !path.exists() {
            return Err(TokensError::Unsuitable(format!(
                "{} {}; give a folder of tokens",
                path.display(),
                absence(path)
            )));
        }
        if parts.is_empty() && SideFiles::in_folder(path).is_some() {
            return Err(TokensError::Unsuitable(format!(
                "{} is not finished; run its command again, which goes on where it was stopped",
                path.display()
            )));
        }
        if parts.is_empty() && SPLITS.iter().all(|name| holds_tokens(&path.join(name))) {
            return Err(TokensError::Unsuitable(format!(
                "{} holds two sets of tokens; give one of them, {}",
                path.display(),
                SPLITS.map(|name| path.join(name).display().to_string()).join(" or ")
            )));
        }
        if parts.is_empty() {
            return Err(TokensError::Unsuitable(format!(
                "{} has no {SIDECAR}, so the meaning of its tokens is unknown; give a folder that `pixtok encode` has finished, or a file in it",
                path.display()
            )));
        }
        parts.into_iter().map(Self::open).collect()
    }

    /// Like [`TokenSet::find`], but takes both sets of `pixtok encode --val-share` if `path` is the
    /// folder of the two.
    ///
    /// # Errors
    /// The same as [`TokenSet::find`].
    pub fn find_with_splits(path: &Path) -> Result<Vec<Self>, TokensError> {
        let splits = SPLITS.map(|name| path.join(name));
        if holds_tokens(path) || !splits.iter().all(|split| holds_tokens(split)) {
            return Self::find(path);
        }
        let sets: Result<Vec<_>, _> = splits.iter().map(|split| Self::find(split)).collect();
        Ok(sets?.into_iter().flatten().collect())
    }

    /// Like [`TokenSet::find`], but accepts the finished parts of a divided job even if others are
    /// missing.
    ///
    /// # Errors
    /// The same as [`TokenSet::find`]; also if no part is finished.
    pub fn find_finished(path: &Path) -> Result<Vec<Self>, TokensError> {
        let parts = part_folders(path);
        if is_finished(path) || parts.is_empty() {
            return Self::find(path);
        }
        let sets: Result<Vec<Self>, TokensError> =
            parts.into_iter().filter(|part| is_finished(part)).map(Self::open).collect();
        let sets = sets?;
        if sets.is_empty() {
            return Err(TokensError::Unsuitable(format!(
                "{} has no finished part; run their commands again, which go on where they were stopped",
                path.display()
            )));
        }
        Ok(sets)
    }

    /// Whether it has all shards that its sidecar lists.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shards.len() == self.sidecar.shard_rows.len()
    }

    fn open(folder: PathBuf) -> Result<Self, TokensError> {
        let sidecar = Sidecar::read(&folder)?;
        Ok(Self { shards: sidecar.shards(), folder, sidecar })
    }

    fn of_file(path: &Path) -> Result<Self, TokensError> {
        let refused = || {
            TokensError::Unsuitable(format!(
                "{} is not a file of a set with a {SIDECAR}, so the meaning of its tokens is unknown; give a folder that `pixtok encode` has \
                 finished, or a file in it, or, for ids that a model generated, the set that it was trained on with `pixtok decode --like`",
                path.display()
            ))
        };
        let folder = path.parent().filter(|folder| is_finished(folder)).ok_or_else(refused)?;
        let name = path.strip_prefix(folder).map_err(|_| refused())?.to_string_lossy().into_owned();
        let mut set = Self::open(folder.to_owned())?;
        // The sidecar itself, or an index.
        if name.ends_with(".json") || SideFiles::have(&name) {
            return Ok(set);
        }
        let (format, layout) = (set.sidecar.format.format(), set.sidecar.layout());
        let has = |shard: &Shard| {
            let names = format.files(shard.place, &layout);
            names.contains(&name)
        };
        set.shards.retain(has);
        if set.shards.is_empty() { Err(refused()) } else { Ok(set) }
    }

    /// The rows of all its shards, in order.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, TokensError>> + '_ {
        let (format, layout) = (self.sidecar.format.format(), self.sidecar.layout());
        self.shards.iter().flat_map(move |&shard| match format.rows(&self.folder, shard, &layout) {
            Ok(rows) => rows,
            Err(error) => Box::new(std::iter::once(Err(error))) as Rows,
        })
    }
}

fn is_finished(folder: &Path) -> bool {
    SideFiles::of_finished(folder).is_some()
}

/// Whether a folder holds a set, finished or not, or parts of one.
fn holds_tokens(folder: &Path) -> bool {
    SideFiles::in_folder(folder).is_some() || !part_folders(folder).is_empty()
}

/// The folders of parts below `path`, in order.
fn part_folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|part| number_of(part).is_some()).collect();
    parts.sort();
    parts
}

/// The parts of a divided job below `path`, in order. All must be present and finished.
fn parts(path: &Path) -> Result<Vec<PathBuf>, TokensError> {
    let parts = part_folders(path);
    for (i, part) in (0..).zip(&parts) {
        let refused = |what: String| Err(TokensError::Unsuitable(format!("{}: {what}", path.display())));
        match number_of(part) {
            Some((number, count)) if number == i && count as usize == parts.len() => {}
            Some((_, count)) if parts.len() > count as usize => {
                let last = parts[parts.len() - 1].file_name().unwrap_or_default().to_string_lossy();
                return refused(format!(
                    "parts of several divisions are present, among them {last}; remove those of the others"
                ));
            }
            Some((_, count)) => {
                return refused(format!(
                    "{} of {count} parts are present; run the others, or give the folders of single parts (merge: --partial)",
                    parts.len()
                ));
            }
            None => {}
        }
        if !is_finished(part) {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            return refused(format!(
                "{name} is not finished; run its command again, or give the folders of single parts"
            ));
        }
    }
    Ok(parts)
}

/// The numbers i and n of a folder `part-i-of-n`.
fn number_of(part: &Path) -> Option<(u32, u32)> {
    let (number, count) = part.file_name()?.to_str()?.strip_prefix("part-")?.split_once("-of-")?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_missing_or_unfinished_are_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let part = |i: u32| folder.path().join(format!("part-{i:05}-of-00003"));
        let words = || TokenSet::find(folder.path()).unwrap_err().to_string();
        assert!(words().contains("has no tokens.json"), "{}", words());
        fs::create_dir(part(0)).unwrap();
        fs::create_dir(part(2)).unwrap();
        assert!(words().contains("2 of 3 parts are present"), "{}", words());
        fs::create_dir(part(1)).unwrap();
        assert!(words().contains("part-00000-of-00003 is not finished"), "{}", words());
        let words = TokenSet::find_finished(folder.path()).unwrap_err().to_string();
        assert!(words.contains("has no finished part"), "{words}");
    }

    #[test]
    fn a_folder_of_two_sets_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let words = || TokenSet::find(folder.path()).unwrap_err().to_string();
        fs::create_dir_all(folder.path().join("train/part-00000-of-00002")).unwrap();
        fs::create_dir(folder.path().join("val")).unwrap();
        assert!(words().contains("has no tokens.json"), "{}", words());
        fs::write(folder.path().join("val/job.json"), "{}").unwrap();
        let [train, val] = SPLITS.map(|name| folder.path().join(name).display().to_string());
        let both = format!("holds two sets of tokens; give one of them, {train} or {val}");
        assert!(words().ends_with(&both), "{}", words());
        // For both, each has to be whole.
        let words = TokenSet::find_with_splits(folder.path()).unwrap_err().to_string();
        assert!(words.contains("1 of 2 parts are present"), "{words}");
    }
}
