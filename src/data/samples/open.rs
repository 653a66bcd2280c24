//! What kind of input a path is.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::Folder;
use super::list::List;
use super::parquet::{Parquet, Tables};
use super::webdataset::WebDataset;
use super::{DataError, Input, Selection};
use crate::data::folder::{any_image, has_extension, is_hidden, is_number, walk};

/// The endings of compressed archives, without a dot.
const COMPRESSED: [&str; 10] =
    ["tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst", "tzst", "tar.lz4", "zip"];

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

/// Opens `path` as what it is.
pub(super) fn open(path: &Path, selection: &Selection) -> Result<Box<dyn Input>, DataError> {
    let found = recognise(path)?;
    selection.check(&found)?;
    Ok(match found {
        Found::Folder { compressed } => {
            Box::new(Folder::open(path, selection).map_err(|error| error.explained_by(compressed))?)
        }
        Found::Tars(tars) => Box::new(WebDataset::open(tars, selection)?),
        Found::Parquets(files) => Box::new(Parquet(Arc::new(Tables::open(path, files, selection)?))),
        Found::List => Box::new(List::open(path, selection)?),
    })
}

/// Tells what `path` is.
///
/// # Errors
/// When nothing is there, nothing that is known, or several things at once.
pub(in crate::data) fn recognise(path: &Path) -> Result<Found, DataError> {
    let meta = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DataError::NoInput(path.to_owned()),
        _ => DataError::File { path: path.to_owned(), source },
    })?;
    if meta.is_dir() {
        return recognise_folder(path);
    }
    let name = path.file_name().unwrap_or_default();
    if ends_in(name, "tar") {
        Ok(Found::Tars(vec![path.to_owned()]))
    } else if ends_in(name, "parquet") {
        Ok(Found::Parquets(vec![path.to_owned()]))
    } else if ends_in(name, "jsonl") {
        Ok(Found::List)
    } else if is_compressed(name) {
        Err(DataError::Compressed(path.to_owned()))
    } else {
        Err(DataError::UnknownInput(path.to_owned()))
    }
}

fn recognise_folder(path: &Path) -> Result<Found, DataError> {
    let top = Survey::of(path)?;
    let data = path.join("data");
    // Where Hugging Face's hub keeps them.
    let mut parquets =
        if top.parquets.is_empty() && data.is_dir() { Survey::of(&data)?.parquets } else { top.parquets };
    if top.tars.is_empty() && !top.images {
        let below = parquets_below(path);
        if below.len() > parquets.len() {
            parquets = below;
        }
    }
    if top.tars.is_empty() && parquets.is_empty() {
        return Ok(Found::Folder { compressed: top.compressed });
    }
    // Classes of images would be left out in silence where a stray shard lies beside their folders.
    let image = if top.images { Some("images".to_owned()) } else { any_image(path).map(below) };
    // A list of a shard is no input of its own where the shard is.
    let tars: HashSet<Option<&OsStr>> = top.tars.iter().map(|tar| tar.file_stem()).collect();
    let lies_beside_shard = |list: &PathBuf| {
        let folder = || image.is_some() && list.with_extension("").is_dir();
        is_shard_list(list) && (tars.contains(&list.file_stem()) || folder())
    };
    let (lists, parquets): (Vec<_>, Vec<_>) = parquets.into_iter().partition(lies_beside_shard);
    if top.tars.is_empty() && parquets.is_empty() && !lists.is_empty() {
        return Ok(Found::Folder { compressed: top.compressed });
    }
    match (image, top.tars.is_empty(), parquets.is_empty()) {
        (None, false, true) => match top.compressed {
            // Left out in silence it would be missing in the output.
            Some(archive) => Err(DataError::Compressed(archive)),
            None => Ok(Found::Tars(top.tars)),
        },
        (None, true, false) => Ok(Found::Parquets(parquets)),
        (image, ..) => Err(ambiguous(path, image, &top.tars, &parquets)),
    }
}

/// Whether img2dataset wrote this Parquet file beside a shard: it lists what is in there, and where
/// it came from.
fn is_shard_list(parquet: &Path) -> bool {
    let Some(stem) = parquet.file_stem().and_then(OsStr::to_str) else { return false };
    is_number(stem) || parquet.with_file_name(format!("{stem}_stats.json")).is_file()
}

/// All Parquet files below the folder, since each split may have a folder of its own. None where there
/// is any image, which makes it a folder of images: the files are then counted as passed over.
fn parquets_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    // What cannot be read shows none, as where images are looked for.
    for entry in walk(path).filter_map(Result::ok) {
        let name = entry.file_name();
        if !entry.file_type().is_file() || is_hidden(name) {
            continue;
        }
        if has_extension(entry.path()) {
            return vec![];
        }
        if ends_in(name, "parquet") {
            found.push(entry.into_path());
        }
    }
    found.sort();
    found
}

fn below(image: PathBuf) -> String {
    format!("images in subfolders ({})", image.display())
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

/// What lies right in a folder.
struct Survey {
    images: bool,
    /// Sorted by name.
    tars: Vec<PathBuf>,
    /// Sorted by name.
    parquets: Vec<PathBuf>,
    /// One of the compressed archives.
    compressed: Option<PathBuf>,
}

impl Survey {
    fn of(folder: &Path) -> Result<Survey, DataError> {
        let unreadable = |source| DataError::Unreadable { path: folder.to_owned(), source };
        let mut survey = Survey { images: false, tars: vec![], parquets: vec![], compressed: None };
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if is_hidden(&name) || is_folder(&entry) {
                continue;
            }
            if ends_in(&name, "tar") {
                survey.tars.push(entry.path());
            } else if ends_in(&name, "parquet") {
                survey.parquets.push(entry.path());
            } else if is_compressed(&name) {
                survey.compressed = Some(entry.path());
            } else {
                survey.images |= has_extension(Path::new(&name));
            }
        }
        survey.tars.sort();
        survey.parquets.sort();
        Ok(survey)
    }
}

/// Links are followed; what leads nowhere is no folder.
fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

/// Whether `name` ends in a dot and `ending`, in any case.
fn ends_in(name: &OsStr, ending: &str) -> bool {
    let name = name.as_encoded_bytes();
    let Some(start) = name.len().checked_sub(ending.len()) else { return false };
    name[start..].eq_ignore_ascii_case(ending.as_bytes()) && name[..start].ends_with(b".")
}

fn is_compressed(name: &OsStr) -> bool {
    COMPRESSED.iter().any(|ending| ends_in(name, ending))
}
