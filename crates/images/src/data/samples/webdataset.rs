//! WebDataset: tars in which adjacent members with the same key form a sample.
//!
//! The key is a member's path up to the first dot of its base name. The rest is the ending, which
//! determines the member's role: see `endings`.

mod shard;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use rayon::prelude::*;

pub(in crate::data) use self::shard::{Located, Shard, no_image};
use super::endings::{Endings, Left};
use super::labels::{Labels, Survey};
use super::{DataError, Input, Sample, SampleStream, Selection, Share, fingerprint, key};
use crate::data::omitted::OmittedMembers;

/// The number of tars whose keys are in memory at a time.
const TARS_AT_A_TIME: usize = 64;

/// Tars, in order.
#[derive(Debug)]
pub(super) struct WebDataset {
    /// Those of the share.
    shards: Vec<PathBuf>,
    /// The number of all, if whole tars are dealt out.
    dealt: Option<usize>,
    fingerprint: String,
    endings: Arc<Endings>,
    labels: Labels,
    labels_used: Option<bool>,
    notes: Vec<String>,
    /// Whether each key begins with the name of its tar.
    prefixed: bool,
}

impl WebDataset {
    /// Reads the headers of all members of the tars of `share`, and the labels; those of the other
    /// tars only if the use of labels depends on them. They are read again for keys and samples,
    /// because keeping them would take a string per sample.
    pub(super) fn open(
        tars: Vec<PathBuf>,
        selection: &Selection,
        share: Share,
    ) -> Result<WebDataset, DataError> {
        let endings = Arc::new(Endings::of(selection));
        let (asked, classes) = (selection.label.is_some(), selection.classes.as_ref());
        let look_at = |tars: &[PathBuf]| {
            tars.par_iter().map(|path| Look::at(path, &endings)).reduce(Look::default, Look::and)
        };
        let own = share.of_list(&tars);
        let mut look = look_at(own.as_deref().unwrap_or(&tars));
        let lacks_texts = selection.text.is_some() && !look.has_texts;
        if own.is_some() && (lacks_texts || look.labels.needs_others(classes, asked)) {
            look = look_at(&tars);
        }
        let mut notes = look.omitted.words();
        notes.extend(look.left.in_words());
        if let (Some(ending), false) = (&selection.text, look.has_texts) {
            return Err(DataError::Unclear(format!("--text-column {ending}: no member has that ending")));
        }
        let has_labels = !look.labels.is_empty();
        let labels = look.labels.settle(&endings.labels(), None, classes, asked, &mut notes)?;
        let labels_used = has_labels.then(|| labels.are_taken());
        let (fingerprint, dealt) = (fingerprint(&tars)?, own.is_some().then_some(tars.len()));
        let shards = own.unwrap_or(tars);
        Ok(WebDataset { shards, dealt, fingerprint, endings, labels, labels_used, notes, prefixed: false })
    }

    /// All keys of a tar.
    fn keys_of(&self, path: &Path) -> Result<Vec<String>, DataError> {
        let (mut shard, mut keys) = (open_shard(path, &self.endings, self.prefixed)?, vec![]);
        let mut keep = |key: &str| {
            keys.push(key.to_owned());
            false
        };
        while shard.next(&self.labels, &mut keep)?.is_some() {}
        Ok(keys)
    }
}

/// What the headers and labels of tars show.
#[derive(Default)]
struct Look {
    labels: Survey,
    omitted: OmittedMembers,
    left: Left,
    has_texts: bool,
}

impl Look {
    /// Examines a tar as far as it can be read. Damage is reported later, when reading reaches it.
    fn at(path: &Path, endings: &Arc<Endings>) -> Look {
        let mut labels = Survey::default();
        let Ok(mut shard) = Shard::open(path, endings) else { return Look::default() };
        let tar = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        while let Ok(Some(located)) = shard.locate() {
            labels.add(located.label.as_ref(), || format!("{} in {tar}", located.name));
        }
        let Shard { members, left, has_texts, .. } = shard;
        Look { labels, omitted: members.omitted, left, has_texts }
    }

    /// Combines two results, `self` first.
    fn and(mut self, other: Look) -> Look {
        self.omitted.append(other.omitted);
        self.left.add(other.left);
        let has_texts = self.has_texts || other.has_texts;
        Look { labels: self.labels.and(other.labels), has_texts, ..self }
    }
}

/// Opens a tar. If `prefixed`, its keys begin with its name.
fn open_shard(path: &Path, endings: &Arc<Endings>, prefixed: bool) -> Result<Shard, DataError> {
    let mut shard = Shard::open(path, endings)?;
    if prefixed {
        let stem = key::readable(path.file_stem().unwrap_or_default().as_encoded_bytes());
        let stem = key::normalised(&stem)
            .map_err(|reason| key::refusal(path, "the file's name".to_owned(), &stem, reason))?;
        shard.prefix = stem + "/";
    }
    Ok(shard)
}

impl Input for WebDataset {
    fn kind(&self) -> &'static str {
        "webdataset"
    }

    fn classes(&self) -> &[String] {
        self.labels.classes()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        let shards = self.shards.clone().into_iter();
        let (endings, labels) = (Arc::clone(&self.endings), self.labels.clone());
        Ok(Box::new(Stream { shards, shard: None, endings, labels, prefixed: self.prefixed }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<(), DataError> {
        for tars in self.shards.chunks(TARS_AT_A_TIME) {
            let keys: Vec<Result<_, DataError>> = tars.par_iter().map(|tar| self.keys_of(tar)).collect();
            for (tar, keys) in tars.iter().zip(keys) {
                keys?.iter().for_each(|key| each(tar, key));
            }
        }
        Ok(())
    }

    fn prefix_keys(&mut self) -> bool {
        self.prefixed = true;
        true
    }

    fn files_of_share(&self) -> Option<[usize; 2]> {
        Some([self.shards.len(), self.dealt?])
    }

    fn labels_used(&self) -> Option<bool> {
        self.labels_used
    }
}

struct Stream {
    shards: vec::IntoIter<PathBuf>,
    /// The tar that is being read.
    shard: Option<Shard>,
    endings: Arc<Endings>,
    labels: Labels,
    prefixed: bool,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        loop {
            if let Some(shard) = &mut self.shard {
                if let Some(sample) = shard.next(&self.labels, wanted)? {
                    return Ok(Some(sample));
                }
                self.shard = None;
            }
            let Some(path) = self.shards.next() else { return Ok(None) };
            self.shard = Some(open_shard(&path, &self.endings, self.prefixed)?);
        }
    }
}

#[cfg(test)]
mod tests;
