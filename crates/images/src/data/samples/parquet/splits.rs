//! Assigns the files of a Parquet data set to splits, by Hugging Face's names:
//! `train-00000-of-00002.parquet`, `train.parquet`, or any file in a folder `train`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::data::DataError;

/// The names of splits, the usual one first.
const SPLITS: [&[&str]; 3] = [
    &["train", "training"],
    &["validation", "val", "valid", "dev"],
    &["test", "testing", "eval", "evaluation"],
];

/// The files in `root` that belong to `split`. Without a `split` these are all files, provided that
/// they belong to one split.
///
/// # Errors
/// When there are several splits and none is chosen, or the chosen one does not exist.
pub(super) fn choose(
    root: &Path,
    files: Vec<PathBuf>,
    split: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<PathBuf>, DataError> {
    let of: Vec<Option<String>> = files.iter().map(|file| split_of(root, file)).collect();
    let names: BTreeSet<&str> = of.iter().flatten().map(String::as_str).collect();
    let list = names.iter().copied().collect::<Vec<_>>().join(", ");
    let chosen = match split {
        Some(split) => {
            let wanted = usual(split);
            let is_it = |own: &Option<String>| own.as_deref().is_some_and(|own| usual(own) == wanted);
            if !of.iter().any(is_it) {
                let there = if names.is_empty() { "no split is named there".to_owned() } else { list };
                return Err(DataError::Unclear(format!(
                    "--split {split}: {} has no file of that split (there are: {there})",
                    root.display()
                )));
            }
            let rest: BTreeSet<&str> = of
                .iter()
                .filter(|own| !is_it(own))
                .map(|own| own.as_deref().unwrap_or("files of no split"))
                .collect();
            if !rest.is_empty() {
                let rest = rest.into_iter().collect::<Vec<_>>().join(", ");
                notes.push(format!("only the split {split} is used; not used: {rest}"));
            }
            files.into_iter().zip(&of).filter(|(_, own)| is_it(own)).map(|(file, _)| file).collect()
        }
        None if names.iter().map(|name| usual(name)).collect::<BTreeSet<_>>().len() > 1 => {
            return Err(DataError::Unclear(format!(
                "{} holds several splits of a data set: {list}; choose one with --split NAME (data.split and data.val_split \
                 in a config)",
                root.display()
            )));
        }
        None => files,
    };
    count(&chosen, notes)?;
    notes.extend(joined(root, &chosen));
    Ok(chosen)
}

/// The usual name of a split that has several names.
fn usual(name: &str) -> String {
    let name = name.to_lowercase();
    let known = SPLITS.iter().find(|names| names.contains(&name.as_str()));
    known.map_or(name, |names| names[0].to_owned())
}

/// The split in the name of the file, otherwise in that of the nearest folder that names one.
fn split_of(root: &Path, file: &Path) -> Option<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = match numbered(&stem) {
        Some((name, ..)) => Some(word(name).unwrap_or_else(|| name.to_owned())),
        None => word(&stem),
    };
    // Folders above `root` do not count: the user may have given the folder of a split.
    let inside = file.strip_prefix(root).unwrap_or(file).parent().unwrap_or(Path::new(""));
    name.or_else(|| inside.iter().rev().find_map(|folder| word(&folder.to_string_lossy())))
}

/// The first known split among the words of a name. Words consist of letters only.
pub(in crate::data::samples) fn word(name: &str) -> Option<String> {
    name.split(|c: char| !c.is_alphabetic()).find_map(known)
}

/// The split that a word names, if any.
pub(in crate::data) fn known(word: &str) -> Option<String> {
    let lower = word.to_lowercase();
    SPLITS.iter().any(|names| names.contains(&lower.as_str())).then_some(lower)
}

/// Name, number and count from `NAME-00000-of-00002`.
fn numbered(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    Some((name, number.parse().ok()?, count.parse().ok()?))
}

/// Notes which sets lack files, judging by the numbers in their names.
///
/// # Errors
/// If a set exists twice, divided into different numbers of files: its images would count twice.
fn count(files: &[PathBuf], notes: &mut Vec<String>) -> Result<(), DataError> {
    let mut sets: BTreeMap<(&Path, &str, u32), BTreeSet<u32>> = BTreeMap::new();
    for file in files {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if let Some((name, number, count)) = numbered(stem) {
            let folder = file.parent().unwrap_or(Path::new(""));
            sets.entry((folder, name, count)).or_default().insert(number);
        }
    }
    for ((folder, name, count), (next_folder, next_name, next_count)) in sets.keys().zip(sets.keys().skip(1))
    {
        if (folder, name) == (next_folder, next_name) {
            return Err(DataError::Unclear(format!(
                "{} holds {name} as {count} file(s) and as {next_count}, perhaps two versions of it; remove the files of one",
                folder.display()
            )));
        }
    }
    // A single file may have been given on purpose.
    for ((_, name, count), numbers) in sets.into_iter().filter(|_| files.len() > 1) {
        if (numbers.len() as u32) < count {
            notes.push(format!("{name}: {} of {count} files are present", numbers.len()));
        }
    }
    Ok(())
}

/// A note on folders, apart from those of splits, that are used together: each may be a separate
/// subset.
fn joined(root: &Path, files: &[PathBuf]) -> Option<String> {
    let subset = |file: &PathBuf| {
        let inside = file.strip_prefix(root).unwrap_or(file).parent().unwrap_or(Path::new(""));
        let names = inside.iter().filter(|folder| word(&folder.to_string_lossy()).is_none());
        names.collect::<PathBuf>()
    };
    let subsets: BTreeSet<PathBuf> = files.iter().map(subset).collect();
    let names: Vec<String> = subsets.iter().map(|name| name.display().to_string()).collect();
    let names: Vec<&str> =
        names.iter().map(|name| if name.is_empty() { "." } else { name.as_str() }).collect();
    (names.len() > 1).then(|| {
        format!(
            "files of several folders are used together: {}; give one of the folders to use only that one",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], split: Option<&str>) -> Result<(Vec<String>, Vec<String>), String> {
        let root = Path::new("set/train");
        let files = files.iter().map(|file| root.join(file)).collect();
        let mut notes = vec![];
        let chosen = choose(root, files, split, &mut notes).map_err(|error| error.to_string())?;
        let names = chosen.iter().map(|file| file.strip_prefix(root).unwrap().display().to_string());
        Ok((names.collect(), notes))
    }

    #[test]
    fn several_splits_are_refused_unless_one_is_chosen() {
        for files in [
            &["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"][..],
            &["train.parquet", "val.parquet"],
            &["train/0000.parquet", "test/0000.parquet"],
            &["default/train/0000.parquet", "default/validation/0000.parquet"],
            &["cats_train_0.parquet", "cats.dev.parquet"],
            &["train2017.parquet", "VAL2017.parquet"],
            &["my-train/0.parquet", "my-test/0.parquet"],
            &["old-train-00000-of-00001.parquet", "old-test-00000-of-00001.parquet"],
            &["seen-00000-of-00001.parquet", "unseen-00000-of-00001.parquet"],
        ] {
            let message = chosen(files, None).unwrap_err();
            assert!(message.contains("several splits") && message.contains("--split NAME"), "{message}");
        }
        for (files, split, expected) in [
            (&["train-00000-of-00001.parquet", "val.parquet"][..], "validation", "val.parquet"),
            (&["a/Training/0.parquet", "a/test/0.parquet"], "train", "a/Training/0.parquet"),
            (&["seen-00000-of-00001.parquet", "x.parquet"], "seen", "seen-00000-of-00001.parquet"),
        ] {
            let (files, notes) = chosen(files, Some(split)).unwrap();
            assert_eq!(files, [expected]);
            assert!(notes[0].contains("not used: "), "{notes:?}");
        }
        let message = chosen(&["train.parquet"], Some("test")).unwrap_err();
        assert!(message.contains("(there are: train)"), "{message}");
    }

    #[test]
    fn files_of_one_split_or_of_none_are_all_taken() {
        for files in [
            &["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"][..],
            // `root` itself has a split's name, and two files have a split's name inside a longer
            // word.
            &["0000.parquet", "trainer.parquet", "latest.parquet"],
            &["val/0.parquet", "valid-1.parquet"],
        ] {
            assert_eq!(
                chosen(files, None).unwrap(),
                (files.iter().map(|&file| file.into()).collect(), vec![])
            );
        }
        let (_, notes) =
            chosen(&["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], None).unwrap();
        assert_eq!(notes, ["train: 2 of 3 files are present"]);
        let twice = ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"];
        assert!(chosen(&twice, None).unwrap_err().contains("as 1 file(s) and as 2"));
        let (_, notes) = chosen(&["en/train-00000-of-00001.parquet", "fr/train/0.parquet"], None).unwrap();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("used together: en, fr"), "{notes:?}");
    }
}
