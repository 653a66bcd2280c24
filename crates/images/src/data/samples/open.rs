//! Recognises the kind of an input by its path.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::Folder;
use super::list::List;
use super::parquet::splits::word;
use super::parquet::{Parquet, Tables};
use super::survey::{Below, OtherFiles, Survey, ends_in, is_compressed, is_shard_list, lists_tar};
use super::webdataset::WebDataset;
use super::{DataError, Input, Selection, Share};
use pixtok_base::paths::{is_output, special};

/// The kind of an input, judged by what exists at its path.
pub(in crate::data) enum Found {
    /// A folder without shards.
    Folder {
        /// An archive in the folder. It was probably meant if the folder has no image.
        compressed: Option<PathBuf>,
    },
    /// WebDataset shards, sorted.
    Tars(Vec<PathBuf>),
    /// Parquet files, sorted.
    Parquets(Vec<PathBuf>),
    /// A JSONL list.
    List,
}

/// Opens `path` as the kind of input that it is. Also returns notes on files beside the input that
/// are skipped. Of tars and Parquet files, only those of `share` are opened, if there are enough.
pub(super) fn open(
    path: &Path,
    selection: &Selection,
    share: Share,
) -> Result<(Box<dyn Input>, Vec<String>), DataError> {
    let (found, notes) = recognise(path)?;
    selection.check(&found)?;
    let input: Box<dyn Input> = match found {
        Found::Folder { compressed } => {
            Box::new(Folder::open(path, selection).map_err(|error| error.explained_by(compressed))?)
        }
        Found::Tars(tars) => Box::new(WebDataset::open(tars, selection, share)?),
        Found::Parquets(files) => Box::new(Parquet(Arc::new(Tables::open(path, files, selection, share)?))),
        Found::List => Box::new(List::open(path, selection)?),
    };
    Ok((input, notes))
}

/// Recognises what `path` is. For a folder of shards, also returns a sentence on each kind of file
/// that is skipped there. A folder of images reports skipped files itself.
///
/// # Errors
/// If nothing exists at the path, nothing of a known kind, or several kinds at once.
pub(in crate::data) fn recognise(path: &Path) -> Result<(Found, Vec<String>), DataError> {
    let meta = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DataError::NoInput(path.to_owned()),
        _ => DataError::File { path: path.to_owned(), source },
    })?;
    if meta.is_dir() {
        return recognise_folder(path);
    }
    if let Some(kind) = special(meta.file_type()) {
        return Err(DataError::Special { path: path.to_owned(), kind });
    }
    let name = path.file_name().unwrap_or_default();
    let found = if ends_in(name, "tar") {
        Found::Tars(vec![path.to_owned()])
    } else if ends_in(name, "parquet") {
        Found::Parquets(vec![path.to_owned()])
    } else if ends_in(name, "jsonl") {
        Found::List
    } else if is_compressed(name) {
        return Err(DataError::Compressed(path.to_owned()));
    } else {
        return Err(DataError::UnknownInput(path.to_owned()));
    };
    Ok((found, vec![]))
}

/// Recognises a folder. If it has images, but no shards in it or in its `data`, it is a folder of
/// images, which counts the other files below it itself. Images beside shards are ambiguous: whole
/// classes could be missed.
fn recognise_folder(path: &Path) -> Result<(Found, Vec<String>), DataError> {
    let Survey { images, tars, mut parquets, compressed } = Survey::of(path)?;
    let data = path.join("data");
    if parquets.is_empty() && data.is_dir() && !is_output(&data) {
        // Hugging Face's hub stores the files there.
        parquets = Survey::of(&data)?.parquets;
    }
    parquets.retain(|parquet| !lists_tar(parquet));
    let found_images = match images {
        true if tars.is_empty() && parquets.is_empty() => return Ok((Found::Folder { compressed }, vec![])),
        true => "images".to_owned(),
        false => match Below::of(path) {
            Below::Image(image) => format!("images in subfolders ({})", image.display()),
            Below::Shards(below) => return without_images(path, tars, parquets, below, compressed),
        },
    };
    // Drops lists of shards if the shards are folders of images.
    parquets.retain(|parquet| !(is_shard_list(parquet) && parquet.with_extension("").is_dir()));
    if tars.is_empty() && parquets.is_empty() {
        return Ok((Found::Folder { compressed }, vec![]));
    }
    Err(ambiguous(path, Some(found_images), &tars, &parquets))
}

/// Recognises a folder without images. `parquets` are in it or in its `data`. Parquet files in
/// other folders below it are used too, unless there are tars.
fn without_images(
    path: &Path,
    tars: Vec<PathBuf>,
    parquets: Vec<PathBuf>,
    below: OtherFiles,
    compressed: Option<PathBuf>,
) -> Result<(Found, Vec<String>), DataError> {
    let OtherFiles { parquets: all, mut rest } = below;
    let found = match (tars.is_empty(), parquets.is_empty()) {
        (false, false) => return Err(ambiguous(path, None, &tars, &parquets)),
        (false, true) => {
            all.iter().filter_map(|parquet| parquet.file_name()).for_each(|name| rest.file(name));
            Found::Tars(tars)
        }
        (true, _) if all.is_empty() => return Ok((Found::Folder { compressed }, vec![])),
        (true, _) => Found::Parquets(all),
    };
    let beside = |archive: &Path| match &found {
        Found::Parquets(files) => files.iter().any(|file| file.parent() == archive.parent()),
        _ => true,
    };
    match compressed {
        // An archive here probably belongs to the data and would be missing from the output.
        // Archives farther away are only counted.
        Some(archive) if beside(&archive) => Err(DataError::Compressed(archive)),
        _ => {
            let mut notes = rest.words_beside_shards(path);
            if let Found::Tars(tars) = &found {
                notes.extend(several_splits(path, tars));
            }
            Ok((found, notes))
        }
    }
}

/// A note if the tars in `folder` are named after several splits.
fn several_splits(folder: &Path, tars: &[PathBuf]) -> Option<String> {
    let names = tars.iter().filter_map(|tar| tar.file_stem()).map(|stem| stem.to_string_lossy());
    let splits: BTreeSet<String> = names.filter_map(|name| word(&name)).collect();
    (splits.len() > 1).then(|| {
        let splits = splits.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "the tars in {} are named after several splits ({splits}), and the images of all of them are used; to use \
             only one split, move its tars to a separate folder",
            folder.display()
        )
    })
}

/// The error for a folder with several kinds of input. `images` describes the images in it.
fn ambiguous(path: &Path, images: Option<String>, tars: &[PathBuf], parquets: &[PathBuf]) -> DataError {
    let (mut found, mut remedy) = (vec![], vec![]);
    if let Some(images) = images {
        found.push(images);
        remedy.push("a folder that holds only images for the images".to_owned());
    }
    for (kind, files) in [(".tar files", tars), (".parquet files", parquets)] {
        let Some(first) = files.first() else { continue };
        let folder = first.parent().filter(|&folder| folder != path);
        found.push(kind.to_owned());
        remedy.push(match folder {
            Some(folder) => format!("{} for the {kind}", folder.display()),
            None => format!("{} (or a folder that holds only such files) for the {kind}", first.display()),
        });
    }
    DataError::Ambiguous { path: path.to_owned(), found: found.join(" and "), remedy: remedy.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tars_of_several_splits_are_pointed_out() {
        let said = |names: &[&str]| {
            several_splits(Path::new("data"), &names.iter().map(PathBuf::from).collect::<Vec<_>>())
        };
        assert!(said(&["x/train-000.tar", "x/val-000.tar"]).unwrap().contains("several splits (train, val)"));
        assert_eq!(said(&["train-000.tar", "train-001.tar"]), None);
        assert_eq!(said(&["00000.tar", "00001.tar"]), None);
    }
}
