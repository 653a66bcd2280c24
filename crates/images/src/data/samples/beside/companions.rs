//! The files beside the images of a folder: metadata, and files that belong to a single image.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::data::folder::walk;
use crate::data::omitted::Tally;
use crate::data::samples::endings::TEXTS;
use crate::data::samples::key::composed;
use crate::data::samples::metadata::NAMES;
use crate::data::{DataError, ImageFolder};

/// File endings of tables.
const TABLES: [&str; 3] = ["csv", "tsv", "jsonl"];

/// The kind of a file beside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Txt,
    Text,
    Caption,
    Json,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Txt, Kind::Text, Kind::Caption, Kind::Json];
    /// The kinds that hold captions, in order of precedence.
    pub(super) const TEXTS: [Kind; 3] = [Kind::Txt, Kind::Text, Kind::Caption];

    /// The ending of such a file, matched in any case.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Kind::Txt => TEXTS[0],
            Kind::Text => TEXTS[1],
            Kind::Caption => TEXTS[2],
            Kind::Json => "json",
        }
    }

    /// The text file that a user names by its ending, as in tars.
    pub(super) fn of_text(name: &str) -> Option<Kind> {
        let ending = name.trim_start_matches('.');
        Kind::TEXTS.into_iter().find(|kind| ending.eq_ignore_ascii_case(kind.ending()))
    }
}

/// The files in a folder and below it.
#[derive(Debug)]
pub(super) struct Companions {
    /// The metadata files. Those in deeper folders come first.
    pub(super) metadata: Vec<PathBuf>,
    /// For each kind, from paths without their endings to the endings, in their original case.
    pub(super) files: [HashMap<PathBuf, OsString>; 4],
    /// Tables with other names, which may also describe the images.
    pub(super) tables: Tally,
    /// Files that are not in `files`, since only the case of their ending differs from that of
    /// another.
    pub(super) respelt: Tally,
}

impl Companions {
    pub(super) fn below(root: &Path) -> Companions {
        let (mut metadata, mut tables) = (vec![], Tally::default());
        let mut files: [HashMap<PathBuf, OsString>; 4] = Default::default();
        let mut others: Vec<PathBuf> = vec![];
        // Unreadable folders have already stopped the listing of the images.
        for entry in walk(root).filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
            if NAMES.iter().any(|name| entry.file_name() == *name) {
                metadata.push(entry.into_path());
                continue;
            }
            let Some(ending) = entry.path().extension() else { continue };
            if let Some(kind) = Kind::ALL.iter().find(|kind| ending.eq_ignore_ascii_case(kind.ending())) {
                let mut ending = ending.to_owned();
                match files[*kind as usize].entry(entry.path().with_extension("")) {
                    Entry::Vacant(place) => {
                        place.insert(ending);
                    }
                    // The smaller one is taken, since the order of a walk is the file system's.
                    Entry::Occupied(mut place) => {
                        if ending < *place.get() {
                            ending = place.insert(ending);
                        }
                        others.push(entry.path().with_extension(ending));
                    }
                }
            } else if TABLES.iter().any(|table| ending.eq_ignore_ascii_case(table)) {
                let path = entry.path();
                tables.add(1, || path.strip_prefix(root).unwrap_or(path).display().to_string());
            }
        }
        metadata.sort_by_key(|path| (std::cmp::Reverse(path.components().count()), path.clone()));
        others.sort();
        let mut respelt = Tally::default();
        for path in &others {
            respelt.add(1, || path.strip_prefix(root).unwrap_or(path).display().to_string());
        }
        Companions { metadata, files, tables, respelt }
    }
}

/// Images by name in composed form (NFC), since metadata and files beside the images may have been
/// named on another system.
pub(super) struct Spellings {
    names: HashMap<String, Vec<usize>>,
    /// The images by name without the ending.
    stems: HashMap<String, Vec<usize>>,
}

impl Spellings {
    pub(super) fn of(images: &ImageFolder) -> Spellings {
        let mut own = Spellings { names: HashMap::new(), stems: HashMap::new() };
        // ASCII names have only one spelling.
        for index in (0..images.len()).filter(|&index| !images.name(index).is_ascii()) {
            let name = composed(&images.name(index)).into_owned();
            let stem = Path::new(&name).with_extension("").to_string_lossy().into_owned();
            own.stems.entry(stem).or_default().push(index);
            own.names.entry(name).or_default().push(index);
        }
        own
    }

    /// The image whose name is another spelling of `name`.
    ///
    /// # Errors
    /// If there are several.
    pub(super) fn image(&self, name: &Path) -> Result<Option<usize>, DataError> {
        the_one(&self.names, name)
    }

    /// The image that a file belongs to; `stem` is the file's path without its ending.
    ///
    /// # Errors
    /// If there are several.
    pub(super) fn image_beside(&self, stem: &Path) -> Result<Option<usize>, DataError> {
        the_one(&self.stems, stem)
    }
}

fn the_one(images: &HashMap<String, Vec<usize>>, name: &Path) -> Result<Option<usize>, DataError> {
    let Some(text) = name.to_str().filter(|text| !text.is_ascii()) else { return Ok(None) };
    match images.get(composed(text).as_ref()).map(Vec::as_slice) {
        None => Ok(None),
        Some([one]) => Ok(Some(*one)),
        Some(several) => Err(DataError::Unclear(format!(
            "{text}: {} images are spelt like it, none of them the same way; rename all but one",
            several.len()
        ))),
    }
}
