//! What kind of input a path is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::Folder;
use super::list::List;
use super::parquet::{Parquet, Tables};
use super::survey::{Below, Shards, Survey, ends_in, is_compressed, is_shard_list, lists_tar};
use super::webdataset::WebDataset;
use super::{DataError, Input, Selection};
use crate::paths::is_output;

/// What a path is, by what is there.
pub(in crate::data) enum Found {
    /// A folder without shards.
    Folder {
        /// An archive in it, which is what was meant if it has no image.
        compressed: Option<PathBuf>,
    },
    /// WebDataset shards, sorted.
    Tars(Vec<PathBuf>),
    /// Parquet files, sorted.
    Parquets(Vec<PathBuf>),
    /// A JSONL list.
    List,
}

/// Opens `path` as what it is, and says what is passed over beside it.
pub(super) fn open(path: &Path, selection: &Selection) -> Result<(Box<dyn Input>, Vec<String>), DataError> {
    let (found, notes) = recognise(path)?;
    selection.check(&found)?;
    let input: Box<dyn Input> = match found {
        Found::Folder { compressed } => {
            Box::new(Folder::open(path, selection).map_err(|error| error.explained_by(compressed))?)
        }
        Found::Tars(tars) => Box::new(WebDataset::open(tars, selection)?),
        Found::Parquets(files) => Box::new(Parquet(Arc::new(Tables::open(path, files, selection)?))),
        Found::List => Box::new(List::open(path, selection)?),
    };
    Ok((input, notes))
}

/// Tells what `path` is. Of a folder of shards it says what is passed over there, a sentence each;
/// a folder of images says that itself.
///
/// # Errors
/// When nothing is there, nothing that is known, or several things at once.
pub(in crate::data) fn recognise(path: &Path) -> Result<(Found, Vec<String>), DataError> {
    let meta = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DataError::NoInput(path.to_owned()),
        _ => DataError::File { path: path.to_owned(), source },
    })?;
    if meta.is_dir() {
        return recognise_folder(path);
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

/// Tells a folder. With an image, but without a shard in it or in its `data`, it is one of images,
/// and counts what else is below. An image beside shards is ambiguous: whole classes would be left
/// out.
fn recognise_folder(path: &Path) -> Result<(Found, Vec<String>), DataError> {
    let Survey { images, tars, mut parquets, compressed } = Survey::of(path)?;
    let data = path.join("data");
    if parquets.is_empty() && data.is_dir() && !is_output(&data) {
        // Where Hugging Face's hub keeps them.
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
    // Of shards that are folders.
    parquets.retain(|parquet| !(is_shard_list(parquet) && parquet.with_extension("").is_dir()));
    if tars.is_empty() && parquets.is_empty() {
        return Ok((Found::Folder { compressed }, vec![]));
    }
    Err(ambiguous(path, Some(found_images), &tars, &parquets))
}

/// Tells a folder in which there is no image. `parquets` lie in it or in its `data`; those farther
/// below are taken too, but not beside tars.
fn without_images(
    path: &Path,
    tars: Vec<PathBuf>,
    parquets: Vec<PathBuf>,
    below: Shards,
    compressed: Option<PathBuf>,
) -> Result<(Found, Vec<String>), DataError> {
    let Shards { parquets: all, mut rest } = below;
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
        // Left out in silence it would be missing in the output; farther away it is counted.
        Some(archive) if beside(&archive) => Err(DataError::Compressed(archive)),
        _ => Ok((found, rest.words_beside_shards(path))),
    }
}

/// `images` says what there is of those.
fn ambiguous(path: &Path, images: Option<String>, tars: &[PathBuf], parquets: &[PathBuf]) -> DataError {
    let (mut found, mut remedy) = (vec![], vec![]);
    if let Some(images) = images {
        found.push(images);
        remedy.push("a folder with nothing but images for those".to_owned());
    }
    for (kind, files) in [(".tar files", tars), (".parquet files", parquets)] {
        let Some(first) = files.first() else { continue };
        let folder = first.parent().filter(|&folder| folder != path);
        found.push(kind.to_owned());
        remedy.push(match folder {
            Some(folder) => format!("{} for the {kind}", folder.display()),
            None => format!("{} (or a folder with nothing but such) for the {kind}", first.display()),
        });
    }
    DataError::Ambiguous { path: path.to_owned(), found: found.join(" and "), remedy: remedy.join(", ") }
}
